"""The learner may see the reference decisions themselves, and every reward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from rlft_cli.episode import Trajectory
from rlft_cli.feedback import Signal, at_once, each_decision

if TYPE_CHECKING:
    from rlft_cli.reward import Batch


@dataclass(frozen=True, kw_only=True)
class Full:
    """Labels are revealed; an algorithm that learns from rewards sees those of its actions as they are."""

    reveals: ClassVar[str] = "labels"
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens", "pairs", "acts")
    reads_reward: ClassVar[bool] = True
    fresh: ClassVar[bool] = True
    pays: ClassVar[str] = "decision"

    def __call__(self, reward: Tensor, trajectory: Trajectory, batch: Batch, generator: torch.Generator) -> Signal:
        """Every reward [N, T]."""
        return at_once(reward, trajectory.mask, each_decision(trajectory.mask, batch))
