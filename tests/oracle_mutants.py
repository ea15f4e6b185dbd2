"""Wrong variants of what ships, for tests/oracles/twins/: whatever is not changed stays as it ships."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from rlft_cli.episode import Trajectory
from rlft_cli.model import Output


def same(x: Any) -> Any:
    return x


@dataclass
class Changed:
    """An algorithm with something wrong before or after ``prepare``, in what it scores, or in its target."""

    inner: Any
    before: Callable[[Trajectory], Trajectory] = same
    after: Callable[[Trajectory], Trajectory] = same
    scored: Callable[[Output], Output] = same
    lagging: Callable[[Output, Output | None], Output | None] = lambda output, target: target

    def __post_init__(self) -> None:
        self.samples, self.state, self.reads = self.inner.samples, self.inner.state, self.inner.reads
        self.uses_target = self.inner.uses_target
        self.on_policy, self.needs, self.values = self.inner.on_policy, self.inner.needs, self.inner.values

    def prepare(self, trajectory: Trajectory) -> Trajectory:
        return self.after(self.inner.prepare(self.before(trajectory)))

    def loss(self, output: Output, trajectory: Trajectory, target: Output | None) -> Tensor:
        found: Tensor = self.inner.loss(self.scored(output), trajectory, self.lagging(output, target))
        return found


def last_reward_dropped(trajectory: Trajectory) -> Trajectory:
    last = trajectory.mask & (trajectory.discount == 0)
    return replace(trajectory, reward=torch.where(last, 0.0, trajectory.reward))


def bootstrap_beyond_the_end(trajectory: Trajectory) -> Trajectory:
    return replace(trajectory, discount=torch.ones_like(trajectory.discount))


def mask_forgotten(output: Output) -> Output:
    """Illegal actions have a score like any other."""
    return replace(output, scores=torch.where(output.scores < -1e8, 2.0, output.scores))


def times(factor: float) -> Callable[[Trajectory], Trajectory]:
    return lambda trajectory: replace(trajectory, advantage=factor * trajectory.advantage)
