"""Drawing stored episodes: what prioritised draws expect, and how even a replay is (METHODS 7.1, row 23)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rlft_cli.episode import blank
from rlft_cli.memory import Memory
from rlft_cli.memory.replay import Replay
from rlft_cli.oracles import Oracle
from rlft_cli.returns import importance_weights, priority_probabilities

D = torch.float64
CALLS = 2_000


def _update(weights: Callable[[Tensor, int, float], Tensor]) -> float:
    """Expected update of prioritised draws at beta 1, over its largest weight, against the uniform one; relative."""
    chance = torch.Generator().manual_seed(21)
    priority = torch.rand(200, generator=chance, dtype=D) ** -2  # heavy tail
    each = torch.randn(200, 5, generator=chance, dtype=D) * priority[:, None]
    probability = priority_probabilities(priority, 0.6)
    weight = probability * weights(probability, 200, 1.0)
    found = (weight[:, None] * each).sum(0) / weight.sum()
    return float((found - each.mean(0)).norm() / each.mean(0).norm())


def _priorities(probabilities: Callable[[Tensor, float], Tensor]) -> float:
    """Sums to 1, odds are those of the priorities to the power alpha, alpha 0 is uniform."""
    priority = torch.rand(50, generator=torch.Generator().manual_seed(22), dtype=D) + 0.01
    found = probabilities(priority, 0.6)
    odds = (found / found[0]).log() - 0.6 * (priority / priority[0]).log()
    flat = probabilities(priority, 0.0) * 50 - 1
    return float(torch.stack([(found.sum() - 1).abs(), odds.abs().max(), flat.abs().max()]).max())


def _even(new_memory: Callable[[], Memory]) -> float:
    """Largest |z| over 40 episodes of the draws of each a call, against their mean; inputs of 1 to 60 tokens."""
    count, memory = 40, new_memory()
    action = torch.zeros(count, 2, dtype=torch.int64)
    memory.add(blank({"id": torch.arange(count)}, action, action == 0), [1 + n * n // 27 for n in range(count)])
    chance = torch.Generator().manual_seed(23)
    draws = torch.zeros(CALLS, count, dtype=D)
    for call in range(CALLS):
        ids = memory.sample(96, 8, chance).observation["id"]
        draws[call] = torch.bincount(ids, minlength=count)
    mean = draws.mean(0)
    return float(((mean - mean.mean()) / (draws.std(0) / CALLS**0.5).clamp(min=1e-12)).abs().max())


ORACLES = (
    Oracle(
        name="importance_weights",
        row=23,
        object="importance weights of prioritised draws, beta 1",
        oracle="the uniform expected update, summed over all rows",
        tolerance=1e-10,
        subject=importance_weights,
        distance=_update,
    ),
    Oracle(
        name="priorities",
        row=23,
        object="probabilities of prioritised draws",
        oracle="p^alpha / sum p^alpha, in logarithms",
        tolerance=1e-10,
        subject=priority_probabilities,
        distance=_priorities,
    ),
    Oracle(
        name="replay_even",
        row=23,
        object="memory=replay draws every episode equally often, z",
        oracle="the mean over episodes, 2,000 batches",
        tolerance=5.0,
        subject=lambda: Replay(capacity=100, warmup_episodes=1, replay_ratio=1),
        distance=_even,
    ),
)
