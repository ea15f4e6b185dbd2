"""The learner may see the reference decisions themselves, and every reward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Full:
    """Labels are revealed; an algorithm that learns from rewards sees those of its actions as they are."""

    reveals: ClassVar[str] = "labels"

    def __call__(self, reward: Tensor, mask: Tensor) -> Tensor:
        """Every reward [N, T]."""
        return reward
