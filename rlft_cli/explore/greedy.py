"""Take the best action; ties are split at random, or by the lowest index where decisions must not depend on chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rlft_cli.episode import ILLEGAL_SCORE, draw


@dataclass(frozen=True, kw_only=True)
class Greedy:
    """a = argmax over legal actions; log_prob = -log(number of tied actions), 0 without ties."""

    on_policy: ClassVar[bool] = False
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens")

    split_ties: bool

    def __call__(
        self, scores: Tensor, legal: Tensor, progress: float, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Action [N] and its log-probability [N] from scores and legal [N, A]."""
        scores = scores.masked_fill(~legal, ILLEGAL_SCORE)
        if not self.split_ties:
            action = scores.argmax(-1)
            return action, torch.zeros(action.shape, device=scores.device)
        best = scores == scores.amax(-1, keepdim=True)
        return draw(best, generator), -best.sum(-1).float().log()

    def warp(self, scores: Tensor) -> Tensor:
        """Scores are ranked only."""
        return scores

    def state_dict(self) -> dict[str, Tensor]:
        """Keeps nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Keeps nothing."""
