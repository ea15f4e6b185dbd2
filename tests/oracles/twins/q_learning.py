from __future__ import annotations

from dataclasses import replace

import torch

from oracle_mutants import Changed, bootstrap_beyond_the_end, last_reward_dropped, mask_forgotten
from rlft_cli.memory.replay import Replay
from rlft_cli.oracles.toys.chain import DQN, T
from rlft_cli.returns import double_backup, max_backup


class Forgetful:
    """A replay that loses the last reward of each episode."""

    def __init__(self) -> None:
        self.inner = Replay(capacity=1000, warmup_episodes=1, replay_ratio=1)

    def add(self, trajectory, cost) -> None:
        self.inner.add(last_reward_dropped(trajectory), cost)

    def sample(self, batch_tokens, max_episodes, generator):
        return self.inner.sample(batch_tokens, max_episodes, generator)


DOUBLE = replace(DQN, backup="double", loss_kind="huber")

TWINS = {
    "dqn": [
        Changed(DQN, before=last_reward_dropped),
        Changed(DQN, before=bootstrap_beyond_the_end),
        Changed(DQN, scored=mask_forgotten),
        replace(DQN, n_step=2),
    ],
    "dqn_gamma_0": [DQN],
    "dqn_double": [Changed(DOUBLE, before=last_reward_dropped), Changed(DOUBLE, before=bootstrap_beyond_the_end)],
    "dqn_replay": [Forgetful],
    "dqn_n_step": [(DQN, DQN), (replace(DQN, n_step=2), replace(DQN, n_step=T, gamma=0.7))],
    "dqn_target": [
        Changed(DQN, lagging=lambda output, target: None),  # bootstraps from itself
        replace(DQN, gamma=0.7),
    ],
    "dqn_stop_gradient": [Changed(DQN, lagging=lambda output, target: output)],
    "overestimation": [double_backup, lambda one, other: one.mean(-1)],
    "double_overestimation": [
        lambda one, other: max_backup(one),
        lambda one, other: torch.maximum(one, other).mean(-1),
    ],
    "dueling": [
        lambda value, advantage, legal: value + advantage - advantage.mean(-1, keepdim=True),
        lambda value, advantage, legal: value + advantage,
    ],
}
