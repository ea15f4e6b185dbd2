"""Prefer actions that were seldom tried: an upper confidence bound on each action's value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from rlft_cli.episode import ILLEGAL_SCORE, Decision, Trajectory
from rlft_cli.returns import upper_bound


@dataclass(frozen=True, kw_only=True)
class Ucb:
    """a = argmax of value(a) + c sqrt(2 ln t / n_a), t plays so far, n_a of them of a, in whatever context.

    With c = 1 and values that are the mean reward of each action this is UCB1 (Auer et al. 2002, figure 1); here they are
    the learned ones. Untried legal actions come first. The episodes of a batch decide one after the other, so that the
    first ones' plays count for the later ones. The choice is deterministic.
    """

    on_policy: ClassVar[bool] = False
    propensities: ClassVar[bool] = False
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes")
    reads: ClassVar[tuple[str, ...]] = ()

    c: Annotated[float, "[0, inf)"]
    state: dict[str, Tensor] = field(init=False, default_factory=dict)

    def __call__(self, decision: Decision, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Action [n] and log-probability 0 [n]."""
        scores = decision.scores.masked_fill(~decision.legal, ILLEGAL_SCORE).double().cpu()
        counts = self.state.setdefault("counts", torch.zeros(scores.shape[-1], dtype=torch.float64))
        legal, actions = decision.legal.cpu(), []
        for value, allowed in zip(scores, legal, strict=True):
            untried = allowed & (counts == 0)
            bound = (
                torch.where(untried, value, ILLEGAL_SCORE)
                if bool(untried.any())
                else upper_bound(value, counts, self.c)
            )
            actions.append(int(bound.argmax()))
            counts[actions[-1]] += 1
        action = torch.tensor(actions, device=decision.scores.device)
        return action, torch.zeros(action.shape, device=action.device)

    def warp(self, scores: Tensor) -> Tensor:
        """Scores are ranked only."""
        return scores

    def perturb(self, episodes: int, width: int, actions: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def observe(self, trajectory: Trajectory, features: Callable[[Trajectory], Tensor]) -> None:
        """Learns nothing."""
