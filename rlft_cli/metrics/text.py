"""How good written texts are: BLEU, chrF, ROUGE, distinct-n, repetition, length; for a corpus and for one text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.helpers import extract_all_char_ngrams

from rlft_cli.errors import RlftError
from rlft_cli.metrics.bootstrap import (
    Floats,
    Interval,
    bootstrap,
    bootstrap_mean,
    interval,
    paired_difference,
    ratio,
    weights,
)
from rlft_cli.metrics.paired import paired_bootstrap

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer

Language = Literal["en", "zh"]

_BLEU_ORDER = 4
_CHRF_ORDER, _CHRF_BETA = 6, 2
_REPEATED_ORDER = 4
_ZH_TOKEN = re.compile(r"[a-z0-9]+|[^\W_]")  # runs of Latin letters and digits, every other letter by itself


class _Characters:
    """Tokenizer for Chinese: each character a token, Latin words and numbers whole, punctuation left out."""

    def tokenize(self, text: str) -> list[str]:
        return chinese_tokens(text)


def chinese_tokens(text: str) -> list[str]:
    """Each character a token, Latin words and numbers whole and in lower case, punctuation left out."""
    return _ZH_TOKEN.findall(text.lower())


@cache
def _bleu(language: Language, sentence: bool) -> BLEU:
    """Build sacrebleu's BLEU with exponential smoothing; effective order (short replies) for sentences only."""
    tokenizer = "zh" if language == "zh" else "13a"
    return BLEU(tokenize=tokenizer, smooth_method="exp", effective_order=sentence, force=True)


@cache
def _chrf(word_order: int) -> CHRF:
    """Build sacrebleu's chrF; word_order 2 is chrF++."""
    return CHRF(char_order=_CHRF_ORDER, word_order=word_order, beta=_CHRF_BETA)


@cache
def _rouge(language: Language, kind: str) -> RougeScorer:
    """Build the scorer of one kind of ROUGE, without stemming."""
    from rouge_score.rouge_scorer import RougeScorer  # here, since it takes seconds to import (nltk)

    return RougeScorer([kind], use_stemmer=False, tokenizer=_Characters() if language == "zh" else None)


def sentence_bleu(prediction: str, reference: str, language: Language) -> float:
    """BLEU of one reply in [0, 1]: sacrebleu, smoothing exp, effective order (Papineni et al. 2002)."""
    score = _bleu(language, sentence=True).sentence_score(prediction, [reference]).score
    return min(1.0, score / 100)  # exp(log) of a perfect reply is a hair above 100


def sentence_chrf(prediction: str, reference: str, word_order: int) -> float:
    """chrF2 of one reply in [0, 1], character order 6 (Popovic 2015); ``word_order`` 2 is chrF2++."""
    return min(1.0, float(_chrf(word_order).sentence_score(prediction, [reference]).score) / 100)


def sentence_rouge_l(prediction: str, reference: str, language: Language) -> float:
    """F-measure of the longest common subsequence in [0, 1] (Lin 2004, eq. 2-4 with beta 1), no stemming."""
    return _rouge_f(prediction, reference, language, "rougeL")


def _rouge_f(prediction: str, reference: str, language: Language, kind: str) -> float:
    return float(_rouge(language, kind).score(reference, prediction)[kind].fmeasure)


def signatures(language: Language) -> dict[str, str]:
    """Say how bleu, chrf and rouge_l are computed, in one line each, to stand beside every report."""
    found = {}
    for name, metric in (("bleu", _bleu(language, sentence=False)), ("chrf", _chrf(0))):
        metric.corpus_score(["a"], [["a"]])  # sacrebleu knows the number of references only after a corpus
        found[name] = metric.get_signature().format()
    return found | {"rouge_l": _rouge_signature(language, "rougeL")}


def rouge_signatures(language: Language) -> dict[str, str]:
    """Say how rouge_1 and rouge_2 are computed."""
    return {f"rouge_{n}": _rouge_signature(language, f"rouge{n}") for n in (1, 2)}


def _rouge_signature(language: Language, kind: str) -> str:
    return f"{kind}|f:mean|stem:no|tok:{'char' if language == 'zh' else 'default'}|version:{version('rouge-score')}"


def score_text(
    predictions: Sequence[str], references: Sequence[str], seed: int, resamples: int, language: Language = "en"
) -> dict[str, Interval]:
    """Metrics of replies against one reference each, with 95 % bootstrap intervals over replies.

    bleu and chrf are corpus scores in [0, 100] as sacrebleu prints them (``signatures``), resampled through their
    per-reply counts. rouge_l is the mean of the replies' F-measures in [0, 1]. distinct_1 and distinct_2 are the share
    of different n-grams among all n-grams of all replies in [0, 1] (Li et al. 2016), comparable only between systems
    that answered as many prompts. repetition is the mean share of a reply's 4-grams that it had before, in [0, 1]:
    1 - different / all (seq-rep-4, Welleck et al. 2020). reply_length and reference_length are means in tokens, by
    whitespace for "en" and in characters for "zh". Raises RlftError for unequal lengths and without examples.
    """
    require_pairs(predictions, references)
    pairs = list(zip(predictions, references, strict=True))
    bleu_counts = np.array([_bleu_counts(p, r, language) for p, r in pairs], dtype=np.float64)
    chrf_counts = np.array([_chrf_counts(p, r) for p, r in pairs], dtype=np.float64)
    rouge = [sentence_rouge_l(p, r, language) for p, r in pairs]
    replies = [_tokens(text, language) for text in predictions]
    return {
        **bootstrap(bleu_counts, _corpus_bleu, seed, resamples),
        **bootstrap(chrf_counts, _corpus_chrf, seed, resamples),
        "rouge_l": bootstrap_mean(rouge, seed, resamples),
        "distinct_1": interval(*_distinct(replies, 1, seed, resamples)),
        "distinct_2": interval(*_distinct(replies, 2, seed, resamples)),
        "repetition": bootstrap_mean([repetition(tokens) for tokens in replies], seed, resamples),
        "reply_length": bootstrap_mean([len(tokens) for tokens in replies], seed, resamples),
        "reference_length": bootstrap_mean([len(_tokens(r, language)) for r in references], seed, resamples),
    }


def score_rouge(
    predictions: Sequence[str], references: Sequence[str], seed: int, resamples: int, language: Language
) -> dict[str, Interval]:
    """rouge_1 and rouge_2 (Lin 2004): means of the F-measures of n-gram overlap in [0, 1], with 95 % intervals."""
    require_pairs(predictions, references)
    return {
        name: bootstrap_mean(each, seed, resamples) for name, each in _rouges(predictions, references, language).items()
    }


def compare_rouge(
    ours: Sequence[str], theirs: Sequence[str], references: Sequence[str], seed: int, resamples: int, language: Language
) -> dict[str, Interval]:
    """Differences, ours minus theirs, of the metrics of ``score_rouge`` with paired 95 % bootstrap intervals."""
    mine, other = (_rouges(texts, references, language) for texts in (ours, theirs))
    return {name: paired_difference(mine[name], other[name], seed, resamples) for name in mine}


def _rouges(predictions: Sequence[str], references: Sequence[str], language: Language) -> dict[str, list[float]]:
    pairs = list(zip(predictions, references, strict=True))
    return {f"rouge_{n}": [_rouge_f(p, r, language, f"rouge{n}") for p, r in pairs] for n in (1, 2)}


def require_pairs(predictions: Sequence[str], references: Sequence[str]) -> None:
    """RlftError for unequal lengths and without examples."""
    if len(predictions) != len(references):
        raise RlftError(f"{len(predictions)} predicted replies for {len(references)} reference replies")
    if not predictions:
        raise RlftError("nothing to score: 0 replies were given, at least 1 was expected; is the split empty?")


def repetition(tokens: Sequence[str]) -> float:
    """Share of the 4-grams of one text that stand in it before: 1 - different / all; 0 where there is none."""
    grams = [tuple(tokens[i : i + _REPEATED_ORDER]) for i in range(len(tokens) - _REPEATED_ORDER + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def compare_text(
    ours: Sequence[str],
    theirs: Sequence[str],
    references: Sequence[str],
    seed: int,
    resamples: int,
    language: Language = "en",
) -> dict[str, Interval]:
    """Differences, ours minus theirs, of the metrics of ``score_text`` with paired 95 % bootstrap intervals.

    RlftError unless there are as many replies of either system as references.
    """
    if not len(ours) == len(theirs) == len(references):
        raise RlftError(f"{len(ours)} and {len(theirs)} replies to compare for {len(references)} reference replies")
    both = [list(zip(replies, references, strict=True)) for replies in (ours, theirs)]
    bleu = [np.array([_bleu_counts(p, r, language) for p, r in pairs], dtype=np.float64) for pairs in both]
    chrf = [np.array([_chrf_counts(p, r) for p, r in pairs], dtype=np.float64) for pairs in both]
    rouge = [[sentence_rouge_l(p, r, language) for p, r in pairs] for pairs in both]
    split = [[_tokens(text, language) for text in replies] for replies in (ours, theirs)]
    repeated = [[repetition(tokens) for tokens in replies] for replies in split]
    lengths = [[len(tokens) for tokens in replies] for replies in split]
    found = {
        **paired_bootstrap(bleu[0], bleu[1], _corpus_bleu, seed, resamples),
        **paired_bootstrap(chrf[0], chrf[1], _corpus_chrf, seed, resamples),
        "rouge_l": paired_difference(rouge[0], rouge[1], seed, resamples),
    }
    for order in (1, 2):
        (mine, mine_drawn), (other, other_drawn) = (_distinct(replies, order, seed, resamples) for replies in split)
        found[f"distinct_{order}"] = interval(mine - other, mine_drawn - other_drawn)
    return {
        **found,
        "repetition": paired_difference(repeated[0], repeated[1], seed, resamples),
        "reply_length": paired_difference(lengths[0], lengths[1], seed, resamples),
    }


def _tokens(text: str, language: Language) -> list[str]:
    """Split by whitespace, or for Chinese into characters other than whitespace."""
    return text.split() if language == "en" else list("".join(text.split()))


def _bleu_counts(prediction: str, reference: str, language: Language) -> list[int]:
    """Count of one reply: its length, the reference's, n-grams matched and n-grams in all, n = 1..4: [10]."""
    score = _bleu(language, sentence=False).corpus_score([prediction], [[reference]])
    return [score.sys_len, score.ref_len, *score.counts, *score.totals]


def _corpus_bleu(totals: Floats) -> dict[str, Floats]:
    """Corpus BLEU [R] in [0, 100] from summed counts [R, 10]."""
    scores = []
    for sys_len, ref_len, *rest in totals.astype(np.int64).tolist():
        score = BLEU.compute_bleu(
            rest[:_BLEU_ORDER], rest[_BLEU_ORDER:], sys_len, ref_len, smooth_method="exp", max_ngram_order=_BLEU_ORDER
        )
        scores.append(score.score)
    return {"bleu": np.array(scores, dtype=np.float64)}


def _chrf_counts(prediction: str, reference: str) -> list[int]:
    """Count of one reply: for n = 1..6 its character n-grams, the reference's, and those in both: [18]."""
    counts: list[int] = []
    ngrams = (extract_all_char_ngrams(text, _CHRF_ORDER) for text in (prediction, reference))
    for mine, other in zip(*ngrams, strict=True):
        # sacrebleu counts no n-grams of the reply where the reference has none of that order
        counts += [mine.total() if other else 0, other.total(), (mine & other).total()]
    return counts


def _corpus_chrf(totals: Floats) -> dict[str, Floats]:
    """Corpus chrF2 [R] in [0, 100] from summed counts [R, 18], as sacrebleu's CHRF(), but for all resamples at once.

    (1 + b^2) P R / (b^2 P + R), b = 2, P and R averaged over the orders that both sides have (Popovic 2015, eq. 1).
    """
    mine, other, both = totals.reshape(len(totals), _CHRF_ORDER, 3).transpose(2, 0, 1)  # each [R, 6]
    counted = (mine > 0) & (other > 0)
    orders = counted.sum(axis=1).astype(np.float64)
    precision = ratio((ratio(both, mine) * counted).sum(axis=1), orders)
    recall = ratio((ratio(both, other) * counted).sum(axis=1), orders)
    factor = float(_CHRF_BETA**2)
    return {"chrf": 100 * ratio((1 + factor) * precision * recall, factor * precision + recall)}


def _distinct(replies: Sequence[Sequence[str]], order: int, seed: int, resamples: int) -> tuple[float, Floats]:
    """distinct-n = different n-grams / n-grams, over all replies, and centred resampled values [R].

    A resample repeats replies, which adds n-grams but none that is new, so its distinct-n is too low throughout. What is
    taken from the resamples is therefore their spread and not their level: value + (drawn - mean drawn).
    """
    grams = [tuple(reply[i : i + order]) for reply in replies for i in range(len(reply) - order + 1)]
    sizes = np.array([max(0, len(reply) - order + 1) for reply in replies])
    if not grams:
        return 0.0, np.zeros(resamples)
    place = {gram: n for n, gram in enumerate(dict.fromkeys(grams))}
    ids = np.fromiter((place[gram] for gram in grams), dtype=np.int64, count=len(grams))
    owner = np.repeat(np.arange(len(replies)), sizes)
    drawn = []
    for chunk in weights(len(replies), seed, resamples):
        for row in chunk:
            present = np.zeros(len(place), dtype=bool)
            present[ids[row[owner] > 0]] = True
            drawn.append(np.array([present.sum() / max(1.0, row @ sizes)]))
    resampled = np.concatenate(drawn)
    value = len(place) / len(grams)
    return value, np.clip(value + (resampled - resampled.mean()), 0.0, 1.0)
