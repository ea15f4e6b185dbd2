"""The span scorer against seqeval in both of its modes (METHODS 7.1, row 40, on random tags instead of submissions)."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable

from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB2, Entities

from rlft_cli.metrics.spans import Mode, Span, spans
from rlft_cli.oracles import Oracle

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
)
