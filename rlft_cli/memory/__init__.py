"""What a memory is: which of the past trajectories are learned from next."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from rlft_cli.episode import Trajectory


class Memory(Protocol):
    """A store of trajectories.

    ``fresh`` says that it only ever returns what was just added, ``by_error`` that losses decide what it returns.
    """

    fresh: ClassVar[bool]
    by_error: ClassVar[bool]
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

    def learned(self, loss: Tensor, done: float) -> None:
        """Hear how the update on the trajectory sampled last went; nothing for most.

        loss [N] is that of the worst decision of each episode, ``done`` the part of the training budget spent.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """What must survive a resume."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore ``state_dict``."""
        ...
