"""What the system makes of a user's turn: a noisy channel, beliefs about slots and requests, and what a policy sees of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from rlft_cli.task.agenda import Move, Offer, Said, at, put
from rlft_cli.task.goals import ANY, EMPTY, Bools, Chance, Floats, Ints, Kind, Users

SLOT_FEATURES, PROPERTY_FEATURES, OTHER_FEATURES = 6, 2, 3 + len(Move)


@dataclass(frozen=True, kw_only=True)
class Heard:
    """The move of a user's turn as N dialogues understood it."""

    move: Ints  # [N]
    asked: Ints  # [N] the property, where the move is REQUEST
    trust: Floats  # [N] 0 where nothing was heard


@dataclass(frozen=True, kw_only=True)
class Mind:
    """What the system has understood in N dialogues."""

    belief: Ints  # [N, S] value, ANY (no preference) or EMPTY (nothing heard)
    trust: Floats  # [N, S] in [0, 1]
    asked: Floats  # [N, S] how often it was asked for or confirmed
    fresh: Bools  # [N, S] heard in the last turn
    request: Floats  # [N, R] trust that the property was asked for; 0 once it is told
    answered: Bools  # [N, R]
    heard: Heard
    act: Ints  # [N] the system's last act, -1 before the first


def begin(users: Users) -> Mind:
    """Before anything was heard."""
    zero, none = np.zeros(users.want.shape, np.float32), np.zeros_like(users.patience)
    return Mind(
        belief=np.full_like(users.want, EMPTY),
        trust=zero,
        asked=zero,
        fresh=zero.astype(bool),
        request=np.zeros(users.wish.shape, np.float32),
        answered=np.zeros_like(users.wish),
        heard=Heard(move=none, asked=none, trust=none.astype(np.float32)),
        act=none - 1,
    )


def acted(mind: Mind, number: Ints, act: Ints) -> Mind:
    """After the system's act ``number`` [N] with its kind, slot and property ``act`` [N, 3]."""
    kind, slot, told = act.T
    asked, request, answered = mind.asked.copy(), mind.request.copy(), mind.answered.copy()
    put(asked, slot, at(asked, slot) + 1, (kind == Kind.REQUEST) | (kind == Kind.CONFIRM))
    put(request, told, 0.0, kind == Kind.ANSWER)
    put(answered, told, True, kind == Kind.ANSWER)
    return replace(mind, asked=asked, request=request, answered=answered, act=number)


def hear(mind: Mind, said: Said, want: Ints, users: Users, confirmed: Ints, turn: int, error_rate: float) -> Mind:
    """Understand a turn; ``confirmed`` [N] is the slot that the system has just asked to confirm, -1 for none.

    A value that was heard before gains trust, 1 - (1 - b)(1 - c); another one takes its place where it is heard with more
    trust, or beside a "no", and else lowers it, b (1 - c). A "yes" and a "no" to a question are taken in the same way.
    """
    chance = users.chance[:, turn]
    heard = _hear_move(said, users.wish.shape[1], chance, error_rate)
    yes, no = heard.move == Move.AFFIRM, heard.move == Move.NEGATE
    belief, trust, fresh = mind.belief.copy(), mind.trust.copy(), np.zeros_like(mind.fresh)
    before = at(trust, confirmed)
    put(trust, confirmed, 1 - (1 - before) * (1 - heard.trust), yes)
    put(trust, confirmed, before * (1 - heard.trust), no)
    for n, slot in enumerate((said.first, said.second)):
        value, sure, there = _hear_value(slot, want, users.values, chance[:, Chance.FIRST_WRONG + 4 * n :], error_rate)
        held, old = at(belief, slot), at(trust, slot)
        taken = (held != value) & (no | (sure > old) | (held == EMPTY))
        put(
            trust,
            slot,
            np.where(held == value, 1 - (1 - old) * (1 - sure), np.where(taken, sure, old * (1 - sure))),
            there,
        )
        put(belief, slot, value, there & taken)
        put(fresh, slot, True, there)
    request = mind.request.copy()
    put(request, heard.asked, 1 - (1 - at(request, heard.asked)) * (1 - heard.trust), heard.move == Move.REQUEST)
    return replace(mind, belief=belief, trust=trust, fresh=fresh, request=request, heard=heard)


def certainty(chance: Floats, wrong: Bools) -> Floats:
    """How sure the recogniser is [N]: density 2c where it is right and 2(1 - c) where it is wrong; chance [N] is uniform.

    At an error rate e, what is heard with c is right with the chance (1 - e) c / ((1 - e) c + e (1 - c)).
    """
    root = np.sqrt(chance)
    return np.where(wrong, 1 - root, root)


def _hear_move(said: Said, properties: int, chance: Floats, error_rate: float) -> Heard:
    """Yes and no are taken for each other, a request for another one; what has no like is lost, as half of all errors are."""
    wrong = (chance[:, Chance.MOVE_WRONG] < error_rate) & (said.move != Move.NONE)
    other = said.asked
    if properties > 1:
        shift = 1 + (chance[:, Chance.MOVE_OTHER] * (properties - 1)).astype(np.int64)
        other = (said.asked + shift) % properties
    alone = (said.move == Move.DONE) | ((said.move == Move.REQUEST) & (properties < 2))
    lost = wrong & ((chance[:, Chance.MOVE_LOST] < 0.5) | alone)
    turned = np.where(said.move == Move.AFFIRM, Move.NEGATE, said.move)
    turned = np.where(said.move == Move.NEGATE, Move.AFFIRM, turned)
    move = np.where(lost, Move.NONE, np.where(wrong, turned, said.move))
    trust = certainty(chance[:, Chance.MOVE_TRUST], wrong)
    return Heard(
        move=move,
        asked=np.where(wrong, other, said.asked),
        trust=np.where(move == Move.NONE, np.float32(0), trust),
    )


def _hear_value(slot: Ints, want: Ints, values: Ints, chance: Floats, error_rate: float) -> tuple[Ints, Floats, Bools]:
    """Value, certainty and whether anything was heard [N] of the slot [N] whose value is told; -1 tells none.

    ``chance`` [N, 4] says whether it goes wrong, is lost, which other value is heard, and how surely.
    """
    true, size = at(want, slot), at(values, slot)
    wrong = chance[:, 0] < error_rate
    unlike = np.where(true == ANY, size, size - 1)  # how many other values there are
    pick = (chance[:, 2] * unlike).astype(np.int64)
    other = np.where(true == ANY, pick, (true + 1 + pick) % size)
    lost = wrong & ((chance[:, 1] < 0.5) | (unlike == 0))
    return np.where(wrong, other, true), certainty(chance[:, 3], wrong), (slot >= 0) & ~lost


def width(slots: int, properties: int, acts: int) -> int:
    """How many numbers a policy sees: features, and which acts are legal."""
    return SLOT_FEATURES * slots + PROPERTY_FEATURES * properties + OTHER_FEATURES + 2 * acts


def legal_acts(mind: Mind, offer: Offer, table: Ints) -> Bools:
    """Acts [N, A] that make sense: confirm what was heard, offer when something was, answer and close with an offer."""
    held = mind.belief != EMPTY
    kind, slot = table[:, 0], table[:, 1]
    legal = np.where(kind == Kind.CONFIRM, held[:, slot], True)
    legal = np.where(kind == Kind.OFFER, held.any(1, keepdims=True), legal)
    known: Bools = np.where((kind == Kind.ANSWER) | (kind == Kind.CLOSE), offer.standing[:, None], legal)
    return known


def stale(mind: Mind, offer: Offer) -> Bools:
    """Slots [N, S] in which the standing offer is not what is believed by now."""
    changed: Bools = offer.standing[:, None] & (mind.belief >= 0) & (mind.belief != offer.value)
    return changed


def features(mind: Mind, offer: Offer, legal: Bools, spent: float) -> Floats:
    """What a policy sees [N, F], all in [0, 1]; the last A numbers say which acts are legal [N, A].

    ``spent`` is the part of the longest dialogue that is over. Nothing here tells what a user wants beyond what was heard.
    """
    slots = [
        mind.belief != EMPTY,
        mind.belief == ANY,
        mind.trust,
        mind.asked.clip(max=2) / 2,
        mind.fresh,
        stale(mind, offer),
    ]
    whole = np.stack([np.full(len(legal), spent), offer.standing, offer.nothing], axis=1)
    move = np.eye(len(Move), dtype=np.float32)[mind.heard.move]
    move[:, 1:] *= mind.heard.trust[:, None]
    last = np.eye(legal.shape[1] + 1, legal.shape[1], dtype=np.float32)[mind.act]  # -1 is the row of zeros
    parts = [*slots, mind.request, mind.answered, whole, move, last, legal]
    return np.concatenate(parts, axis=1, dtype=np.float32)
