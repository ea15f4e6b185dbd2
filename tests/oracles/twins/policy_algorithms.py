"""Wrong variants of the algorithms with a value, a clip or a group's mean, and of the KL as a loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from rlft_cli.algo import Algorithm
from rlft_cli.episode import Trajectory
from rlft_cli.model import Output
from rlft_cli.oracles.policy_algorithms import BETA, GRPO, PPO
from rlft_cli.oracles.toys.tagging import REINFORCE
from rlft_cli.returns import action_log_prob, kl_k1, kl_k2


@dataclass
class Wrong:
    """An algorithm with something wrong before ``prepare``, or more in its loss."""

    inner: Any
    before: Callable[[Trajectory], Trajectory] = lambda trajectory: trajectory
    more: Callable[[Output, Trajectory], Tensor] = lambda output, trajectory: torch.zeros(())

    def __post_init__(self) -> None:
        self.samples, self.state, self.reads = self.inner.samples, self.inner.state, self.inner.reads

    def prepare(self, trajectory: Trajectory) -> Trajectory:
        prepared: Trajectory = self.inner.prepare(self.before(trajectory))
        return prepared

    def loss(self, output: Output, trajectory: Trajectory, target: Output | None) -> Tensor:
        loss: Tensor = self.inner.loss(output, trajectory, target)
        return loss + self.more(output, trajectory)


def value_of_the_action(trajectory: Trajectory) -> Trajectory:
    """The value has seen what it should be a baseline for."""
    return replace(trajectory, value=trajectory.value + 0.5 * trajectory.action)


def last_reward_dropped(trajectory: Trajectory) -> Trajectory:
    return replace(trajectory, reward=trajectory.reward * trajectory.discount)


def behaviour_forgotten(trajectory: Trajectory) -> Trajectory:
    return replace(trajectory, log_prob=torch.zeros_like(trajectory.log_prob))


def k1_for_k2(output: Output, trajectory: Trajectory) -> Tensor:
    """What makes the loss k1 where it was k2."""
    pair = action_log_prob(output.scores, trajectory.action), trajectory.reference_log_prob
    return BETA * (kl_k1(*pair) - kl_k2(*pair))


KL_IN_LOSS = replace(REINFORCE, kl_coefficient=BETA, kl_in="loss")
TWINS: dict[str, list[Algorithm | Wrong]] = {
    "reinforce_value": [
        Wrong(replace(REINFORCE, baseline="value"), before=value_of_the_action),
        Wrong(replace(REINFORCE, baseline="value"), before=last_reward_dropped),
        replace(REINFORCE, baseline="value", gamma=0.5),
    ],
    "actor_critic": [
        replace(PPO, gae_lambda=0.3),  # bootstraps from a value that is wrong
        Wrong(PPO, before=value_of_the_action),
        Wrong(PPO, before=last_reward_dropped),
    ],
    "ppo_algorithm": [
        Wrong(replace(PPO, gae_lambda=0.3), before=behaviour_forgotten),
        Wrong(replace(PPO, gae_lambda=0.3), before=value_of_the_action),
        replace(PPO, gae_lambda=0.3, gamma=0.5),
    ],
    "grpo_algorithm": [replace(GRPO, scale_rewards=True), Wrong(GRPO, before=behaviour_forgotten)],
    "kl_in_loss": [Wrong(KL_IN_LOSS, more=k1_for_k2), replace(KL_IN_LOSS, kl_in="reward")],
}
