"""The agenda-based user (Schatzmann et al. 2007): what many users want, what they say next, and when they have had enough."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from rlft_cli.task.goals import ANY, Bools, Chance, Ints, Kind, Users


class Move(IntEnum):
    """What a user's turn does, beside telling values."""

    NONE = 0
    AFFIRM = 1
    NEGATE = 2
    REQUEST = 3  # asks for a property of what is on offer
    DONE = 4  # needs nothing more


@dataclass(frozen=True, kw_only=True)
class Said:
    """A turn of N users: a move, and the slots whose wanted values it tells."""

    move: Ints  # [N]
    asked: Ints  # [N] the property, where the move is REQUEST
    first: Ints  # [N] a slot whose value is told, -1 for none
    second: Ints  # [N] another one


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What the system has found for N users."""

    standing: Bools  # [N] something is on offer
    nothing: Bools  # [N] the last search found nothing
    value: Ints  # [N, S] values of what is on offer; ANY before


@dataclass(frozen=True, kw_only=True)
class Agenda:
    """The state of N users."""

    users: Users
    want: Ints  # [N, S] as of now
    wish: Bools  # [N, R] properties still to be asked for
    told: Bools  # [N, S] values that were told before
    fickle: Ints  # [N]
    patience: Ints  # [N] turns left
    said: Said


def at(matrix: npt.NDArray[Any], column: Ints) -> npt.NDArray[Any]:
    """matrix[n, column[n]] [N]; that of the last column where there is none (-1), and 0 of a matrix without columns."""
    if not matrix.shape[1]:
        return np.zeros(len(matrix), matrix.dtype)
    return matrix[np.arange(len(matrix)), column]


def put(matrix: npt.NDArray[Any], column: Ints, value: Any, rows: Bools) -> None:
    """Set matrix[n, column[n]] of the chosen rows [N], where there is a column, to a number or to ``value`` [N]."""
    n = np.flatnonzero(rows & (column >= 0))
    matrix[n, column[n]] = value[n] if isinstance(value, np.ndarray) else value


def first_of(chosen: Bools, rank: Ints) -> Ints:
    """Of the chosen slots [N, S] the one of lowest rank; -1 where none is chosen."""
    place = np.where(chosen, rank, np.iinfo(np.int64).max).argmin(1)
    return np.where(chosen.any(1), place, -1)


def begin(users: Users, volunteer: float) -> Agenda:
    """Users who have just said what they think of first, and perhaps of second."""
    zero, none = np.zeros_like(users.patience), np.full_like(users.patience, -1)
    silent = Agenda(
        users=users,
        want=users.want,
        wish=users.wish,
        told=np.zeros_like(users.want, dtype=bool),
        fickle=users.fickle,
        patience=users.patience,
        said=Said(move=zero, asked=zero, first=none, second=none),
    )
    opening = replace(silent.said, first=first_of(users.want != ANY, users.rank))
    return _speak(silent, opening, np.ones_like(zero, dtype=bool), 0, volunteer)


def no_offer(users: Users) -> Offer:
    """Before anything was looked for."""
    never = np.zeros_like(users.patience, dtype=bool)
    return Offer(standing=never, nothing=never, value=np.full_like(users.want, ANY))


def look_up(users: Users, offer: Offer, belief: Ints, kind: Ints) -> Offer:
    """Where the act is an offer, look for what was understood: belief [N, S], below 0 where any value will do.

    There is nothing with the value that the user wanted first of the scarce slot, and one thing for all else.
    """
    offers = kind == Kind.OFFER
    nothing = offers & (users.scarce >= 0) & (at(belief, users.scarce) == at(users.want, users.scarce))
    found = np.where(belief >= 0, belief, users.stock)
    return Offer(
        standing=np.where(offers, ~nothing, offer.standing),
        nothing=np.where(offers, nothing, offer.nothing),
        value=np.where((offers & ~nothing)[:, None], found, offer.value),
    )


def satisfied(agenda: Agenda, offer: Offer) -> Bools:
    """Whether what is on offer has every value that the user wants now [N]."""
    fits: Bools = offer.standing & ((agenda.want == ANY) | (agenda.want == offer.value)).all(1)
    return fits


def react(agenda: Agenda, before: Offer, offer: Offer, belief: Ints, act: Ints, turn: int, volunteer: float) -> Agenda:
    """What users say to the acts [N, 3] (kind, slot, property); belief [N, S] is what they hear confirmed or refused.

    ``before`` is the offer as it stood before the act. An act that brings a user nothing new costs double patience.
    """
    kind, slot, asked = act.T
    users, said = agenda.users, agenda.said
    requests, confirms, repeats = kind == Kind.REQUEST, kind == Kind.CONFIRM, kind == Kind.REPEAT
    nothing, presented = (kind == Kind.OFFER) & offer.nothing, (kind == Kind.OFFER) & ~offer.nothing
    met, answers = satisfied(agenda, offer), kind == Kind.ANSWER
    relents = nothing & (at(agenda.want, users.scarce) == at(users.want, users.scarce))
    changes = presented & met & (agenda.fickle >= 0)
    wished = answers & met & at(agenda.wish, asked)
    same = before.standing & (before.value == offer.value).all(1)
    again = (presented & same) | (nothing & before.nothing)
    useless = again | (answers & ~wished) | (requests & at(agenda.told, slot)) | repeats

    moved = np.where(relents, users.scarce, np.where(changes, agenda.fickle, -1))
    want, wish = agenda.want.copy(), agenda.wish.copy()
    put(want, moved, at(users.spare, moved), moved >= 0)
    put(wish, asked, False, wished)
    agreed = at(belief, slot) == at(want, slot)
    refuses = ((presented | answers) & ~met) | (nothing & ~relents)
    unlike = np.where(nothing[:, None], belief, offer.value) != want
    wrong = first_of((want != ANY) & unlike, users.rank)

    move = np.where(confirms, np.where(agreed, Move.AFFIRM, Move.NEGATE), Move.NONE)
    move = np.where((presented | answers) & met, np.where(wish.any(1), Move.REQUEST, Move.DONE), move)
    move = np.where(refuses | changes, Move.NEGATE, move)
    tells = np.where(requests | (confirms & ~agreed), slot, moved)
    tells = np.where(refuses, wrong, tells)
    spoken = Said(
        move=np.where(repeats, said.move, move),
        asked=np.where(repeats, said.asked, wish.argmax(1) if wish.shape[1] else asked),
        first=np.where(repeats, said.first, tells),
        second=np.where(repeats, said.second, -1),
    )
    now = replace(
        agenda,
        want=want,
        wish=wish,
        fickle=np.where(changes, -1, agenda.fickle),
        patience=agenda.patience - 1 - useless,
    )
    return _speak(now, spoken, requests | confirms, turn, volunteer)


def _speak(agenda: Agenda, said: Said, free: Bools, turn: int, volunteer: float) -> Agenda:
    """Say it; users who are ``free`` [N] to add something may tell a value that they have not told yet."""
    told = agenda.told.copy()
    put(told, said.first, True, free | True)
    another = first_of((agenda.want != ANY) & ~told, agenda.users.rank)
    adds = free & (agenda.users.chance[:, turn, Chance.VOLUNTEER] < volunteer)
    second = np.where(adds, another, said.second)
    put(told, second, True, free | True)
    return replace(agenda, told=told, said=replace(said, second=second))
