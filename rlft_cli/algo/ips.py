"""Learning from a log by importance weights: how often would this policy have done what earned that."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from torch import Tensor

from rlft_cli.episode import Trajectory
from rlft_cli.model import Output
from rlft_cli.returns import action_log_prob, banditnet_loss, importance_ratio, returns_to_go


@dataclass(frozen=True, kw_only=True)
class Ips:
    """loss_t = -min(pi(a_t|s_t) / mu(a_t|s_t), clip) (G_t - lambda), G_t = r_t + gamma G_{t+1}, mu the logging policy.

    lambda 0 is (clipped) inverse propensity scoring (Horvitz and Thompson 1952; Ionides 2008), another one BanditNet
    (Joachims, Swaminathan and de Rijke 2018, eq. 11): IPS prefers to stay away from all that was logged where rewards are
    negative, and to fit all of it where they are positive, which lambda between the rewards undoes. Each decision is
    weighted by its own ratio, given the logged ones before it; the product over an episode would vary too much.
    """

    on_policy: ClassVar[bool] = False
    needs: ClassVar[str] = "rewards"
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens")
    regresses: ClassVar[bool] = False
    weighs: ClassVar[bool] = True
    samples: ClassVar[int] = 1
    epochs: ClassVar[int] = 1

    clip: Annotated[float, "(0, inf)"]
    translation: Annotated[float, "[-1, 1]"]
    gamma: Annotated[float, "[0, 1]"]
    state: dict[str, Tensor] = field(init=False, default_factory=dict)

    @property
    def reads(self) -> frozenset[str]:
        """The chance with which each action was taken."""
        return frozenset({"propensity"})

    @property
    def uses_target(self) -> bool:
        """Nothing is bootstrapped."""
        return False

    def values(self, scores: Tensor) -> Tensor:
        """Scores are the logits of the policy; they stay as they are."""
        return scores

    def prepare(self, trajectory: Trajectory) -> Trajectory:
        """Nothing to compare."""
        return trajectory

    def loss(self, output: Output, trajectory: Trajectory, target: Output | None) -> Tensor:
        """Weighted translated returns [N, T], negative; no gradient where the weight is clipped."""
        log_prob = action_log_prob(output.scores, trajectory.action)
        ratio = importance_ratio(log_prob, trajectory.log_prob, self.clip)
        returns = returns_to_go(trajectory.reward, trajectory.mask, self.gamma)
        return banditnet_loss(ratio, returns, self.translation)
