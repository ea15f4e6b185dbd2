"""The hand-written dialogue policy: fill the slots, confirm what is doubtful, offer, answer, close. A baseline and a teacher."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlft_cli.task.agenda import Move, Offer
from rlft_cli.task.goals import EMPTY, Acts, Bools, Ints
from rlft_cli.task.listening import Mind, stale


@dataclass(frozen=True, kw_only=True)
class HandWritten:
    """The first rule that applies, on what the system has understood:

    with a standing offer that is up to date, answer the request that was heard most surely, or close where the user is done;
    confirm the first slot that is trusted less than ``confirm_below``; ask for the first of the ``requests`` most frequent
    slots that nothing was heard of; offer, where there is no offer or it is out of date; else ask the user to repeat.
    """

    acts: Acts
    confirm_below: float
    requests: int

    def __call__(self, mind: Mind, offer: Offer) -> Ints:
        """The act [N]."""
        slots, properties = len(self.acts.slots), len(self.acts.properties)
        last = 2 * slots + properties  # offer, repeat, close
        held = mind.belief != EMPTY
        fits = offer.standing & ~stale(mind, offer).any(1)
        act = np.full_like(mind.act, last + 1)  # repeat
        searched = mind.act == last
        new = ~offer.standing & (~searched | mind.fresh.any(1))  # nothing was found of what was believed before
        act = np.where(held.any(1) & (new | (offer.standing & ~fits)), last, act)
        missing = ~held & (np.arange(slots) < self.requests)
        act = _first(missing, 0, act)
        act = _first(held & (mind.trust < self.confirm_below), slots, act)
        act = np.where(fits & (mind.heard.move == Move.DONE), last + 2, act)
        if properties:
            act = np.where(fits & (mind.request > 0).any(1), 2 * slots + mind.request.argmax(1), act)
        return act


def _first(chosen: Bools, begin: int, otherwise: Ints) -> Ints:
    """Number of the first chosen slot [N, S], counted from ``begin``; what was there where none is chosen."""
    return np.where(chosen.any(1), begin + chosen.argmax(1), otherwise)
