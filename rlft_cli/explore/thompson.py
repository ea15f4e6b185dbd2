"""Act by a linear model of the rewards that is drawn from its posterior, once an episode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from rlft_cli.episode import ILLEGAL_SCORE, Decision, Trajectory
from rlft_cli.linear import LinearRewards, unit


@dataclass(frozen=True, kw_only=True)
class Thompson:
    """a = argmax of w_a . phi, w_a ~ N(theta_a, noise^2 inv(A_a)), phi the hidden state, scaled to length 1.

    Neural-linear Thompson sampling (Riquelme et al. 2018, section 4) with a known noise: A_a = ridge I + sum of phi phi',
    theta_a = inv(A_a) (sum of phi r) over the decisions for a that were rewarded. Features change while the algorithm
    trains them, so the posterior is made anew from the latest episodes now and then (linear.LinearRewards). The chance of an
    action has no closed form; log_prob 0 is that of the action given the drawn weights.
    """

    on_policy: ClassVar[bool] = False
    propensities: ClassVar[bool] = False
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes")
    reads: ClassVar[tuple[str, ...]] = ()

    noise: Annotated[float, "(0, inf)"]
    regression: LinearRewards
    drawn: dict[str, Tensor] = field(init=False, default_factory=dict)  # weights of the episodes that go on

    @property
    def state(self) -> dict[str, Tensor]:
        """That of the regressions."""
        return self.regression.state

    def __call__(self, decision: Decision, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Action [n] and log-probability 0 [n]."""
        assert decision.features is not None  # there are, of tags and classes
        phi = unit(decision.features)
        if decision.t == 0:
            self.drawn["weights"] = self._draw(int(decision.rows.max()) + 1, decision.legal.shape[1], phi, generator)
        values = torch.einsum("nah,nh->na", self.drawn["weights"][decision.rows], phi)
        action = values.masked_fill(~decision.legal, ILLEGAL_SCORE).argmax(-1)
        return action, torch.zeros(action.shape, device=phi.device)

    def _draw(self, episodes: int, actions: int, phi: Tensor, generator: torch.Generator) -> Tensor:
        """Weights [N, A, H] of each episode."""
        root = torch.linalg.cholesky(self.regression.inverse(actions, phi))  # [A, H, H]
        normal = torch.randn(episodes, actions, phi.shape[1], dtype=phi.dtype, device=phi.device, generator=generator)
        return self.regression.mean() + self.noise * torch.einsum("ahg,nag->nah", root, normal)

    def warp(self, scores: Tensor) -> Tensor:
        """Scores are ranked only."""
        return scores

    def perturb(self, episodes: int, width: int, actions: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def observe(self, trajectory: Trajectory, features: Callable[[Trajectory], Tensor]) -> None:
        """The rewards that arrived enter the posterior."""
        self.regression.observe(trajectory, features)
