"""Learn from what was just collected, once, and forget it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from rlft_cli.episode import Trajectory


@dataclass(frozen=True, kw_only=True)
class Latest:
    """Holds one trajectory."""

    fresh: ClassVar[bool] = True
    by_error: ClassVar[bool] = False
    replay_ratio: ClassVar[int] = 1

    held: list[Trajectory] = field(init=False, default_factory=list)

    def add(self, trajectory: Trajectory, cost: list[int]) -> None:
        """Replace what is held."""
        self.held[:] = [trajectory]

    def ready(self) -> bool:
        """As soon as there is a trajectory."""
        return bool(self.held)

    def sample(self, batch_tokens: int, max_episodes: int, generator: torch.Generator) -> Trajectory:
        """What was added last, whole."""
        return self.held[0]

    def learned(self, loss: Tensor, done: float) -> None:
        """Nothing is drawn again."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing outlives a step."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing outlives a step."""
        self.held.clear()
