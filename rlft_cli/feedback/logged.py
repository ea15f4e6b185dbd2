"""The learner never acts: it is told what another policy did, with which probability, and what that earned."""

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
class Logged:
    """Actions, propensities and rewards of the file ``log`` (docs/logs.md), read by the pipeline.

    The configured reward and the labels of the training examples are not read: reward and reference stay with the log.
    """

    reveals: ClassVar[str] = "rewards"
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens")
    reads_reward: ClassVar[bool] = False
    fresh: ClassVar[bool] = False
    acts: ClassVar[bool] = False
    pays: ClassVar[str] = "decision"

    log: str

    def __call__(self, reward: Tensor, trajectory: Trajectory, batch: Batch, generator: torch.Generator) -> Signal:
        """The logged rewards [N, T]; what the log holds no reward for stays unobserved."""
        return at_once(reward, trajectory.observed, each_decision(trajectory.observed, batch))
