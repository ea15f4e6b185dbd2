"""Memories: what comes back is what was put in, every episode as often as any other."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from rlft_cli import durable
from rlft_cli.episode import Trajectory, blank
from rlft_cli.memory.latest import Latest
from rlft_cli.memory.replay import Replay

FIELDS = ("action", "reward", "log_prob", "reference_log_prob", "greedy_reward", "discount", "mask")


def replay(capacity: int = 1000, warmup_episodes: int = 1) -> Replay:
    return Replay(capacity=capacity, warmup_episodes=warmup_episodes, replay_ratio=1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def episodes(ids: list[int], lengths: list[int], samples: int = 1) -> Trajectory:
    """Episodes whose every number tells which one they are."""
    width = max(lengths)
    mask = torch.arange(width)[None, :] < torch.tensor(lengths)[:, None]
    owner = torch.tensor([i for i in ids for _ in range(samples)])
    place = (owner * 100 + torch.arange(samples).repeat(len(ids)) * 10)[:, None] + torch.arange(width)[None, :]
    number = torch.where(mask, place.float(), torch.nan)
    start = blank({"id": torch.tensor(ids), "x": torch.zeros(len(ids))}, torch.where(mask, place, 0), mask)
    return replace(
        start,
        reward=number,
        log_prob=-number,
        reference_log_prob=number / 2,
        greedy_reward=number / 4,
        truncated=owner % 2 == 0,
    )


def drawn(memory: Any, draws: int, tokens: int = 64, most: int = 8, seed: int = 0) -> Counter[int]:
    chance, counts = generator(seed), Counter[int]()
    for _ in range(draws):
        counts.update(memory.sample(tokens, most, chance).observation["id"].tolist())
    return counts


def test_what_comes_back_is_what_was_put_in() -> None:
    memory = replay()
    given = episodes([4, 5, 6], [3, 1, 2])
    memory.add(given, [9, 9, 9])
    got = memory.sample(1000, 50, generator())
    assert set(got.observation) == {"id"}, "inputs are made again, not stored"
    for row, i in enumerate(got.observation["id"].tolist()):
        length = int(given.mask[i - 4].sum())
        assert int(got.mask[row].sum()) == length
        for name in FIELDS:
            assert torch.equal(getattr(got, name)[row, :length], getattr(given, name)[i - 4, :length]), name
            assert not getattr(got, name)[row, length:].any()
        assert got.truncated[row] == given.truncated[i - 4]
    assert got.action.dtype == torch.int64 and got.reward.dtype == torch.float32


def test_samples_of_one_example_are_episodes_of_their_own() -> None:
    memory = replay()
    memory.add(episodes([1, 2], [2, 2, 1, 1], samples=2), [5, 5])
    got = memory.sample(1000, 64, generator())
    assert got.samples == 1
    assert {(int(i), int(a[0])) for i, a in zip(got.observation["id"], got.action, strict=True)} == {
        (1, 100),
        (1, 110),
        (2, 200),
        (2, 210),
    }


def test_the_oldest_goes_first() -> None:
    memory = replay(capacity=5)
    for i in range(8):
        memory.add(episodes([i], [1 + i % 3]), [4 + 30 * (i % 2)])
    assert set(drawn(memory, 200)) == {3, 4, 5, 6, 7}
    memory.add(episodes([8, 9], [2, 2]), [4, 100])
    assert set(drawn(memory, 200)) == {5, 6, 7, 8, 9}


def test_ready_after_the_warm_up() -> None:
    memory = replay(warmup_episodes=3)
    assert not memory.ready()
    memory.add(episodes([0, 1], [1, 1]), [4, 4])
    assert not memory.ready()
    memory.add(episodes([2], [1]), [4])
    assert memory.ready()
    small = replay(capacity=2, warmup_episodes=50)  # a ring that is full will not get fuller
    small.add(episodes([0, 1], [1, 1]), [4, 4])
    assert small.ready()


def chi_square(observed: Counter[int], expected: dict[int, float]) -> float:
    """Pearson's statistic in standard deviations above its mean; a fair draw stays below 5."""
    assert set(observed) <= set(expected)
    total = sum(observed.values()) / sum(expected.values())
    statistic = sum((observed[key] - total * e) ** 2 / (total * e) for key, e in expected.items())
    degrees = len(expected) - 1
    return (statistic - degrees) / (2 * degrees) ** 0.5 if degrees else 0.0


def test_every_episode_is_drawn_equally_often() -> None:
    """60 episodes of very different lengths, some replaced; a fixed seed, so that the test cannot flake.

    A batch holds episodes of one length. Fair are: uniform draws within a length; and lengths drawn in proportion to
    their episodes over the size of their batches, so that batch times chance is the same for every episode.
    """
    memory, chance = replay(capacity=60), generator(2)
    cost = np.random.default_rng(5).choice([5, 9, 14, 30, 60, 130, 300], size=90).tolist()
    for i in range(90):
        memory.add(episodes([i], [1]), [cost[i]])
    lengths, within, size = Counter[int](), Counter[int](), dict[int, int]()
    for _ in range(2500):
        ids = memory.sample(600, 16, chance).observation["id"].tolist()
        lengths[cost[ids[0]]] += 1
        size[cost[ids[0]]] = len(ids)
        within.update(ids)
    held = Counter(cost[30:])
    assert len(held) == 7 and set(within) == set(range(30, 90))
    assert chi_square(lengths, {c: held[c] / size[c] for c in held}) < 5
    assert chi_square(lengths, {c: float(held[c]) for c in held}) > 50, (
        "the twin: lengths drawn by their episodes alone"
    )
    for c in held:
        mine = [i for i in range(30, 90) if cost[i] == c]
        assert chi_square(Counter({i: within[i] for i in mine}), dict.fromkeys(mine, 1.0)) < 5


def test_a_batch_keeps_its_budget() -> None:
    memory = replay()
    cost = [5, 7, 11, 30, 45, 90, 200, 700]
    memory.add(episodes(list(range(8)), [1] * 8), cost)
    chance = generator()
    for _ in range(100):
        ids = memory.sample(400, 12, chance).observation["id"].tolist()
        assert 1 <= len(ids) <= 12
        assert len(ids) == 1 or max(cost[i] for i in ids) * len(ids) <= 400


@pytest.mark.parametrize("count", [0, 3, 12, 40])
def test_state_comes_back_and_draws_go_on(count: int, tmp_path: Any) -> None:
    memory, chance = replay(capacity=15), np.random.default_rng(1)
    for i in range(count):
        memory.add(episodes([i], [1 + i % 4]), [int(chance.integers(4, 80))])
    durable.save_nested(tmp_path, memory.state_dict())
    other = replay(capacity=15)
    other.add(episodes([99], [2]), [5])  # what was there before must not stay
    other.load_state_dict(durable.load_nested(tmp_path))
    for i in range(count, count + 10):  # the ring goes on at the same place
        cost = int(chance.integers(4, 80))
        for each in (memory, other):
            each.add(episodes([i], [1 + i % 4]), [cost])
    one, two = generator(3), generator(3)
    for _ in range(20):
        a, b = memory.sample(100, 8, one), other.sample(100, 8, two)
        assert torch.equal(a.observation["id"], b.observation["id"])
        assert all(torch.equal(getattr(a, name), getattr(b, name)) for name in (*FIELDS, "truncated"))


def test_latest_holds_one_batch() -> None:
    memory = Latest()
    assert not memory.ready()
    one, two = episodes([1], [2]), episodes([2, 3], [1, 1])
    memory.add(one, [4])
    memory.add(two, [4, 4])
    assert memory.ready() and memory.sample(1, 1, generator()) is two
    memory.load_state_dict(memory.state_dict())
    assert not memory.ready()


def test_memories_do_not_share_what_they_hold() -> None:
    one, two = replay(), replay()
    one.add(episodes([1], [2]), [4])
    assert not two.ready() and one.ready()
