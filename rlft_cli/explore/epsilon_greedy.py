"""Mostly the best action, now and then any legal one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from rlft_cli.episode import ILLEGAL_SCORE, draw


@dataclass(frozen=True, kw_only=True)
class EpsilonGreedy:
    """mu(a) = epsilon / n_legal + (1 - epsilon) 1[a is best] / n_best.

    epsilon goes from start to end over the first ``decay_fraction`` of the budget, linearly or exponentially.
    """

    on_policy: ClassVar[bool] = False
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens")

    start: Annotated[float, "[0, 1]"]
    end: Annotated[float, "[0, 1]"]
    decay_fraction: Annotated[float, "(0, 1]"]
    schedule: Literal["constant", "linear", "exponential"]

    def epsilon(self, progress: float) -> float:
        """Exploration rate when ``progress`` (0 to 1) of the budget is spent."""
        done = min(1.0, progress / self.decay_fraction)
        if self.schedule == "constant":
            return self.start
        if self.schedule == "linear":
            return self.start + done * (self.end - self.start)
        floor = max(self.end, 1e-6)  # an exponential never reaches 0
        return float(max(self.start, floor) * (floor / max(self.start, floor)) ** done)

    def __call__(
        self, scores: Tensor, legal: Tensor, progress: float, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Action [N] and its log-probability [N] from scores and legal [N, A]."""
        scores = scores.masked_fill(~legal, ILLEGAL_SCORE)
        best = (scores == scores.amax(-1, keepdim=True)).float()
        epsilon = self.epsilon(progress)
        uniform = legal.float() / legal.sum(-1, keepdim=True)
        probability = epsilon * uniform + (1 - epsilon) * best / best.sum(-1, keepdim=True)
        action = draw(probability, generator)
        return action, probability.gather(-1, action[:, None]).squeeze(-1).log()

    def warp(self, scores: Tensor) -> Tensor:
        """Scores are ranked only."""
        return scores

    def state_dict(self) -> dict[str, Tensor]:
        """Keeps nothing: the rate follows from the progress."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Keeps nothing."""
