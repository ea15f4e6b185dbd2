"""Actor-critic: a learned state value says how much better an action did than was to be expected."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

from torch import Tensor

from rlft_cli.episode import Trajectory
from rlft_cli.model import Output
from rlft_cli.returns import action_log_prob, entropy, generalized_advantage, kl_k1


@dataclass(frozen=True, kw_only=True)
class ActorCritic:
    """loss_t = -A_t log pi(a_t | s_t) + c_V (V(s_t) - A_t - V_old(s_t))^2 / 2 - c_H H(pi(. | s_t)).

    A is the generalized advantage of the values foreseen while acting, V_old (Schulman et al. 2016, eq. 16; Mnih et al.
    2016, sec. 4); no gradient flows through it. With gamma 0 it is r_t - V(s_t). The KL to the reference policy is paid
    in the reward.
    """

    on_policy: ClassVar[bool] = True
    needs: ClassVar[str] = "rewards"
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens")
    epochs: ClassVar[int] = 1

    samples: Annotated[int, "[1, inf)"]
    gamma: Annotated[float, "[0, 1]"]
    gae_lambda: Annotated[float, "[0, 1]"]
    value_coefficient: Annotated[float, "(0, inf)"]
    entropy_coefficient: Annotated[float, "[0, inf)"]
    kl_coefficient: Annotated[float, "[0, inf)"]
    state: dict[str, Tensor] = field(init=False, default_factory=dict)

    @property
    def reads(self) -> frozenset[str]:
        """The value, and the reference policy where a KL is paid."""
        return frozenset({"value", "reference"} if self.kl_coefficient > 0 else {"value"})

    @property
    def uses_target(self) -> bool:
        """The values foreseen while acting do not move; they need no lagging copy."""
        return False

    def values(self, scores: Tensor) -> Tensor:
        """Scores are the logits of the policy; they stay as they are."""
        return scores

    def prepare(self, trajectory: Trajectory) -> Trajectory:
        """Generalized advantages [N, T]."""
        penalty = self.kl_coefficient * kl_k1(trajectory.log_prob, trajectory.reference_log_prob)
        advantage = generalized_advantage(
            trajectory.reward - penalty,
            trajectory.value,
            trajectory.discount,
            trajectory.mask,
            self.gamma,
            self.gae_lambda,
        )
        return replace(trajectory, advantage=advantage)

    def loss(self, output: Output, trajectory: Trajectory, target: Output | None) -> Tensor:
        """Score-function surrogate [N, T], the value's distance from what came, and the entropy bonus."""
        assert output.value is not None  # "value" is in reads
        loss = -trajectory.advantage * action_log_prob(output.scores, trajectory.action)
        returns = trajectory.advantage + trajectory.value
        loss = loss + self.value_coefficient * 0.5 * (output.value - returns) ** 2
        if self.entropy_coefficient > 0:
            loss = loss - self.entropy_coefficient * entropy(output.scores)
        return loss
