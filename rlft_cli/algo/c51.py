"""C51: Q-learning on the whole distribution of what follows an action, over a fixed row of values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from rlft_cli.episode import Trajectory
from rlft_cli.errors import UsageError
from rlft_cli.model import Output
from rlft_cli.returns import categorical_loss, categorical_projection, chosen_heads, n_step_parts, shift_held


@dataclass(frozen=True, kw_only=True)
class C51:
    """-sum_i m_i log p_i(s_t, a_t), m the projection of R + s Z(s_{t+n}, a*) on the atoms (Bellemare et al. 2017, alg. 1).

    R and s are the two parts of an n-step target, a* is the action of the largest mean at s_{t+n}: of the lagging copy, or
    of the policy itself where ``double``. Scores are the means, so that acting and evaluation know of no distribution.
    Returns outside the atoms count as the outermost ones.
    """

    on_policy: ClassVar[bool] = False
    needs: ClassVar[str] = "rewards"
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "acts")
    regresses: ClassVar[bool] = True
    distribution: ClassVar[bool] = True
    samples: ClassVar[int] = 1
    epochs: ClassVar[int] = 1

    atoms: Annotated[int, "[2, inf)"]
    lowest: float
    highest: float
    gamma: Annotated[float, "[0, 1]"]
    double: bool
    n_step: Annotated[int, "[1, inf)"]
    target: Literal["none", "polyak", "hard"]
    target_weights: Literal["all", "head"]
    target_tau: Annotated[float, "(0, 1]"]
    target_update_interval: Annotated[int, "[1, inf)"]
    state: dict[str, Tensor] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """UsageError for atoms that span nothing."""
        if self.lowest >= self.highest:
            raise UsageError(
                f"algo.lowest is {self.lowest:g} and algo.highest {self.highest:g}: the smallest and the largest return, in "
                "this order; type algo.lowest=-1 algo.highest=1"
            )

    @property
    def reads(self) -> frozenset[str]:
        """A distribution for each action."""
        return frozenset({f"atoms:{self.atoms}:{float(self.lowest)}:{float(self.highest)}"})

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
        """Cross-entropy [N, T] of the chosen action's distribution with its projected target."""
        lagging = target or output
        assert output.heads is not None and lagging.heads is not None  # "atoms" is in reads
        best = (output if self.double else lagging).scores.argmax(-1)
        following = shift_held(torch.softmax(chosen_heads(lagging.heads, best).detach(), -1), self.n_step)  # [N, T, n]
        partial, scale = n_step_parts(trajectory.reward, trajectory.discount, self.gamma, self.n_step)
        support = torch.linspace(self.lowest, self.highest, self.atoms, device=following.device)
        wanted = categorical_projection(support, following, partial, scale)
        return categorical_loss(chosen_heads(output.heads, trajectory.action), wanted)
