"""What feedback is: how much of the truth the learner may see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import torch
from torch import Tensor

from rlft_cli.episode import Trajectory

if TYPE_CHECKING:
    from rlft_cli.reward import Batch


@dataclass(frozen=True, kw_only=True)
class Signal:
    """What of N episodes the learner is told, and what that cost.

    A decision is learned from where it is observed; elsewhere its reward is unknown, and 0 stands for it.
    """

    reward: Tensor  # [N, T] float32, 0 where not observed
    observed: Tensor  # [N, T] bool, False where the mask is
    reactions: Tensor  # [N] int64: bits or numbers that a user gave
    delay_steps: Tensor  # [N] int64: steps of the learner until they are there
    exact: bool = True  # False where rewards are unbiased estimates of ones in [0, 1], and may lie outside


class Feedback(Protocol):
    """The gate between rewards and learner; nothing that it does not return reaches the learner (law 6).

    ``reveals`` is "labels" or "rewards". ``reads_reward`` says that it passes on the configured reward; where it is
    False it has a signal of its own, and the reward is for reports. ``fresh`` says that the signal is there at once and
    belongs to what the policy has just done. ``pays`` says what one signal is about: a decision, or the whole episode.
    """

    reveals: ClassVar[str]
    decisions: ClassVar[tuple[str, ...]]
    reads_reward: ClassVar[bool]
    fresh: ClassVar[bool]
    pays: ClassVar[str]

    def __call__(self, reward: Tensor, trajectory: Trajectory, batch: Batch, generator: torch.Generator) -> Signal:
        """Of the reward [N, T] of the chosen actions, what the learner sees; chance comes from ``generator`` (CPU)."""
        ...


def at_once(reward: Tensor, observed: Tensor, reactions: Tensor) -> Signal:
    """A signal without delay: reward and observed [N, T], reactions [N]; zeros where nothing is observed."""
    return Signal(
        reward=torch.where(observed, reward, torch.zeros_like(reward)),
        observed=observed,
        reactions=reactions,
        delay_steps=torch.zeros_like(reactions),
    )


def each_decision(mask: Tensor, batch: Batch) -> Tensor:
    """Reactions [N] where every decision of mask [N, T] is told of: one a tag or class, one a reply or dialogue."""
    return mask.any(1).long() if batch.whole else mask.sum(1)


__all__ = ["Feedback", "Signal", "at_once", "each_decision"]
