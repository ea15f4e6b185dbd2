"""Sample from the policy itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from rlft_cli.episode import ILLEGAL_SCORE, draw


@dataclass(frozen=True, kw_only=True)
class Sample:
    """mu(a) = softmax over legal a of score / temperature; ``warp`` gives the loss the same distribution (law 8)."""

    on_policy: ClassVar[bool] = True
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens")

    temperature: Annotated[float, "(0, inf)"]

    def __call__(
        self, scores: Tensor, legal: Tensor, progress: float, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Action [N] and its log-probability [N] from scores and legal [N, A]."""
        warped = self.warp(scores.masked_fill(~legal, ILLEGAL_SCORE))
        log_prob = torch.log_softmax(warped, dim=-1)
        action = draw(log_prob.exp(), generator)
        return action, log_prob.gather(-1, action[:, None]).squeeze(-1)

    def warp(self, scores: Tensor) -> Tensor:
        """Scores [..., A] divided by the temperature; illegal ones stay illegal."""
        if self.temperature == 1.0:
            return scores
        return torch.where(scores > ILLEGAL_SCORE / 10, scores / self.temperature, scores)

    def state_dict(self) -> dict[str, Tensor]:
        """Keeps nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Keeps nothing."""
