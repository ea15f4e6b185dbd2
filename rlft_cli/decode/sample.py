"""Answers drawn from the policy, decision by decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
import torch
from torch import Tensor

from rlft_cli.decode import Aids, Asked
from rlft_cli.episode import ILLEGAL_SCORE, Decision, draw_at, rollout
from rlft_cli.errors import UsageError
from rlft_cli.explore.sample import Sample as Policy
from rlft_cli.task import Task


@dataclass(frozen=True, kw_only=True)
class _Drawn(Policy):
    """Sampling in which decision t of example i takes the t-th number of a stream of its own, whatever else is in the batch."""

    seed: int
    ids: Sequence[int]  # of the examples, one for each row
    uniform: dict[str, Tensor] = field(init=False, default_factory=dict)  # [N, T], from the first decision on

    def __call__(self, decision: Decision, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Action [n] and its log-probability [n]."""
        if decision.t == 0:
            horizon = int(decision.length.max())
            numbers = np.stack([np.random.default_rng([self.seed, i]).random(horizon) for i in self.ids])
            self.uniform["all"] = torch.from_numpy(numbers).to(decision.scores.device)
        log_prob = torch.log_softmax(self.warp(decision.scores.masked_fill(~decision.legal, ILLEGAL_SCORE)), dim=-1)
        action = draw_at(log_prob.exp(), self.uniform["all"][decision.rows, decision.t])
        return action, log_prob.gather(-1, action[:, None]).squeeze(-1)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """a_t ~ softmax(scores / temperature), cut to top_k and top_p.

    Chance depends on seed and example alone, not on batches; two policies meet the same, so that where they agree they
    write the same, and a paired difference is less noisy (common random numbers).
    """

    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens", "acts")
    reads: ClassVar[frozenset[str]] = frozenset()

    temperature: Annotated[float, "(0, inf)"]
    top_k: Annotated[int, "[0, inf)"]
    top_p: Annotated[float, "(0, 1]"]
    seed: Annotated[int, "[0, 4294967295]"]

    @property
    def draws_from_policy(self) -> bool:
        """Whether this is the policy itself, so that its KL from another one can be measured on what it wrote."""
        return self.temperature == 1.0 and self.top_k == 0 and self.top_p == 1.0

    def require(self, task: Task, aids: Aids) -> None:
        """UsageError for decisions that are not drawn."""
        if task.decisions not in self.decisions:
            raise UsageError(
                f"decode=sample draws {', '.join(self.decisions)}, the checkpoint decides {task.decisions}; type decode=greedy"
            )

    def __call__(self, asked: Asked) -> tuple[Tensor, Tensor]:
        """Actions [B, T] and their mask."""
        ids = asked.observation["id"]
        drawn = _Drawn(
            temperature=self.temperature, top_k=self.top_k, top_p=self.top_p, seed=self.seed, ids=ids.tolist()
        )
        trajectory = rollout(
            asked.policy,
            asked.task,
            asked.observation,
            drawn,
            samples=1,
            progress=1.0,
            generator=torch.Generator(device=ids.device),
            values=asked.checked,
        )
        return trajectory.action, trajectory.mask
