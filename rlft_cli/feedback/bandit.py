"""The learner sees the reward of what it did, never what it should have done."""

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
class Bandit:
    """Rewards of the chosen actions; no label is revealed (law 6)."""

    reveals: ClassVar[str] = "rewards"
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens", "acts")
    reads_reward: ClassVar[bool] = True
    fresh: ClassVar[bool] = True
    pays: ClassVar[str] = "decision"

    def __call__(self, reward: Tensor, trajectory: Trajectory, batch: Batch, generator: torch.Generator) -> Signal:
        """Rewards [N, T] of the chosen actions, all of them."""
        return at_once(reward, trajectory.mask, each_decision(trajectory.mask, batch))
