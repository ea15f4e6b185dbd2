"""Learning from a log by imitating what paid: the baseline that every estimator with propensities has to beat."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from torch import Tensor

from rlft_cli.episode import Trajectory
from rlft_cli.model import Output
from rlft_cli.returns import action_log_prob, filtered_imitation_loss, returns_to_go


@dataclass(frozen=True, kw_only=True)
class FilteredBc:
    """loss_t = -1[G_t > threshold] log pi(a_t|s_t), G_t = r_t + gamma G_{t+1}.

    Behaviour cloning of the logged actions whose return is above the threshold (filtered or "%" behaviour cloning, Chen
    et al. 2021, section 5). With rewards 0 and 1 it is cross-entropy on the logged positives: biased towards what the
    logging policy did often, blind to what it got wrong, and steady.
    """

    on_policy: ClassVar[bool] = False
    needs: ClassVar[str] = "rewards"
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens")
    regresses: ClassVar[bool] = False
    weighs: ClassVar[bool] = False
    samples: ClassVar[int] = 1
    epochs: ClassVar[int] = 1

    threshold: Annotated[float, "(-inf, inf)"]
    gamma: Annotated[float, "[0, 1]"]
    state: dict[str, Tensor] = field(init=False, default_factory=dict)

    @property
    def reads(self) -> frozenset[str]:
        """Neither propensities nor values."""
        return frozenset()

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
        """Cross-entropy [N, T] on what paid, 0 elsewhere."""
        returned = returns_to_go(trajectory.reward, trajectory.mask, self.gamma)
        return filtered_imitation_loss(action_log_prob(output.scores, trajectory.action), returned, self.threshold)
