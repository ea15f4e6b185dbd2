"""Prioritised replay: drawn by error, weighed by how likely that was, from the loss to the gradient and back."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from thinned import every_other
from torch import Tensor

from rlft_cli import durable
from rlft_cli.episode import Trajectory, blank
from rlft_cli.memory.prioritised import Prioritised
from rlft_cli.update import update
from toy_training import TablePolicy, bind, dqn, optim, plain_gradient_steps, tagged_rows, tiny, training

ERRORS = {0: 1.0, 1: 2.0, 2: 4.0, 3: 1.0}  # of four episodes, the last one long
COST = [9, 9, 9, 40]


def memory(alpha: float = 1.0, beta_start: float = 1.0, capacity: int = 100) -> Prioritised:
    return Prioritised(capacity=capacity, warmup_episodes=1, replay_ratio=1, alpha=alpha, beta_start=beta_start)


def episodes(ids: list[int]) -> Trajectory:
    mask = torch.ones(len(ids), 1, dtype=torch.bool)
    return blank({"id": torch.tensor(ids)}, torch.zeros(len(ids), 1, dtype=torch.int64), mask)


def drawn(held: Prioritised, chance: torch.Generator, most: int = 8) -> tuple[list[int], Tensor]:
    batch = held.sample(80, most, chance)
    ids: list[int] = batch.observation["id"].tolist()
    return ids, batch.weight


def told(alpha: float = 1.0, beta_start: float = 1.0, done: float = 0.0) -> Prioritised:
    """A memory that knows ERRORS: the loss is half their square."""
    held, chance = memory(alpha, beta_start), torch.Generator().manual_seed(0)
    held.add(episodes(list(ERRORS)), COST)
    for _ in range(60):
        ids, _ = drawn(held, chance)
        held.learned(torch.tensor([0.5 * ERRORS[i] ** 2 for i in ids]), done)
    return held


def test_priorities_are_errors() -> None:
    held = told()
    assert held.priorities.value == pytest.approx([1 + 1e-6, 2 + 1e-6, 4 + 1e-6, 1 + 1e-6], rel=1e-6)


@pytest.mark.parametrize(
    ("alpha", "odds"), every_other([(0.5, [1, 2**0.5, 2, 1]), (0.0, [1, 1, 1, 1]), (1.0, [1, 2, 4, 1])])
)
def test_draws_are_in_proportion_to_the_power_of_the_error(alpha: float, odds: list[float]) -> None:
    """Within a length and across lengths: a batch of the short ones has 6 episodes (80 / 12), of the long one 2."""
    held, chance, counts = told(alpha), torch.Generator().manual_seed(1), Counter[int]()
    calls = 3000
    for _ in range(calls):
        counts.update(drawn(held, chance)[0])
    found = np.array([counts[i] for i in range(4)]) / sum(counts.values())
    expected = np.array(odds) / sum(odds)
    # A batch of short ones comes in whole: six draws stand or fall together, hence the wide bound of 6 sigma.
    bound = 6 * (6 * expected * (1 - expected) / sum(counts.values())) ** 0.5
    assert (abs(found - expected) < bound).all(), (found, expected)
    if alpha == 1.0:
        assert (abs(found - 0.25) > bound).any(), "the twin: uniform draws"


def test_weights_undo_the_draws_as_far_as_beta_says() -> None:
    """P is in proportion to 1, 2, 4, 1; the largest weight of a batch is 1, so w_i = (least P of the batch / P_i)^beta."""
    chance = torch.Generator().manual_seed(2)
    for beta_start, done, beta in ((1.0, 0.0, 1.0), (0.4, 0.0, 0.4), (0.4, 0.5, 0.7), (0.4, 1.0, 1.0), (0.0, 0.0, 0.0)):
        held = told(beta_start=beta_start, done=done)
        for _ in range(5):
            ids, weight = drawn(held, chance)
            error = torch.tensor([ERRORS[i] for i in ids])
            assert torch.allclose(weight, (error.min() / error) ** beta, atol=1e-5)


def test_new_episodes_come_first_and_old_ones_go() -> None:
    held = told()
    held.add(episodes([7]), [9])
    assert held.priorities.value[4] == held.priorities.largest == pytest.approx(4, rel=1e-5)
    small = memory(capacity=2)
    for i in range(5):
        small.add(episodes([i]), [9 if i % 2 else 40])
    chance = torch.Generator().manual_seed(3)
    assert {i for _ in range(40) for i in drawn(small, chance)[0]} == {3, 4}


def test_an_episode_without_error_may_still_be_drawn() -> None:
    held, chance = memory(), torch.Generator().manual_seed(0)
    held.add(episodes([0]), [9])
    ids, _ = drawn(held, chance)
    held.learned(torch.zeros(len(ids)), 0.0)
    ids, weight = drawn(held, chance)
    assert set(ids) == {0} and (weight == 1).all()
    held.learned(torch.full((len(ids),), -3.0), 0.0)  # a loss below zero is no error
    assert held.priorities.value == pytest.approx([1e-6])


def test_state_comes_back_and_draws_go_on(tmp_path: Any) -> None:
    held, other = told(0.6, 0.4, 0.3), memory(0.6, 0.4)
    durable.save_nested(tmp_path, held.state_dict())
    other.add(episodes([9]), [5])  # what was there before must not stay
    other.load_state_dict(durable.load_nested(tmp_path))
    one, two = torch.Generator().manual_seed(4), torch.Generator().manual_seed(4)
    for step in range(10):
        for each in (held, other):
            each.add(episodes([10 + step]), [4 + 5 * step])
        (ids, weight), (again, same) = drawn(held, one), drawn(other, two)
        assert ids == again and torch.equal(weight, same)
        for each in (held, other):
            each.learned(torch.arange(len(ids)).float(), 0.5)
    assert other.priorities.done == 0.5


# -- the learner ---------------------------------------------------------------------------------------------------


def gradient(weight: list[float], held: Any) -> Tensor:
    """Gradient of the scores [4, 2, 3] of an update on four episodes that weigh so much."""
    chance = torch.Generator().manual_seed(5)
    policy = TablePolicy(torch.randn(4, 2, 3, generator=chance))
    mask = torch.tensor([[True, True], [True, False], [True, True], [True, False]])
    action = torch.tensor([[0, 1], [2, 0], [1, 1], [0, 0]])
    start = blank({"id": torch.arange(4), "x": torch.zeros(4)}, action, mask)
    batch = replace(start, reward=mask.float() * 2, weight=torch.tensor(weight))
    settings = optim(max_grad_norm=1e9)
    made = training(policy, bind(tagged_rows(4), tiny()), dqn(loss_kind="mse"), count=4, memory=held, optim=settings)
    plain_gradient_steps(made, 0.0)
    grabbed: list[Tensor] = []
    policy.scores.register_hook(lambda found: grabbed.append(found.clone()))
    update(made, batch)
    total: Tensor = torch.stack(grabbed).sum(0)
    return total


class Listens:
    """A memory that writes down what the learner tells it."""

    fresh, by_error, replay_ratio = False, True, 1

    def __init__(self) -> None:
        self.heard: list[tuple[Tensor, float]] = []

    def learned(self, loss: Tensor, done: float) -> None:
        self.heard.append((loss, done))


def test_weights_scale_the_gradients_of_their_episodes() -> None:
    plain, weighed = gradient([1.0] * 4, Listens()), gradient([1.0, 0.5, 0.0, 0.25], Listens())
    assert torch.allclose(weighed, plain * torch.tensor([1.0, 0.5, 0.0, 0.25])[:, None, None], atol=1e-7)
    assert plain[2].abs().max() > 0.01


def test_the_memory_hears_of_the_worst_decision_of_each_episode() -> None:
    """The loss is (Q - 2)^2 / 2 at decisions that exist, without the weight."""
    scores = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(5))
    q = scores.gather(-1, torch.tensor([[0, 1], [2, 0], [1, 1], [0, 0]])[..., None]).squeeze(-1)
    loss = 0.5 * (q - 2) ** 2
    expected = torch.stack([loss[0].max(), loss[1, 0], loss[2].max(), loss[3, 0]])
    one = Listens()
    gradient([1.0, 0.5, 0.0, 0.25], one)
    assert len(one.heard) == 1 and torch.allclose(one.heard[0][0], expected, atol=1e-6)
