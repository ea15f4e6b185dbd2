"""Quantile regression Q-learning: the distribution of what follows an action, by its quantiles."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from torch import Tensor

from rlft_cli.episode import Trajectory
from rlft_cli.model import Output
from rlft_cli.returns import chosen_heads, n_step_parts, quantile_huber, shift_held


@dataclass(frozen=True, kw_only=True)
class Quantile:
    """Quantile Huber loss of theta_i(s_t, a_t) against R + s theta_j(s_{t+n}, a*) (Dabney et al. 2018, algorithm 1).

    R and s are the two parts of an n-step target, a* is the action of the largest mean at s_{t+n}: of the lagging copy, or
    of the policy itself where ``double``. Scores are the means, so that acting and evaluation know of no distribution.
    """

    on_policy: ClassVar[bool] = False
    needs: ClassVar[str] = "rewards"
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "acts")
    regresses: ClassVar[bool] = True
    distribution: ClassVar[bool] = True
    samples: ClassVar[int] = 1
    epochs: ClassVar[int] = 1

    quantiles: Annotated[int, "[1, inf)"]
    kappa: Annotated[float, "[0, inf)"]
    gamma: Annotated[float, "[0, 1]"]
    double: bool
    n_step: Annotated[int, "[1, inf)"]
    target: Literal["none", "polyak", "hard"]
    target_weights: Literal["all", "head"]
    target_tau: Annotated[float, "(0, 1]"]
    target_update_interval: Annotated[int, "[1, inf)"]
    state: dict[str, Tensor] = field(init=False, default_factory=dict)

    @property
    def reads(self) -> frozenset[str]:
        """Quantiles of each action."""
        return frozenset({f"quantiles:{self.quantiles}"})

    @property
    def uses_target(self) -> bool:
        """A lagging copy matters only where something is bootstrapped."""
        return self.gamma > 0 and self.target != "none"

    def values(self, scores: Tensor) -> Tensor:
        """Means, in the unit of the reward."""
        return scores

    def prepare(self, trajectory: Trajectory) -> Trajectory:
        """Nothing to compare."""
        return trajectory

    def loss(self, output: Output, trajectory: Trajectory, target: Output | None) -> Tensor:
        """Distance [N, T] of the chosen action's quantiles from those of its target."""
        lagging = target or output
        assert output.heads is not None and lagging.heads is not None  # "quantiles" is in reads
        best = (output if self.double else lagging).scores.argmax(-1)
        following = shift_held(chosen_heads(lagging.heads, best).detach(), self.n_step)  # [N, T, n]
        partial, scale = n_step_parts(trajectory.reward, trajectory.discount, self.gamma, self.n_step)
        wanted = partial[..., None] + scale[..., None] * following
        return quantile_huber(chosen_heads(output.heads, trajectory.action), wanted, self.kappa)
