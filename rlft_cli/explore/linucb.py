"""Prefer actions whose reward is uncertain for this input: a confidence bound of a linear model for each action."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from rlft_cli.episode import ILLEGAL_SCORE, Decision, Trajectory
from rlft_cli.linear import LinearRewards, unit


@dataclass(frozen=True, kw_only=True)
class LinUcb:
    """a = argmax of theta_a . phi + alpha sqrt(phi . inv(A_a) phi) (Li et al. 2010, algorithm 1), phi the hidden state
    that the head reads, scaled to length 1.

    A_a = ridge I + sum of phi phi' over the decisions for a that were rewarded, theta_a = inv(A_a) (sum of phi r): ridge
    regressions of their own, on features that the algorithm trains. The features change while it does, so the regressions
    are made anew now and then (linear.LinearRewards). The episodes of a batch decide one after the other, and the bound of
    a chosen action shrinks at once, before its reward is known (Desautels et al. 2014). The choice is deterministic.
    """

    on_policy: ClassVar[bool] = False
    propensities: ClassVar[bool] = False
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes")
    reads: ClassVar[tuple[str, ...]] = ()

    alpha: Annotated[float, "[0, inf)"]
    regression: LinearRewards

    @property
    def state(self) -> dict[str, Tensor]:
        """That of the regressions."""
        return self.regression.state

    def __call__(self, decision: Decision, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Action [n] and log-probability 0 [n]."""
        assert decision.features is not None  # there are, of tags and classes
        phi = unit(decision.features)
        inverse = self.regression.inverse(decision.legal.shape[1], phi)
        mean = phi @ self.regression.mean().T  # [n, A]
        kernel = torch.einsum("nh,ahg,mg->anm", phi, inverse, phi)  # phi_n . inv(A_a) phi_m
        actions = []
        for n, legal in enumerate(decision.legal):
            bound = mean[n] + self.alpha * kernel[:, n, n].clamp(min=0).sqrt()
            a = int(bound.masked_fill(~legal, ILLEGAL_SCORE).argmax())
            column = kernel[a, :, n].clone()
            kernel[a] -= torch.outer(column, column) / (1 + column[n])  # Sherman and Morrison 1950, as phi_n sees it
            actions.append(a)
        action = torch.tensor(actions, device=phi.device)
        return action, torch.zeros(action.shape, device=phi.device)

    def warp(self, scores: Tensor) -> Tensor:
        """Scores are ranked only."""
        return scores

    def perturb(self, episodes: int, width: int, actions: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def observe(self, trajectory: Trajectory, features: Callable[[Trajectory], Tensor]) -> None:
        """The rewards that arrived enter the regressions."""
        self.regression.observe(trajectory, features)
