"""Cross-entropy on the reference decisions: the case in which the episode is demonstrated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from rlft_cli.episode import Trajectory, legal_actions
from rlft_cli.model import Output
from rlft_cli.returns import action_log_prob


@dataclass(frozen=True, kw_only=True)
class Supervised:
    """loss_t = -(1 - s) log pi(a_t | s_t) - s mean over legal a of log pi(a | s_t), s = label_smoothing."""

    on_policy: ClassVar[bool] = True
    needs: ClassVar[str] = "labels"
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens", "acts")
    samples: ClassVar[int] = 1
    epochs: ClassVar[int] = 1

    label_smoothing: Annotated[float, "[0, 1)"]
    state: dict[str, Tensor] = field(init=False, default_factory=dict)

    @property
    def reads(self) -> frozenset[str]:
        """Scores only."""
        return frozenset()

    @property
    def uses_target(self) -> bool:
        """Nothing is bootstrapped."""
        return False

    def values(self, scores: Tensor) -> Tensor:
        """Scores as they are."""
        return scores

    def prepare(self, trajectory: Trajectory) -> Trajectory:
        """Nothing to compare."""
        return trajectory

    def loss(self, output: Output, trajectory: Trajectory, target: Output | None) -> Tensor:
        """Cross-entropy [N, T]."""
        nll = -action_log_prob(output.scores, trajectory.action)
        if self.label_smoothing == 0.0:
            return nll
        legal = legal_actions(output.scores)
        log_prob = torch.log_softmax(output.scores, dim=-1)
        uniform = -torch.where(legal, log_prob, torch.zeros_like(log_prob)).sum(-1) / legal.sum(-1)
        return (1 - self.label_smoothing) * nll + self.label_smoothing * uniform
