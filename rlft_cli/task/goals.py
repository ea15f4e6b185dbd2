"""Users of a goal-oriented dialogue: goals from data, and all that chance will do to them, drawn before they speak."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from rlft_cli.errors import RlftError

ANY, EMPTY = -1, -2  # in the place of a value: no preference; nothing heard
Row = dict[str, Any]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]


class Kind(IntEnum):
    """What a system act does."""

    REQUEST = 0  # ask for the value of a slot
    CONFIRM = 1  # ask whether the value that was understood is right
    ANSWER = 2  # tell a property of what is on offer
    OFFER = 3  # look for something that fits what was understood, and offer it
    REPEAT = 4  # ask the user to say it again
    CLOSE = 5  # book what is on offer and end the dialogue


class Chance(IntEnum):
    """Columns of the numbers in [0, 1) that are drawn for each turn of a user."""

    VOLUNTEER = 0
    MOVE_WRONG = 1
    MOVE_LOST = 2
    MOVE_OTHER = 3
    MOVE_TRUST = 4
    FIRST_WRONG = 5  # of the first value that is told; the second's are four further on
    FIRST_LOST = 6
    FIRST_OTHER = 7
    FIRST_TRUST = 8


DRAWS = 13


@dataclass(frozen=True, kw_only=True)
class Acts:
    """The system's acts, S slots that a goal may fix and R properties that may be asked for; names as in ``labels``."""

    slots: list[str]  # the most frequent in training goals first
    properties: list[str]

    @property
    def labels(self) -> list[str]:
        """request(s), confirm(s) and answer(r) of each slot and property, then offer(), repeat() and close()."""
        told = [f"{kind}({slot})" for kind in ("request", "confirm") for slot in self.slots]
        return told + [f"answer({name})" for name in self.properties] + ["offer()", "repeat()", "close()"]

    @staticmethod
    def of(labels: Sequence[str]) -> Acts:
        """Read slots and properties back from the names of the actions."""
        inner = {
            kind: [name[len(kind) + 1 : -1] for name in labels if name.startswith(f"{kind}(")]
            for kind in ("request", "answer")
        }
        return Acts(slots=inner["request"], properties=inner["answer"])

    def table(self) -> Ints:
        """Kind, slot and property of every act [A, 3]; 0 where an act has none."""
        s, r = len(self.slots), len(self.properties)
        rows = [(Kind.REQUEST, n, 0) for n in range(s)] + [(Kind.CONFIRM, n, 0) for n in range(s)]
        rows += [(Kind.ANSWER, 0, n) for n in range(r)]
        rows += [(kind, 0, 0) for kind in (Kind.OFFER, Kind.REPEAT, Kind.CLOSE)]
        return np.array(rows, dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class Difficulty:
    """How hard the users make it."""

    max_turns: int
    error_rate: float
    volunteer: float
    unavailable: float
    change: float
    patience_min: int
    patience_max: int


@dataclass(frozen=True, kw_only=True)
class Users:
    """E users: what each wants, and what chance will do, so that a dialogue is a function of the system's acts alone."""

    want: Ints  # [E, S] number of the value, ANY for no preference
    rank: Ints  # [E, S] place of a slot in the order in which its user thinks of them
    wish: Bools  # [E, R] properties that will be asked for
    values: Ints  # [E, S] how many values the slot has in the data
    spare: Ints  # [E, S] what the user settles for instead, or changes the mind to
    stock: Ints  # [E, S] what is offered where the system has understood nothing
    scarce: Ints  # [E] slot whose wanted value is not to be had; -1 for none
    fickle: Ints  # [E] slot about which the mind changes at the first offer that fits; -1 for none
    patience: Ints  # [E] turns until the user gives up
    chance: Floats  # [E, turns + 1, DRAWS] in [0, 1)

    def take(self, rows: Ints) -> Users:
        """Users of these rows [N]."""
        return Users(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    @staticmethod
    def joined(parts: Sequence[Users]) -> Users:
        """Several groups as one."""
        return Users(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Users)})


def acts_of(rows: Sequence[Row]) -> Acts:
    """The acts that training goals need; slots and properties by falling frequency, then by name."""
    slots = Counter(one["slot"] for row in rows for one in row["constraints"])
    properties = Counter(name for row in rows for name in row["requests"])
    return Acts(
        slots=sorted(slots, key=lambda name: (-slots[name], name)),
        properties=sorted(properties, key=lambda name: (-properties[name], name)),
    )


def inventory(rows: Sequence[Row], acts: Acts) -> list[list[str]]:
    """Values of each slot in these rows, in alphabetical order."""
    found: dict[str, set[str]] = {slot: set() for slot in acts.slots}
    for row in rows:
        for one in row["constraints"]:
            if one["slot"] not in found:
                raise RlftError(_unknown(row, "slot", one["slot"], acts.slots))
            found[one["slot"]].add(one["value"])
        unknown = next((name for name in row["requests"] if name not in acts.properties), None)
        if unknown is not None:
            raise RlftError(_unknown(row, "request", unknown, acts.properties))
    return [sorted(found[slot]) for slot in acts.slots]


def _unknown(row: Row, what: str, name: str, known: Sequence[str]) -> str:
    return (
        f"{row['origin']}: the {what} {name!r} is not among those of the training goals: {', '.join(known) or 'none'}"
    )


def draw_users(
    rows: Sequence[Row], acts: Acts, known: Sequence[Sequence[str]], hard: Difficulty, copies: int, seed: int
) -> Users:
    """``copies`` users of each row; the same row, copy and seed give the same user, in whatever company."""
    made = [_draw(row, copy, acts, known, hard, seed) for row in rows for copy in range(copies)]
    return Users(**{f.name: np.stack([one[f.name] for one in made]) for f in fields(Users)})


def _draw(
    row: Row, copy: int, acts: Acts, known: Sequence[Sequence[str]], hard: Difficulty, seed: int
) -> Mapping[str, Any]:
    told = [(one["slot"], one["value"]) for one in row["constraints"]]
    name = repr((seed, copy, row["origin"], told, row["requests"])).encode()
    random = np.random.default_rng(list(hashlib.sha256(name).digest()))
    s = len(acts.slots)
    want, rank = np.full(s, ANY), np.full(s, s)
    for place, (slot, value) in enumerate(told):
        at = acts.slots.index(slot)
        want[at], rank[at] = known[at].index(value), place
    size = np.array([max(1, len(values)) for values in known])
    stock = random.integers(size)
    spare = np.where(want == ANY, stock, (want + 1 + random.integers(np.maximum(1, size - 1))) % size)
    movable = random.permutation(np.flatnonzero((want != ANY) & (size > 1)))  # slots whose value can become another
    short, moves = random.random() < hard.unavailable, random.random() < hard.change
    scarce = movable[0] if short and len(movable) else -1
    rest = movable[1:] if short else movable
    if scarce >= 0 and stock[scarce] == want[scarce]:
        stock[scarce] = spare[scarce]
    return {
        "want": want,
        "rank": rank,
        "wish": np.array([name in row["requests"] for name in acts.properties], dtype=bool),
        "values": size,
        "spare": spare,
        "stock": stock,
        "scarce": np.int64(scarce),
        "fickle": np.int64(rest[0] if moves and len(rest) else -1),
        "patience": random.integers(hard.patience_min, hard.patience_max + 1),
        "chance": random.random((hard.max_turns + 1, DRAWS), dtype=np.float32),
    }
