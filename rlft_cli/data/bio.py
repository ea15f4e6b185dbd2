"""Tag schemes: which one a file uses, and what each tag is in BIO.

Whether a tag is legal, and what it becomes, depends on the tag before it alone; so everything here works on the
counted pairs (previous tag, tag) of a file, the first word's previous tag being "O".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

Scheme = Literal["BIO", "IOB1", "BIOES"]
Pair = tuple[str, str]

_TAG = re.compile(r"O|[BIESLUM]-.+", re.DOTALL)
_ENDS = frozenset("ESLU")  # an entity is over after these: BIOES and BMES have E, S; BILOU has L, U
_SINGLE = frozenset("SU")
_INSIDE = frozenset("IELM")


def is_tag(tag: str) -> bool:
    """Say whether a string is O or has a prefix of a known scheme (B, I, and E, S, L, U, M)."""
    return _TAG.fullmatch(tag) is not None


def pairs_in(tags: Sequence[str]) -> Iterable[Pair]:
    """Each tag with the one before it."""
    return zip(("O", *tags), tags, strict=False)  # the last tag comes before none


def pairs_of(sentences: Iterable[Sequence[str]]) -> Counter[Pair]:
    """Count (previous tag, tag) over sentences."""
    counts: Counter[Pair] = Counter()
    for tags in sentences:
        counts.update(pairs_in(tags))
    return counts


def scheme_of(pairs: Iterable[Pair]) -> Scheme:
    """Recognise the scheme: BIOES (also BILOU, BMES), IOB1, or BIO.

    IOB1 (Ramshaw & Marcus 1995) writes B- only where an entity follows one of its own type. So a file is IOB1 if
    some entity starts with I- and none with B- elsewhere; a file with both kinds of start is BIO with faults.
    """
    found = list(pairs)
    if any(tag[0] in "ESLUM" for _, tag in found if tag != "O"):
        return "BIOES"
    starts_with_i = any(tag[0] == "I" and before[2:] != tag[2:] for before, tag in found)
    starts_with_b = any(tag[0] == "B" and before[2:] != tag[2:] for before, tag in found)
    return "IOB1" if starts_with_i and not starts_with_b else "BIO"


def is_invalid(pair: Pair, scheme: Scheme) -> bool:
    """Say whether a tag continues an entity that the tag before it has not left open."""
    before, tag = pair
    if scheme == "IOB1" or tag[0] not in _INSIDE:
        return False
    return before[2:] != tag[2:] or before == "O" or before[0] in _ENDS


def to_bio(pair: Pair, scheme: Scheme) -> str:
    """Give the BIO tag; an invalid continuation starts an entity of its own (B-)."""
    before, tag = pair
    if tag == "O":
        return tag
    if tag[0] == "B" or tag[0] in _SINGLE or is_invalid(pair, scheme):
        return "B" + tag[1:]
    if scheme == "IOB1" and before[2:] != tag[2:]:
        return "B" + tag[1:]
    return "I" + tag[1:]


def convert(tags: Sequence[str], table: dict[Pair, str]) -> list[str]:
    """Rewrite one sentence with a table from ``to_bio``."""
    return [table[pair] for pair in pairs_in(tags)]
