"""The learner is told one number an episode: the sum of its rewards, when it has ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from rlft_cli.episode import Trajectory
from rlft_cli.feedback import Signal, at_once
from rlft_cli.metrics.alignment import at_last_decision

if TYPE_CHECKING:
    from rlft_cli.reward import Batch


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """r_T = sum_t r_t of the configured reward, 0 before; which decision earned what stays hidden."""

    reveals: ClassVar[str] = "rewards"
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens")
    reads_reward: ClassVar[bool] = True
    fresh: ClassVar[bool] = True
    pays: ClassVar[str] = "episode"

    def __call__(self, reward: Tensor, trajectory: Trajectory, batch: Batch, generator: torch.Generator) -> Signal:
        """The return of each episode at its last decision [N, T]; one reaction an episode."""
        mask = trajectory.mask
        total = torch.where(mask, reward, torch.zeros_like(reward)).sum(1)
        return at_once(at_last_decision(total.tolist(), mask), mask, mask.any(1).long())
