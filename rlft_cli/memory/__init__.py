"""What a memory is: which of the past trajectories are learned from next."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import torch

from rlft_cli.episode import Trajectory


class Memory(Protocol):
    """A store of trajectories; ``fresh`` says that it only ever returns what was just added."""

    fresh: ClassVar[bool]
    replay_ratio: int  # gradient batches per collected batch

    def add(self, trajectory: Trajectory, cost: list[int]) -> None:
        """Store a trajectory; ``cost`` [B] is the number of input tokens of each observation."""
        ...

    def ready(self) -> bool:
        """Whether enough is stored to learn from."""
        ...

    def sample(self, batch_tokens: int, max_episodes: int, generator: torch.Generator) -> Trajectory:
        """Draw a batch of about ``batch_tokens`` input tokens; its observation may hold only "id"."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What must survive a resume."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore ``state_dict``."""
        ...
