"""What feedback is: how much of the truth the learner may see."""

from __future__ import annotations

from typing import ClassVar, Protocol

from torch import Tensor


class Feedback(Protocol):
    """The gate between rewards and learner; ``reveals`` is "labels" or "rewards"."""

    reveals: ClassVar[str]

    def __call__(self, reward: Tensor, mask: Tensor) -> Tensor:
        """Of the reward [N, T] of the chosen actions, what the learner sees."""
        ...
