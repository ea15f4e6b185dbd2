"""Mostly the best action, now and then any legal one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from rlft_cli.episode import ILLEGAL_SCORE, Decision, Trajectory, draw


@dataclass(frozen=True, kw_only=True)
class EpsilonGreedy:
    """mu(a) = epsilon / n_legal + (1 - epsilon) 1[a is best] / n_best.

    epsilon goes from start to end over the first ``decay_fraction`` of the budget: linearly, exponentially, or inversely
    (1 / epsilon grows linearly: the epsilon_t ~ 1 / t of Auer et al. 2002, theorem 3).
    """

    on_policy: ClassVar[bool] = False
    propensities: ClassVar[bool] = True
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens", "acts")
    reads: ClassVar[tuple[str, ...]] = ()

    start: Annotated[float, "[0, 1]"]
    end: Annotated[float, "[0, 1]"]
    decay_fraction: Annotated[float, "(0, 1]"]
    schedule: Literal["constant", "linear", "exponential", "inverse"]
    state: dict[str, Tensor] = field(init=False, default_factory=dict)

    def epsilon(self, progress: float) -> float:
        """Exploration rate when ``progress`` (0 to 1) of the budget is spent."""
        done = min(1.0, progress / self.decay_fraction)
        if self.schedule == "constant":
            return self.start
        if self.schedule == "linear":
            return self.start + done * (self.end - self.start)
        start, end = max(self.start, 1e-6), max(self.end, 1e-6)  # neither of the others ever reaches 0
        if self.schedule == "inverse":
            return 1 / (1 / start + done * (1 / end - 1 / start))
        return float(max(start, end) * (end / max(start, end)) ** done)

    def __call__(self, decision: Decision, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Action [n] and its log-probability [n]."""
        scores = decision.scores.masked_fill(~decision.legal, ILLEGAL_SCORE)
        best = (scores == scores.amax(-1, keepdim=True)).float()
        epsilon = self.epsilon(decision.progress)
        uniform = decision.legal.float() / decision.legal.sum(-1, keepdim=True)
        probability = epsilon * uniform + (1 - epsilon) * best / best.sum(-1, keepdim=True)
        action = draw(probability, generator)
        return action, probability.gather(-1, action[:, None]).squeeze(-1).log()

    def warp(self, scores: Tensor) -> Tensor:
        """Scores are ranked only."""
        return scores

    def perturb(self, episodes: int, width: int, actions: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def observe(self, trajectory: Trajectory, features: Callable[[Trajectory], Tensor]) -> None:
        """Learns nothing."""
