"""The learner sees the reward of what it did, never what it should have done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Bandit:
    """Rewards of the chosen actions; no label is revealed (law 6)."""

    reveals: ClassVar[str] = "rewards"

    def __call__(self, reward: Tensor, mask: Tensor) -> Tensor:
        """Rewards [N, T] of the chosen actions."""
        return reward
