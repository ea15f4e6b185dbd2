"""Take the best action; ties are split at random, or by the lowest index where decisions must not depend on chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from rlft_cli.episode import ILLEGAL_SCORE, Decision, Trajectory, draw


@dataclass(frozen=True, kw_only=True)
class Greedy:
    """a = argmax over legal actions; log_prob = -log(number of tied actions), 0 without ties."""

    on_policy: ClassVar[bool] = False
    propensities: ClassVar[bool] = False
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens", "pairs", "acts")
    reads: ClassVar[tuple[str, ...]] = ()
    explores: ClassVar[bool] = False

    split_ties: bool
    state: dict[str, Tensor] = field(init=False, default_factory=dict)

    def __call__(self, decision: Decision, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Action [n] and its log-probability [n]."""
        scores = decision.scores.masked_fill(~decision.legal, ILLEGAL_SCORE)
        if not self.split_ties:
            action = scores.argmax(-1)
            return action, torch.zeros(action.shape, device=scores.device)
        best = scores == scores.amax(-1, keepdim=True)
        return draw(best, generator), -best.sum(-1).float().log()

    def warp(self, scores: Tensor) -> Tensor:
        """Scores are ranked only."""
        return scores

    def perturb(self, episodes: int, width: int, actions: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def observe(self, trajectory: Trajectory, features: Callable[[Trajectory], Tensor]) -> None:
        """Learns nothing."""
