"""Better actions more often: sample in proportion to the exponential of their values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from rlft_cli.episode import ILLEGAL_SCORE, Decision, Trajectory, draw


@dataclass(frozen=True, kw_only=True)
class Boltzmann:
    """mu(a) = softmax over legal a of value(a) / temperature, values in the unit of the reward (Sutton 1990).

    It explores around learned values; ``explore=sample`` is for scores that are themselves the policy.
    """

    on_policy: ClassVar[bool] = False
    propensities: ClassVar[bool] = True
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens", "acts")
    reads: ClassVar[tuple[str, ...]] = ()

    temperature: Annotated[float, "(0, inf)"]
    state: dict[str, Tensor] = field(init=False, default_factory=dict)

    def __call__(self, decision: Decision, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Action [n] and its log-probability [n]."""
        scores = (decision.scores / self.temperature).masked_fill(~decision.legal, ILLEGAL_SCORE)
        log_prob = torch.log_softmax(scores, dim=-1)
        action = draw(log_prob.exp(), generator)
        return action, log_prob.gather(-1, action[:, None]).squeeze(-1)

    def warp(self, scores: Tensor) -> Tensor:
        """Scores are ranked only."""
        return scores

    def perturb(self, episodes: int, width: int, actions: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def observe(self, trajectory: Trajectory, features: Callable[[Trajectory], Tensor]) -> None:
        """Learns nothing."""
