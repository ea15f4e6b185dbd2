"""The span scorer against seqeval in both of its modes (METHODS 7.1, row 40, on made outputs instead of submissions)."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB2, Entities

from rlft_cli.metrics.bootstrap import Interval
from rlft_cli.metrics.spans import Mode, Span, score_spans, spans
from rlft_cli.oracles import Oracle
from rlft_cli.oracles.toys.tagged_output import INVALID, VALID, gold, output

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
SENTENCES = 500


def _sentences() -> list[list[str]]:
    chance = random.Random(91)
    return [chance.choices(TAGS, k=chance.randint(0, 9)) for _ in range(SENTENCES)]


def _strict(find: Callable[[list[str], Mode], set[Span]]) -> float:
    """Sentences in which the entities differ from seqeval's mode="strict", scheme=IOB2."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = Entities(_sentences(), IOB2).entities
    ours = [find(tags, "strict") for tags in _sentences()]
    pairs = zip(ours, theirs, strict=True)
    return float(sum(mine != {(one.start, one.end, one.tag) for one in other} for mine, other in pairs))


def _conlleval(find: Callable[[list[str], Mode], set[Span]]) -> float:
    """Sentences in which the entities differ from seqeval's default mode, which is that of conlleval."""
    rows = _sentences()
    theirs = [{(start, end + 1, kind) for kind, start, end in get_entities(tags)} for tags in rows]
    return float(sum(find(tags, "conlleval") != other for tags, other in zip(rows, theirs, strict=True)))


def _scores(score: Callable[[Sequence[list[str]], Sequence[list[str]], int, int], dict[str, Interval]]) -> float:
    """Largest distance from seqeval's corpus F1, precision and recall, of four taggers and in both modes."""
    modes: list[tuple[str, dict[str, Any]]] = [("", {"mode": "strict", "scheme": IOB2}), ("_conlleval", {})]
    worst = 0.0
    for seed, faults in enumerate((VALID, INVALID, VALID + INVALID, ())):
        found = output(faults, seed, part=0.4 if faults else 0.0)
        ours = score(found, gold(), 0, 1)
        for suffix, options in modes:
            theirs = _seqeval(found, options)
            for name, value in zip(("precision", "recall", "f1"), theirs, strict=True):
                worst = max(worst, abs(ours[f"{name}{suffix}"]["value"] - value))
    return worst


def _seqeval(found: list[list[str]], options: dict[str, Any]) -> list[float]:
    """Micro precision, recall and F1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [float(measure(gold(), found, **options)) for measure in (precision_score, recall_score, f1_score)]


ORACLES = (
    Oracle(
        name="spans_strict",
        row=40,
        object="entities of 500 random tag sequences, strict",
        oracle="seqeval, mode strict, IOB2: sentences that differ",
        tolerance=0.0,
        subject=spans,
        distance=_strict,
    ),
    Oracle(
        name="spans_conlleval",
        row=40,
        object="entities of 500 random tag sequences, conlleval",
        oracle="seqeval, default mode: sentences that differ",
        tolerance=0.0,
        subject=spans,
        distance=_conlleval,
    ),
    Oracle(
        name="span_scores",
        row=40,
        object="corpus F1, precision, recall of four made taggers on the sample",
        oracle="seqeval, both modes",
        tolerance=1e-12,
        subject=score_spans,
        distance=_scores,
    ),
)
