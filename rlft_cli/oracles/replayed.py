"""Drawing stored episodes: how even a replay is, what prioritised draws are and expect (METHODS 7.1, row 23)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from rlft_cli.episode import blank
from rlft_cli.memory import Memory
from rlft_cli.memory.prioritised import LEAST, Prioritised
from rlft_cli.memory.replay import Replay
from rlft_cli.oracles import Oracle
from rlft_cli.returns import importance_weights, priority_probabilities
from rlft_cli.ring import BUCKETS, bucket_of

D = torch.float64
CALLS, BATCHES = 2_000, 1_000
COUNT = 40  # stored episodes, with inputs of 1 to 57 tokens
COST = [1 + n * n // 27 for n in range(COUNT)]
ALPHA = 0.6


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
    """Largest |z| over the episodes of the draws of each a call, against their mean."""
    memory = _filled(new_memory)
    chance = torch.Generator().manual_seed(23)
    draws = torch.zeros(CALLS, COUNT, dtype=D)
    for call in range(CALLS):
        ids = memory.sample(96, 8, chance).observation["id"]
        draws[call] = torch.bincount(ids, minlength=COUNT)
    mean = draws.mean(0)
    return float(((mean - mean.mean()) / (draws.std(0) / CALLS**0.5).clamp(min=1e-12)).abs().max())


def _filled(new_memory: Callable[[], Memory]) -> Memory:
    memory, action = new_memory(), torch.zeros(COUNT, 2, dtype=torch.int64)
    memory.add(blank({"id": torch.arange(COUNT)}, action, action == 0), COST)
    return memory


def _in_proportion(new_memory: Callable[[], Memory]) -> float:
    """-log10 p of the draws, were each episode expected in proportion to (|error| + 1e-6)^alpha; some 20,000 draws.

    Chi-squared with 39 degrees of freedom: of the batches over the buckets of like input length, and of the draws within
    each bucket, which are independent given how many batches it had.
    """
    memory, chance = _filled(new_memory), torch.Generator().manual_seed(24)
    error = torch.rand(COUNT, generator=chance, dtype=D) ** 3  # at most 1, the priority of what was never learned from
    for _ in range(100):
        ids = memory.sample(512, 64, chance).observation["id"]
        memory.learned(0.5 * error[ids] ** 2, 0.0)
    draws, batches = torch.zeros(COUNT, dtype=D), torch.zeros(BUCKETS, dtype=D)
    size, group = torch.ones(BUCKETS, dtype=D), torch.from_numpy(bucket_of(COST))
    for _ in range(BATCHES):
        ids = memory.sample(512, 64, chance).observation["id"]
        draws += torch.bincount(ids, minlength=COUNT)
        batches[group[ids[0]]] += 1
        size[group[ids[0]]] = len(ids)
    weight = (error + LEAST) ** ALPHA
    mass = torch.zeros(BUCKETS, dtype=D).index_add(0, group, weight)
    asked = (mass / size)[mass > 0]
    expected = torch.cat([BATCHES * asked / asked.sum(), weight / mass[group] * (batches * size)[group]])
    found = torch.cat([batches[mass > 0], draws])
    statistic = ((found - expected) ** 2 / expected.clamp(min=1e-12)).sum()
    p = torch.special.gammaincc(torch.tensor((COUNT - 1) / 2, dtype=D), statistic / 2)
    return -math.log10(float(p)) if p > 0 else math.inf


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
    Oracle(
        name="prioritised_draws",
        row=23,
        object="memory=prioritised draws by error, whatever the length: -log10 p",
        oracle="P_i, chi-squared test of 20,000 draws",
        tolerance=6.0,
        subject=lambda: Prioritised(capacity=100, warmup_episodes=1, replay_ratio=1, alpha=ALPHA, beta_start=0.4),
        distance=_in_proportion,
    ),
)
