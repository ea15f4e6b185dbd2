from __future__ import annotations

import torch

from rlft_cli.memory.prioritised import Prioritised
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


def prioritised(alpha: float) -> Prioritised:
    return Prioritised(capacity=100, warmup_episodes=1, replay_ratio=1, alpha=alpha, beta_start=0.4)


class Deaf:
    """A prioritised replay that does not hear of errors."""

    def __init__(self) -> None:
        self.inner = prioritised(0.6)
        self.add, self.sample = self.inner.add, self.inner.sample

    def learned(self, loss, done) -> None:
        pass


class Alike:
    """One whose batches are all of 8 episodes, although it draws lengths as if batches of short inputs were larger."""

    def __init__(self) -> None:
        self.inner = prioritised(0.6)
        self.add, self.learned = self.inner.add, self.inner.learned

    def sample(self, batch_tokens, max_episodes, generator):
        batch = self.inner.sample(batch_tokens, max_episodes, generator)
        self.inner.priorities.drawn = self.inner.priorities.drawn[:8]
        return batch.select(torch.arange(8))


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
    "prioritised_draws": [lambda: prioritised(1.0), lambda: prioritised(0.0), Deaf, Alike],
}
