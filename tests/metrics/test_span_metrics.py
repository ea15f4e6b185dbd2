"""The span scorer against hand arithmetic, against seqeval in both modes, and against resampling one by one."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import seqeval.metrics as seqeval
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.scheme import IOB2

from rlft_cli.data.conll import read_conll
from rlft_cli.errors import RlftError
from rlft_cli.metrics.bootstrap import weights
from rlft_cli.metrics.spans import score_spans, span_f1, spans
from rlft_cli.oracles.toys.tagged_output import INVALID, VALID, gold, output

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-a-b", "I-a-b"]
EXACT = 1e-12  # both sides are ratios of the same small integers

tag_pairs = st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from(TAGS)), max_size=8)
corpora = st.lists(tag_pairs, min_size=1, max_size=6)


def valid(tags: Sequence[str]) -> list[str]:
    """Make any tags valid BIO: an I- that continues nothing becomes B-."""
    fixed: list[str] = []
    for tag in tags:
        continues = bool(fixed) and fixed[-1] in (f"B-{tag[2:]}", f"I-{tag[2:]}")
        fixed.append(f"B-{tag[2:]}" if tag[0] == "I" and not continues else tag)
    return fixed


def random_tags(generator: np.random.Generator, sentences: int) -> list[list[str]]:
    return [generator.choice(TAGS, size=generator.integers(0, 12)).tolist() for _ in range(sentences)]


def assert_equals_seqeval(predictions: list[list[str]], references: list[list[str]]) -> None:
    ours = score_spans(predictions, references, seed=0, resamples=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # seqeval warns where it divides by zero
        for suffix, options in (("", {"mode": "strict", "scheme": IOB2}), ("_conlleval", {})):
            for name, theirs in (
                ("f1", seqeval.f1_score),
                ("precision", seqeval.precision_score),
                ("recall", seqeval.recall_score),
            ):
                expected = theirs(references, predictions, **options)
                assert ours[f"{name}{suffix}"]["value"] == pytest.approx(expected, abs=EXACT)
        by_type = seqeval.classification_report(references, predictions, mode="strict", scheme=IOB2, output_dict=True)
    for kind in by_type.keys() - {"micro avg", "macro avg", "weighted avg"}:
        assert ours[f"f1.{kind}"]["value"] == pytest.approx(by_type[kind]["f1-score"], abs=EXACT)
        assert ours[f"precision.{kind}"]["value"] == pytest.approx(by_type[kind]["precision"], abs=EXACT)
        assert ours[f"recall.{kind}"]["value"] == pytest.approx(by_type[kind]["recall"], abs=EXACT)
        assert ours[f"support.{kind}"]["value"] == by_type[kind]["support"]


def has_entity(rows: list[list[str]]) -> bool:
    return any(spans(tags) for tags in rows)


@settings(max_examples=150, deadline=None)
@given(corpora)
def test_equals_seqeval_on_any_tags(corpus: list[list[tuple[str, str]]]) -> None:
    predictions, references = [[p for p, _ in s] for s in corpus], [[r for _, r in s] for s in corpus]
    if has_entity(predictions) or has_entity(references):  # seqeval's report refuses a corpus without any
        assert_equals_seqeval(predictions, references)


@pytest.mark.parametrize("seed", range(5))
def test_equals_seqeval_on_random_corpora(seed: int) -> None:
    generator = np.random.default_rng(seed)
    references = random_tags(generator, 60)
    keep = [generator.random(len(tags)) < 0.7 for tags in references]
    other = [generator.choice(TAGS, size=len(tags)) for tags in references]
    predictions = [np.where(k, r, o).tolist() for k, r, o in zip(keep, references, other, strict=True)]
    assert_equals_seqeval(predictions, references)
    assert_equals_seqeval([valid(tags) for tags in predictions], [valid(tags) for tags in references])


@pytest.mark.parametrize(("faults", "valid_bio"), [(VALID, True), (INVALID, False), (VALID + INVALID, False)])
@pytest.mark.parametrize(("blank", "line_end"), [("\t", "\n"), (" ", "\r\n")])
def test_equals_seqeval_on_files_of_predictions(
    faults: tuple[Any, ...], valid_bio: bool, blank: str, line_end: str, tmp_path: Path
) -> None:
    """Word, reference and prediction by line, as a shared task is handed in: row 40 of METHODS 7.1."""
    path, predicted = tmp_path / "system.conll", output(faults, seed=4)
    blocks = [
        [f"w{n}{blank}{right}{blank}{given}" for n, (right, given) in enumerate(zip(*tags, strict=True))]
        for tags in zip(gold(), predicted, strict=True)
    ]
    path.write_bytes("".join(line_end.join([*lines, "", ""]) for lines in blocks).encode())
    references, predictions = ([row["tags"] for _, row in read_conll(path, 0, column).rows] for column in (1, 2))
    assert (references, predictions) == (gold(), predicted)
    assert (predictions == [valid(tags) for tags in predictions]) == valid_bio
    assert all(spans(tags) == spans(tags, "conlleval") for tags in predictions) == valid_bio
    assert_equals_seqeval(predictions, references)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(TAGS), max_size=12))
def test_modes_coincide_on_valid_bio(tags: list[str]) -> None:
    assert spans(valid(tags), "strict") == spans(valid(tags), "conlleval")


def test_lenient_scoring_hides_invalid_tags() -> None:
    # PAINS P2: conlleval repairs I-PER I-PER O I-LOC into the gold entities; IOB2 sees no entity at all.
    gold, predicted = ["B-PER", "I-PER", "O", "B-LOC"], ["I-PER", "I-PER", "O", "I-LOC"]
    metrics = score_spans([predicted], [gold], seed=0, resamples=10)
    assert metrics["f1_conlleval"]["value"] == 1.0
    assert metrics["f1"]["value"] == metrics["precision"]["value"] == metrics["recall"]["value"] == 0.0
    assert spans(predicted, "strict") == set()
    assert spans(gold) == {(0, 2, "PER"), (3, 4, "LOC")}


@pytest.mark.parametrize(
    ("tags", "strict", "conlleval"),
    [
        (["B-X", "I-Y", "I-Y"], {(0, 1, "X")}, {(0, 1, "X"), (1, 3, "Y")}),  # a change of type closes
        (["B-X", "B-X", "I-X"], {(0, 1, "X"), (1, 3, "X")}, {(0, 1, "X"), (1, 3, "X")}),
        (["I-X", "B-X", "I-X"], {(1, 3, "X")}, {(0, 1, "X"), (1, 3, "X")}),
        (["B-X", "O", "I-X"], {(0, 1, "X")}, {(0, 1, "X"), (2, 3, "X")}),
        (["O", "O"], set(), set()),
        ([], set(), set()),
    ],
)
def test_spans_by_hand(tags: list[str], strict: set[object], conlleval: set[object]) -> None:
    assert spans(tags, "strict") == strict
    assert spans(tags, "conlleval") == conlleval


def test_metrics_by_hand() -> None:
    gold = [["B-PER", "I-PER", "O"], ["B-LOC", "O"], ["O"]]
    predicted = [["B-PER", "I-PER", "O"], ["B-PER", "B-LOC"], ["O"]]
    # predicted 3 entities, 1 right, of 2: P 1/3, R 1/2, F1 2*1/(3+2); words 6, right 4; tagged words 4 and 3
    value = {name: metric["value"] for name, metric in score_spans(predicted, gold, seed=0, resamples=5).items()}
    assert value["precision"] == pytest.approx(1 / 3)
    assert value["recall"] == pytest.approx(1 / 2)
    assert value["f1"] == pytest.approx(2 / 5)
    assert value["f1.PER"] == pytest.approx(2 / 3)
    assert value["f1.LOC"] == 0.0
    assert value["token_accuracy"] == pytest.approx(4 / 6)
    assert value["predicted_entity_rate"] == pytest.approx(4 / 6)
    assert value["reference_entity_rate"] == pytest.approx(3 / 6)
    assert value["predicted_entities"] == pytest.approx(1.0)
    assert value["reference_entities"] == pytest.approx(2 / 3)
    assert value["support"] == 2
    assert value["support.LOC"] == 1


def test_nothing_to_find_is_zero_for_a_corpus_and_one_for_a_sentence() -> None:
    metrics = score_spans([["O", "O"]], [["O", "O"]], seed=0, resamples=5)
    assert metrics["f1"] == {"value": 0.0, "low": 0.0, "high": 0.0}  # seqeval and conlleval: anything over 0 is 0
    assert span_f1(set(), set()) == 1.0
    assert span_f1({(0, 1, "X")}, set()) == 0.0


def test_intervals_equal_resampling_sentence_by_sentence() -> None:
    generator = np.random.default_rng(7)
    references, predictions = random_tags(generator, 25), []
    for tags in references:
        predictions.append([tag if generator.random() < 0.6 else "O" for tag in tags])
    drawn = []
    for row in np.concatenate(list(weights(25, seed=3, resamples=40))).astype(int):
        chosen = np.repeat(np.arange(25), row)
        sample = score_spans([predictions[i] for i in chosen], [references[i] for i in chosen], seed=0, resamples=1)
        drawn.append(sample["f1"]["value"])
    low, high = np.quantile(drawn, [0.025, 0.975])
    metric = score_spans(predictions, references, seed=3, resamples=40)["f1"]
    assert metric["low"] == pytest.approx(low, abs=EXACT)
    assert metric["high"] == pytest.approx(high, abs=EXACT)
    assert all(type(number) is float for number in metric.values())


def test_a_lost_word_is_refused_with_its_sentence() -> None:
    with pytest.raises(RlftError, match="sentence 1: 1 predicted tags for 2 words"):
        score_spans([["O"], ["O"]], [["O"], ["O", "B-X"]], seed=0, resamples=1)
    with pytest.raises(RlftError, match="1 predicted sentences for 2"):
        score_spans([["O"]], [["O"], ["O"]], seed=0, resamples=1)


@pytest.mark.parametrize("tag", ["PER", "B", "I-", "E-PER", "", "o", "O-X"])
def test_a_tag_that_is_not_bio_is_refused(tag: str) -> None:
    with pytest.raises(RlftError, match="not a BIO tag"):
        spans([tag])


@pytest.mark.slow
def test_a_large_split_takes_seconds() -> None:
    generator = np.random.default_rng(0)
    references = [generator.choice(TAGS, size=15).tolist() for _ in range(13_000)]
    begin = time.process_time()
    score_spans(references, references, seed=0, resamples=1000)
    assert time.process_time() - begin < 8  # about 1.5 s; room for a slow machine


@pytest.mark.skipif("RLFT_DATA" not in os.environ, reason="RLFT_DATA names no data folder")
def test_equals_seqeval_on_wnut17() -> None:
    text = (Path(os.environ["RLFT_DATA"]) / "wnut17" / "test.conll").read_text(encoding="utf-8")
    sentences = [block.splitlines() for block in text.split("\n\n") if block.strip()]
    references = [[line.split("\t")[-1].strip() for line in lines if line.strip()] for lines in sentences]
    generator = np.random.default_rng(0)
    names = sorted({tag for tags in references for tag in tags})
    predictions = [[t if generator.random() < 0.9 else str(generator.choice(names)) for t in s] for s in references]
    assert sum(map(len, references)) == 23_394
    assert sum(len(spans(tags)) for tags in references) == 1_079
    assert_equals_seqeval(predictions, references)
