"""Text metrics against sacrebleu, rouge-score and hand arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from rlft_cli.errors import RlftError
from rlft_cli.metrics.bootstrap import weights
from rlft_cli.metrics.text import Language, score_text, sentence_bleu, sentence_chrf, sentence_rouge_l, signatures

EXACT = 1e-9  # sums of the same integers, in another order of operations
WORDS = "a large coffee , please . I'd like the small one with milk and sugar Café OK ? yes no".split()
HANZI = [*"我想要一杯大的咖啡请不加糖谢谢。好的OK3,", " "]


def corpus(language: Language, seed: int, size: int = 30) -> tuple[list[str], list[str]]:
    generator = np.random.default_rng(seed)
    units, glue = (WORDS, " ") if language == "en" else (HANZI, "")
    predictions, references = [], []
    for _ in range(size):
        reference = generator.choice(units, size=generator.integers(1, 14))
        other = generator.choice(units, size=len(reference))
        prediction = np.where(generator.random(len(reference)) < 0.7, reference, other)
        references.append(glue.join(reference))
        predictions.append(glue.join(prediction[: generator.integers(0, len(reference) + 1)]))
    return predictions, references


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("seed", range(4))
def test_corpus_scores_equal_the_libraries(language: Language, seed: int) -> None:
    predictions, references = corpus(language, seed)
    ours = score_text(predictions, references, 0, 2, language)
    bleu = BLEU(tokenize="zh" if language == "zh" else "13a").corpus_score(predictions, [references])
    assert ours["bleu"]["value"] == pytest.approx(bleu.score, abs=EXACT)
    assert ours["chrf"]["value"] == pytest.approx(CHRF().corpus_score(predictions, [references]).score, abs=EXACT)
    if language == "en":
        scorer = RougeScorer(["rougeL"])
        each = [scorer.score(r, p)["rougeL"].fmeasure for p, r in zip(predictions, references, strict=True)]
        assert ours["rouge_l"]["value"] == pytest.approx(np.mean(each), abs=EXACT)


def test_intervals_equal_scoring_each_resample() -> None:
    predictions, references = corpus("en", 9, size=12)
    bleu, chrf = [], []
    for row in np.concatenate(list(weights(12, seed=2, resamples=30))).astype(int):
        chosen = np.repeat(np.arange(12), row)
        sample = [predictions[i] for i in chosen], [[references[i] for i in chosen]]
        bleu.append(BLEU().corpus_score(*sample).score)
        chrf.append(CHRF().corpus_score(*sample).score)
    ours = score_text(predictions, references, 2, 30)
    for name, drawn in (("bleu", bleu), ("chrf", chrf)):
        assert [ours[name]["low"], ours[name]["high"]] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=EXACT)


def test_replies_without_a_common_ngram_score_zero() -> None:
    ours = score_text(["xyz", ""], ["", "hello"], 0, 5)
    assert ours["bleu"]["value"] == ours["chrf"]["value"] == ours["rouge_l"]["value"] == 0.0


def test_distinct_and_length_by_hand() -> None:
    # unigrams the cat the dog the cat: 6, different 3; bigrams the-cat | the-dog | the-cat: 3, different 2
    ours = score_text(["the cat", "the dog", "the cat"], ["a b c", "a", "a b"], 0, 200)
    assert ours["distinct_1"]["value"] == 3 / 6
    assert ours["distinct_2"]["value"] == 2 / 3
    assert ours["distinct_2"]["low"] <= 2 / 3 <= ours["distinct_2"]["high"]
    assert ours["reply_length"]["value"] == 2.0
    assert ours["reference_length"]["value"] == 2.0
    chinese = score_text(["咖啡 咖"], ["大咖啡"], 0, 5, "zh")
    assert chinese["reply_length"]["value"] == 3.0
    assert chinese["distinct_1"]["value"] == pytest.approx(2 / 3)
    assert score_text([""], ["x"], 0, 5)["distinct_2"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_distinct_interval_is_about_the_value() -> None:
    predictions, references = corpus("en", 1, size=200)
    metric = score_text(predictions, references, 0, 300)["distinct_2"]
    assert metric["low"] < metric["value"] < metric["high"]  # the plain percentile interval would lie below it


def test_sentence_scores() -> None:
    # LCS of "a b c d" and "a x c": a c, so P 2/3, R 2/4, F 2PR/(P+R) = 4/7
    assert sentence_rouge_l("a x c", "a b c d", "en") == pytest.approx(4 / 7)
    # characters 咖啡 of 大咖啡: P 1, R 2/3, F 4/5; the English tokenizer sees no word at all
    assert sentence_rouge_l("咖啡", "大咖啡", "zh") == pytest.approx(4 / 5)
    assert sentence_rouge_l("咖啡", "大咖啡", "en") == 0.0
    # BLEU, lengths 3 and 3, a b x: p1 2/3, p2 1/2, p3 0/1 smoothed to 1/2; effective order 3: (1/6)^(1/3)
    assert sentence_bleu("a b x", "a b c", "en") == pytest.approx((1 / 6) ** (1 / 3))
    # chrF of b to ab: order 1 alone on both sides: P 1, R 1/2, F2 = 5 * 1/2 / (4 * 1 + 1/2)
    assert sentence_chrf("b", "ab", 0) == pytest.approx(2.5 / 4.5)
    for score in (sentence_bleu("yes please", "yes please", "en"), sentence_chrf("yes please", "yes please", 2)):
        assert score == pytest.approx(1.0) and score <= 1.0


def test_signatures_name_version_and_tokenizer() -> None:
    english, chinese = signatures("en"), signatures("zh")
    assert english["bleu"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert "tok:zh" in chinese["bleu"]
    assert english["chrf"].startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:")
    assert "tok:char" in chinese["rouge_l"]


def test_bad_input_is_refused() -> None:
    with pytest.raises(RlftError, match="1 predicted replies for 2"):
        score_text(["a"], ["a", "b"], 0, 10)
    with pytest.raises(RlftError, match="0 replies"):
        score_text([], [], 0, 10)
