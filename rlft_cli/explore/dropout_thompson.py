"""Act by a network that is thinned out by dropout, the same way for a whole episode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from rlft_cli.episode import ILLEGAL_SCORE, Decision, Trajectory


@dataclass(frozen=True, kw_only=True)
class DropoutThompson:
    """a = argmax of the scores under one dropout mask an episode on what the last layer reads.

    Dropout that stays on draws from an approximate posterior (Gal and Ghahramani 2016, eq. 6); one mask an episode makes it
    a Thompson sample. The loss is taken under masks drawn anew, since a posterior that was not trained with dropout would
    mean nothing. The chance of an action has no closed form.
    """

    on_policy: ClassVar[bool] = False
    propensities: ClassVar[bool] = False
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "acts")
    reads: ClassVar[tuple[str, ...]] = ()

    p: Annotated[float, "[0, 1)"]
    state: dict[str, Tensor] = field(init=False, default_factory=dict)

    def __call__(self, decision: Decision, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Action [n] and log-probability 0 [n]: that of the action given what was drawn."""
        action = decision.scores.masked_fill(~decision.legal, ILLEGAL_SCORE).argmax(-1)
        return action, torch.zeros(action.shape, device=action.device)

    def warp(self, scores: Tensor) -> Tensor:
        """Scores are ranked only."""
        return scores

    def perturb(self, episodes: int, width: int, actions: int, generator: torch.Generator) -> dict[str, Tensor]:
        """ "feature_mask" [N, H]: 0 with probability p, else 1 / (1 - p)."""
        kept = torch.rand(episodes, width, device=generator.device, generator=generator) >= self.p
        return {"feature_mask": kept / (1 - self.p)}

    def observe(self, trajectory: Trajectory, features: Callable[[Trajectory], Tensor]) -> None:
        """Learns nothing."""
