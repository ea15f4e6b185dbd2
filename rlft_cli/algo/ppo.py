"""PPO: actor-critic that updates several times on each batch, and clips how far an update may carry the policy."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from rlft_cli.episode import Trajectory
from rlft_cli.model import Output
from rlft_cli.returns import (
    action_log_prob,
    entropy,
    generalized_advantage,
    kl_of_episodes,
    kl_penalised,
    ppo_clip_loss,
    steered_coefficient,
    value_loss,
)


@dataclass(frozen=True, kw_only=True)
class Ppo:
    """loss_t = -min(rho_t A_t, clip(rho_t, 1 - eps, 1 + eps) A_t) + c_V l_V - c_H H(pi(. | s_t)), rho = pi / mu.

    (Schulman et al. 2017, eqs. 7 and 9.) mu is the policy that acted, so that rho is 1 in the first epoch (law 8). A is
    the generalized advantage of the values foreseen while acting, V_old; it and mu stay as they are for all epochs. l_V
    is (V - A - V_old)^2 / 2, or the larger of that and the same with V kept within ``value_clip_range`` of V_old. The KL
    to the reference policy is paid in the reward, at a fixed price or at one that steers it to ``kl_target``.

    With one epoch rho is 1 and the gradient is that of -A log pi: actor-critic (Mnih et al. 2016, sec. 4), which is
    algo=actor_critic.
    """

    on_policy: ClassVar[bool] = True
    needs: ClassVar[str] = "rewards"
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens", "acts")

    samples: Annotated[int, "[1, inf)"]
    epochs: Annotated[int, "[1, inf)"]
    clip_range: Annotated[float, "(0, 1)"]
    gamma: Annotated[float, "[0, 1]"]
    gae_lambda: Annotated[float, "[0, 1]"]
    value_coefficient: Annotated[float, "(0, inf)"]
    value_clip_range: Annotated[float, "(0, inf)"] | None
    entropy_coefficient: Annotated[float, "[0, inf)"]
    kl_coefficient: Annotated[float, "[0, inf)"]
    kl_target: Annotated[float, "(0, inf)"] | None
    kl_rate: Annotated[float, "(0, 5)"]
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
        price = self._kl_price(trajectory)
        reward = kl_penalised(trajectory.reward, trajectory.log_prob, trajectory.reference_log_prob, price)
        advantage = generalized_advantage(
            reward,
            trajectory.value,
            trajectory.discount,
            trajectory.mask,
            self.gamma,
            self.gae_lambda,
        )
        return replace(trajectory, advantage=advantage)

    def _kl_price(self, trajectory: Trajectory) -> Tensor | float:
        """What a nat costs in this batch; with a target, the KL of this batch moves the price of the next one."""
        if self.kl_target is None:
            return self.kl_coefficient
        price = self.state.get("kl_coefficient", torch.tensor(self.kl_coefficient, dtype=torch.float64))
        nats = kl_of_episodes(trajectory.log_prob, trajectory.reference_log_prob, trajectory.mask)
        self.state["kl_coefficient"] = steered_coefficient(price, nats, self.kl_target, self.kl_rate)
        return price

    def loss(self, output: Output, trajectory: Trajectory, target: Output | None) -> Tensor:
        """Clipped surrogate [N, T], the value's distance from what came, and the entropy bonus."""
        assert output.value is not None  # "value" is in reads
        log_prob = action_log_prob(output.scores, trajectory.action)
        loss = ppo_clip_loss(log_prob, trajectory.log_prob, trajectory.advantage, self.clip_range)
        distance = value_loss(output.value, trajectory.value, trajectory.advantage, self.value_clip_range)
        loss = loss + self.value_coefficient * distance
        if self.entropy_coefficient > 0:
            loss = loss - self.entropy_coefficient * entropy(output.scores)
        return loss
