"""Prefer actions that were seldom tried: an upper confidence bound on each action's value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from rlft_cli.episode import ILLEGAL_SCORE


@dataclass(frozen=True, kw_only=True)
class Ucb:
    """a = argmax of value(a) + c sqrt(2 ln t / n_a), n_a counts over all contexts (Auer et al. 2002, with learned values).

    Untried legal actions come first, in order. The choice is deterministic: its log_prob is 0, and a log made with it
    cannot be used for inverse propensity scoring.
    """

    on_policy: ClassVar[bool] = False
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes")

    c: Annotated[float, "[0, inf)"]
    counts: dict[str, Tensor] = field(init=False, default_factory=dict)

    def __call__(
        self, scores: Tensor, legal: Tensor, progress: float, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Action [N] and log-probability 0 [N] from values in reward units and legal [N, A]."""
        counts = self.counts.setdefault("counts", torch.zeros(scores.shape[-1], dtype=torch.float64))
        t = float(counts.sum()) + 1.0
        bonus = self.c * torch.sqrt(2 * torch.log(torch.tensor(t, dtype=torch.float64)) / counts.clamp(min=1e-12))
        bonus = torch.where(counts == 0, torch.full_like(bonus, 1e6), bonus).float().to(scores.device)
        action = (scores + bonus).masked_fill(~legal, ILLEGAL_SCORE).argmax(-1)
        counts += torch.bincount(action.cpu(), minlength=scores.shape[-1])
        return action, torch.zeros(action.shape, device=scores.device)

    def warp(self, scores: Tensor) -> Tensor:
        """Scores are ranked only."""
        return scores

    def state_dict(self) -> dict[str, Tensor]:
        """How often each action was taken."""
        return {name: tensor.clone() for name, tensor in self.counts.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the counts."""
        self.counts.clear()
        self.counts.update({name: tensor.clone() for name, tensor in state.items()})
