from __future__ import annotations

import torch

from rlft_cli.memory.replay import Replay
from rlft_cli.returns import importance_weights, priority_probabilities


class Partial:
    """A replay in which the first episode is stored four times."""

    def __init__(self) -> None:
        self.inner = Replay(capacity=100, warmup_episodes=1, replay_ratio=1)

    def add(self, trajectory, cost) -> None:
        self.inner.add(trajectory, cost)
        for _ in range(3):
            self.inner.add(trajectory.select(torch.tensor([0])), cost[:1])

    def sample(self, batch_tokens, max_episodes, generator):
        return self.inner.sample(batch_tokens, max_episodes, generator)


TWINS = {
    "importance_weights": [
        lambda probability, size, beta: importance_weights(probability, size, 0.4),
        lambda probability, size, beta: torch.ones_like(probability),
    ],
    "priorities": [
        lambda priority, alpha: priority_probabilities(priority, 1.0),
        lambda priority, alpha: priority**alpha,
    ],
    "replay_even": [Partial],
}
