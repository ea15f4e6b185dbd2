"""What taggers of many kinds would give for real sentences: the packaged sample with the faults that taggers make."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

import rlft_cli.data
from rlft_cli.data.conll import read_conll
from rlft_cli.metrics.spans import spans

Fault = Callable[[list[str], tuple[int, int, str], random.Random], None]  # changes the tags at one entity, in place
SAMPLE = Path(rlft_cli.data.__file__).parent / "samples" / "ner" / "test.conll"
KINDS = ("LOC", "MISC", "ORG", "PER")


def tag(tags: list[str], start: int, end: int, kind: str) -> None:
    """Write an entity."""
    tags[start:end] = [f"B-{kind}", *[f"I-{kind}"] * (end - start - 1)]


def missed(tags: list[str], entity: tuple[int, int, str], chance: random.Random) -> None:
    """The entity is not found; another one is invented elsewhere."""
    start, end, kind = entity
    tags[start:end] = ["O"] * (end - start)
    at = chance.randrange(len(tags))
    if tags[at] == "O" and (at + 1 == len(tags) or tags[at + 1][0] != "I"):
        tags[at] = f"B-{kind}"


def other_type(tags: list[str], entity: tuple[int, int, str], chance: random.Random) -> None:
    """Right words, another type."""
    start, end, _ = entity
    tag(tags, start, end, chance.choice(KINDS))


def other_boundary(tags: list[str], entity: tuple[int, int, str], chance: random.Random) -> None:
    """One word too few or too many at the end; valid."""
    start, end, kind = entity
    if end - start > 1 and chance.random() < 0.5:
        tags[end - 1] = "O"
    elif end < len(tags) and tags[end] == "O":
        tag(tags, start, end + 1, kind)


def split(tags: list[str], entity: tuple[int, int, str], chance: random.Random) -> None:
    """Every word an entity of its own; valid."""
    start, end, kind = entity
    tags[start:end] = [f"B-{kind}"] * (end - start)


def headless(tags: list[str], entity: tuple[int, int, str], chance: random.Random) -> None:
    """The first word is an I- (as in IOB1), or is not found while the others are; invalid."""
    start, _, kind = entity
    tags[start] = chance.choice(["O", f"I-{kind}"])


def torn(tags: list[str], entity: tuple[int, int, str], chance: random.Random) -> None:
    """The type changes within the entity, or an I- runs on beyond a word that is O; invalid."""
    _, end, kind = entity
    tags[end - 1] = f"I-{chance.choice(KINDS)}"
    if end + 1 < len(tags) and tags[end : end + 2] == ["O", "O"]:
        tags[end + 1] = f"I-{kind}"


VALID: tuple[Fault, ...] = (missed, other_type, other_boundary, split)
INVALID: tuple[Fault, ...] = (headless, torn)


@cache
def gold() -> list[list[str]]:
    """Tags of the sample's test sentences."""
    return [list(row["tags"]) for _, row in read_conll(SAMPLE, None, None).rows]


def output(faults: tuple[Fault, ...], seed: int, part: float = 0.4) -> list[list[str]]:
    """Tags for every sentence in which this part of the entities has one of the faults."""
    chance = random.Random(seed)
    found = []
    for right in gold():
        tags = list(right)
        for entity in sorted(spans(right), reverse=True):  # from the end: a fault may reach into what follows
            if chance.random() < part:
                chance.choice(faults)(tags, entity, chance)
        found.append(tags)
    return found
