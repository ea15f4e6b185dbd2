"""The learner is told the rewards of its actions some steps later."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from torch import Tensor

from rlft_cli.episode import Trajectory
from rlft_cli.feedback import Signal, at_once, each_decision

if TYPE_CHECKING:
    from rlft_cli.reward import Batch


@dataclass(frozen=True, kw_only=True)
class Delayed:
    """The rewards of an episode are there after ``steps`` + U steps, U uniform in 0..random_steps for each example.

    With random_steps 0 they come in the order of the actions. They are learned from when they come; those that are
    still on their way when the budget is spent are lost.
    """

    reveals: ClassVar[str] = "rewards"
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens")
    reads_reward: ClassVar[bool] = True
    fresh: ClassVar[bool] = False
    pays: ClassVar[str] = "decision"

    steps: Annotated[int, "[0, inf)"]
    random_steps: Annotated[int, "[0, inf)"]

    def __call__(self, reward: Tensor, trajectory: Trajectory, batch: Batch, generator: torch.Generator) -> Signal:
        """Rewards [N, T] of the chosen actions, and how long each example's take."""
        signal = at_once(reward, trajectory.mask, each_decision(trajectory.mask, batch))
        examples = trajectory.observation["id"].shape[0]
        later = self.steps + torch.randint(self.random_steps + 1, (examples,), generator=generator)
        return replace(signal, delay_steps=later.repeat_interleave(trajectory.samples).to(signal.reactions.device))
