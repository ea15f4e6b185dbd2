"""The best action at each decision, one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rlft_cli.decode import Aids, Asked
from rlft_cli.episode import rollout
from rlft_cli.explore.greedy import Greedy as Greedily
from rlft_cli.task import Task


@dataclass(frozen=True, kw_only=True)
class Greedy:
    """a_t = argmax_a score(s_t, a), the first of equals."""

    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens", "pairs", "acts")
    reads: ClassVar[frozenset[str]] = frozenset()

    def require(self, task: Task, aids: Aids) -> None:
        """Nothing is needed."""

    def __call__(self, asked: Asked) -> tuple[Tensor, Tensor]:
        """Actions [B, T] and their mask."""
        trajectory = rollout(
            asked.policy,
            asked.task,
            asked.observation,
            Greedily(split_ties=False),
            samples=1,
            progress=1.0,
            generator=torch.Generator(device=asked.observation["id"].device),
            values=asked.checked,
        )
        return trajectory.action, trajectory.mask
