"""What decoding is: the scores of a trained policy turned into one answer to each example."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor

from rlft_cli.reward import Reward
from rlft_cli.task import Task


@dataclass(frozen=True, kw_only=True)
class Aids:
    """What a decoder may judge answers by besides the policy's scores. References are not among it."""

    values: Callable[[Tensor], Tensor] | None = None  # brings scores that are values into the unit of the reward
    gamma: float = 0.0  # weight of later rewards in those values
    foresees: bool = False  # the policy has a value head
    reward: Reward | None = None  # judges an answer by itself
    reward_name: str = ""  # as the user types it


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Examples to be answered by a policy."""

    policy: Any  # an nn.Module that is a Policy
    task: Task
    observation: dict[str, Tensor]  # of B examples
    checked: Callable[[Tensor], Tensor]  # gives scores back as they are; NonFiniteError where they are no numbers
    aids: Aids


class Decode(Protocol):
    """How an answer is found.

    ``decisions`` says for which tasks; ``reads`` may hold "reward" (Aids.reward).
    """

    decisions: ClassVar[tuple[str, ...]]

    @property
    def reads(self) -> frozenset[str]:
        """Which of the aids must be there."""
        ...

    def require(self, task: Task, aids: Aids) -> None:
        """UsageError where answers to this task cannot be found with these aids."""
        ...

    def __call__(self, asked: Asked) -> tuple[Tensor, Tensor]:
        """Actions [B, T] int64 of the answers and their mask [B, T]."""
        ...


__all__ = ["Aids", "Asked", "Decode"]
