"""Sample from the policy itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from rlft_cli.episode import ILLEGAL_SCORE, Decision, Trajectory, draw, legal_actions


@dataclass(frozen=True, kw_only=True)
class Sample:
    """mu(a) = softmax over legal a of score / temperature, cut to top_k and top_p and renormalised.

    What is cut off is, in this order, all but the ``top_k`` highest scores, then all but the smallest set of actions that
    has the chance ``top_p`` (Holtzman et al. 2020); actions that tie with the last one stay. ``warp`` gives the loss the
    same distribution (law 8): the truncated one is the behaviour policy.
    """

    on_policy: ClassVar[bool] = True
    propensities: ClassVar[bool] = True
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens", "acts")
    reads: ClassVar[tuple[str, ...]] = ()

    temperature: Annotated[float, "(0, inf)"]
    top_k: Annotated[int, "[0, inf)"]
    top_p: Annotated[float, "(0, 1]"]
    state: dict[str, Tensor] = field(init=False, default_factory=dict)

    def __call__(self, decision: Decision, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Action [n] and its log-probability [n]."""
        warped = self.warp(decision.scores.masked_fill(~decision.legal, ILLEGAL_SCORE))
        log_prob = torch.log_softmax(warped, dim=-1)
        action = draw(log_prob.exp(), generator)
        return action, log_prob.gather(-1, action[:, None]).squeeze(-1)

    def warp(self, scores: Tensor) -> Tensor:
        """Scores [..., A] divided by the temperature; those cut off, and illegal ones, are illegal."""
        if self.temperature != 1.0:
            scores = torch.where(legal_actions(scores), scores / self.temperature, scores)
        if self.top_k == 0 and self.top_p == 1.0:
            return scores
        return scores.masked_fill(scores < self._lowest(scores.detach()), ILLEGAL_SCORE)

    def _lowest(self, scores: Tensor) -> Tensor:
        """The lowest score [..., 1] that is not cut off."""
        size = scores.shape[-1]
        best = scores.topk(min(self.top_k or size, size), dim=-1).values  # [..., k], falling
        chance = torch.softmax(best, dim=-1)
        before = chance.cumsum(-1, dtype=torch.float64) - chance  # of what is better
        kept = (before < self.top_p).sum(-1, keepdim=True).clamp(min=1)
        return best.gather(-1, kept - 1)

    def perturb(self, episodes: int, width: int, actions: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def observe(self, trajectory: Trajectory, features: Callable[[Trajectory], Tensor]) -> None:
        """Learns nothing."""
