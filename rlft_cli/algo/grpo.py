"""GRPO: PPO's clipped updates with the mean of a group of samples in place of a learned value."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from rlft_cli.episode import Trajectory
from rlft_cli.model import Output
from rlft_cli.returns import (
    action_log_prob,
    credited_return,
    entropy,
    group_relative,
    kl_of_episodes,
    kl_penalised,
    ppo_clip_loss,
    steered_coefficient,
)


@dataclass(frozen=True, kw_only=True)
class Grpo:
    """loss_t = -min(rho_t A_t, clip(rho_t, 1 - eps, 1 + eps) A_t) - c_H H(pi(. | s_t)), rho = pi / mu.

    A is the return less the mean over the ``samples`` of one example (Shao et al. 2024, sec. 4.1; Liu et al. 2025), and
    with ``scale_rewards`` over their standard deviation too. mu is the policy that acted: rho is 1 in the first epoch.
    The KL to the reference policy is paid in the reward, at a fixed price or at one that steers it to ``kl_target``.
    Decisions count alike, however long their episode is.
    """

    on_policy: ClassVar[bool] = True
    needs: ClassVar[str] = "rewards"
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens")

    samples: Annotated[int, "[2, inf)"]
    epochs: Annotated[int, "[1, inf)"]
    clip_range: Annotated[float, "(0, 1)"]
    scale_rewards: bool
    credit: Literal["return_to_go", "episode"]
    gamma: Annotated[float, "[0, 1]"]
    entropy_coefficient: Annotated[float, "[0, inf)"]
    kl_coefficient: Annotated[float, "[0, inf)"]
    kl_target: Annotated[float, "(0, inf)"] | None
    kl_rate: Annotated[float, "(0, 5)"]
    state: dict[str, Tensor] = field(init=False, default_factory=dict)

    @property
    def reads(self) -> frozenset[str]:
        """The reference policy where a KL is paid."""
        return frozenset({"reference"}) if self.kl_coefficient > 0 else frozenset()

    @property
    def uses_target(self) -> bool:
        """Nothing is bootstrapped."""
        return False

    def values(self, scores: Tensor) -> Tensor:
        """Scores are the logits of the policy; they stay as they are."""
        return scores

    def prepare(self, trajectory: Trajectory) -> Trajectory:
        """Advantages [N, T] of returns over those of the group."""
        mask = trajectory.mask
        price = self._kl_price(trajectory)
        reward = kl_penalised(trajectory.reward, trajectory.log_prob, trajectory.reference_log_prob, price)
        returns = credited_return(reward, mask, self.gamma, self.credit)
        advantage = group_relative(returns, trajectory.samples, self.scale_rewards)
        return replace(trajectory, advantage=torch.where(mask, advantage, torch.zeros_like(advantage)))

    def _kl_price(self, trajectory: Trajectory) -> Tensor | float:
        """What a nat costs in this batch; with a target, the KL of this batch moves the price of the next one."""
        if self.kl_target is None:
            return self.kl_coefficient
        price = self.state.get("kl_coefficient", torch.tensor(self.kl_coefficient, dtype=torch.float64))
        nats = kl_of_episodes(trajectory.log_prob, trajectory.reference_log_prob, trajectory.mask)
        self.state["kl_coefficient"] = steered_coefficient(price, nats, self.kl_target, self.kl_rate)
        return price

    def loss(self, output: Output, trajectory: Trajectory, target: Output | None) -> Tensor:
        """Clipped surrogate [N, T] with the entropy bonus."""
        log_prob = action_log_prob(output.scores, trajectory.action)
        loss = ppo_clip_loss(log_prob, trajectory.log_prob, trajectory.advantage, self.clip_range)
        if self.entropy_coefficient > 0:
            loss = loss - self.entropy_coefficient * entropy(output.scores)
        return loss
