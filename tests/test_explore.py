"""Exploration: the log-probability that each strategy returns is that of what it does."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from rlft_cli.episode import ILLEGAL_SCORE, draw, legal_actions
from rlft_cli.explore.epsilon_greedy import EpsilonGreedy
from rlft_cli.explore.greedy import Greedy
from rlft_cli.explore.sample import Sample
from rlft_cli.explore.ucb import Ucb

DRAWS = 40_000
Z = 5.0  # standard deviations of a count; a right strategy fails once in a million such comparisons
# scores of three states over four actions: a clear best, a tie of three (one of them illegal), one legal action only
SCORES = torch.tensor([[0.5, 2.0, 1.0, -3.0], [1.0, 1.0, 0.0, 1.0], [0.0, 5.0, 3.0, 1.0]])
LEGAL = torch.tensor([[True, True, True, True], [True, True, True, False], [False, False, True, False]])
BEST = torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
UNIFORM = LEGAL.float() / LEGAL.sum(1, keepdim=True)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def epsilon_greedy(
    start: float = 0.3, end: float = 0.3, decay_fraction: float = 0.5, schedule: Any = "linear"
) -> EpsilonGreedy:
    return EpsilonGreedy(start=start, end=end, decay_fraction=decay_fraction, schedule=schedule)


def softened(temperature: float) -> Tensor:
    return torch.softmax(SCORES.masked_fill(~LEGAL, -torch.inf) / temperature, -1)


STRATEGIES = {
    "greedy": (Greedy(split_ties=True), BEST),
    "first": (Greedy(split_ties=False), torch.tensor([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0]])),
    "epsilon_greedy": (epsilon_greedy(), 0.3 * UNIFORM + 0.7 * BEST),
    "random": (epsilon_greedy(1.0, 1.0), UNIFORM),
    "epsilon_0": (epsilon_greedy(0.0, 0.0), BEST),
    "sample": (Sample(temperature=1.0), softened(1.0)),
    "sample_cold": (Sample(temperature=0.5), softened(0.5)),
    "sample_hot": (Sample(temperature=3.0), softened(3.0)),
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_log_prob_is_exact(name: str) -> None:
    """Closed form, and the frequency of many draws."""
    explore, expected = STRATEGIES[name]
    assert (expected.sum(1) - 1).abs().max() < 1e-6 and (expected[~LEGAL] == 0).all()
    for state in range(3):
        scores, legal = SCORES[state].expand(DRAWS, 4), LEGAL[state].expand(DRAWS, 4)
        action, log_prob = explore(scores, legal, 0.7, generator(state))
        assert action.dtype == torch.int64 and action.shape == log_prob.shape == (DRAWS,)
        assert legal.gather(1, action[:, None]).all(), "an illegal action was taken"
        assert (log_prob - expected[state][action].log()).abs().max() < 1e-5
        for a in range(4):
            p = float(expected[state, a])
            spread = math.sqrt(max(p * (1 - p), 1e-12) * DRAWS)
            assert abs(int((action == a).sum()) - p * DRAWS) <= Z * spread + 1e-6


@pytest.mark.parametrize("name", STRATEGIES)
def test_chances_of_legal_actions_sum_to_one(name: str) -> None:
    explore, _ = STRATEGIES[name]
    if name == "first":
        return  # deterministic: 1 for what it takes
    action, log_prob = explore(SCORES[0].expand(DRAWS, 4), LEGAL[0].expand(DRAWS, 4), 0.7, generator())
    chance = torch.zeros(4).scatter(0, action, log_prob.exp())
    assert abs(float(chance.sum()) - 1) < 1e-5


@pytest.mark.parametrize("name", STRATEGIES)
def test_scores_that_hold_the_mask_already_are_read_alike(name: str) -> None:
    explore, _ = STRATEGIES[name]
    masked = SCORES.masked_fill(~LEGAL, ILLEGAL_SCORE)
    one, two = (explore(scores, LEGAL, 0.7, generator(4)) for scores in (SCORES, masked))
    assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])


def test_legality_is_read_from_the_scores() -> None:
    scores = torch.tensor([[0.0, ILLEGAL_SCORE, -1e4], [ILLEGAL_SCORE / 0.5, 1e4, 0.0]])
    assert legal_actions(scores).tolist() == [[True, False, True], [False, True, True]]


@pytest.mark.parametrize("temperature", [0.05, 0.7, 1.0, 50.0])
def test_a_warped_illegal_score_stays_illegal(temperature: float) -> None:
    """At a high temperature the division alone would bring it back among the legal ones."""
    scores = torch.tensor([[3.0, ILLEGAL_SCORE, 1.0]])
    warped = Sample(temperature=temperature).warp(scores)
    assert legal_actions(warped).tolist() == [[True, False, True]]
    assert (warped[0, [0, 2]] - scores[0, [0, 2]] / temperature).abs().max() < 1e-5
    assert float(torch.softmax(warped, -1)[0, 1]) == 0.0


@pytest.mark.parametrize("explore", [Greedy(split_ties=True), epsilon_greedy(), Ucb(c=1.0)])
def test_ranking_strategies_leave_the_scores_alone(explore: Any) -> None:
    assert torch.equal(explore.warp(SCORES), SCORES)


def test_the_generator_decides() -> None:
    explore, many = Sample(temperature=1.0), torch.zeros(50, 4)
    legal = torch.ones(50, 4, dtype=torch.bool)
    one, same, other = (explore(many, legal, 0.0, generator(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


# -- drawing -------------------------------------------------------------------------------------------------------


def test_drawn_frequencies_over_a_large_vocabulary() -> None:
    """A chi-square of ten groups of actions, one of them all of chance zero, over 20,000 actions."""
    chance = torch.rand(20_000, generator=generator()).pow(4)
    chance[torch.arange(20_000) % 10 == 3] = 0.0
    chance[0] = chance[-1] = 0.0
    action = draw(chance.expand(500, -1), generator(1))
    found = torch.bincount(action % 10, minlength=10).double()
    weight = chance.double().view(-1, 10).sum(0)
    expected = weight / weight.sum() * len(action)
    assert (chance[action] > 0).all() and found[3] == 0
    some = expected > 0
    # 9 groups, 8 degrees of freedom: above 44 once in 2 million
    assert float(((found - expected)[some] ** 2 / expected[some]).sum()) < 44.0


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
def test_the_ends_of_the_uniform_number_draw_no_action_of_chance_zero(
    uniform: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "rand", lambda *size, **how: torch.full(size, uniform, dtype=torch.float64))
    chance = torch.tensor([[0.0, 0.3, 0.0, 0.7, 0.0], [0.0, 0.0, 1e-30, 0.0, 0.0], [0.0, 0.1, 1e-9, 0.2, 0.0]])
    assert draw(chance, generator()).tolist() == ([1, 2, 1] if uniform == 0.0 else [3, 2, 3])


# -- schedules -----------------------------------------------------------------------------------------------------


def test_linear() -> None:
    # 0.3 to 0.1 over the first half: 0.2 at a quarter
    explore = epsilon_greedy(0.3, 0.1, 0.5, "linear")
    found = [explore.epsilon(progress) for progress in (0.0, 0.25, 0.5, 1.0)]
    assert found == pytest.approx([0.3, 0.2, 0.1, 0.1])


def test_exponential() -> None:
    # 0.4 to 0.1: half of it halfway (the geometric mean), the end after the decay
    explore = epsilon_greedy(0.4, 0.1, 0.5, "exponential")
    assert [explore.epsilon(p) for p in (0.0, 0.25, 0.5, 1.0)] == pytest.approx([0.4, 0.2, 0.1, 0.1])
    nearly = epsilon_greedy(0.4, 0.0, 1.0, "exponential")
    assert 0 < nearly.epsilon(1.0) < 1e-5 and nearly.epsilon(0.0) == pytest.approx(0.4)


def test_constant() -> None:
    explore = epsilon_greedy(0.4, 0.1, 0.5, "constant")
    assert {explore.epsilon(p) for p in (0.0, 0.3, 1.0)} == {0.4}


# -- ucb -----------------------------------------------------------------------------------------------------------


def test_ucb_tries_every_legal_action_first() -> None:
    explore, legal = Ucb(c=1.0), torch.tensor([[True, True, False, True]])
    scores = torch.tensor([[0.9, 0.1, 5.0, 0.5]])
    assert [int(explore(scores, legal, 0.0, generator())[0]) for _ in range(3)] == [
        0,
        3,
        1,
    ]  # by value among the untried
    assert explore.state_dict()["counts"].tolist() == [1, 1, 0, 1]


def test_ucb_bound_by_hand() -> None:
    # counts 8 and 2, t = 11: bonus sqrt(2 ln 11 / 8) = 0.7743, sqrt(2 ln 11 / 2) = 1.5485; values 1.0 and 0.3:
    # 1.774 < 1.849, so that the second is tried; with c = 0.5: 1.387 > 1.074, and with c = 0 the best is taken
    for c, expected in ((1.0, 1), (0.5, 0), (0.0, 0)):
        explore = Ucb(c=c)
        explore.load_state_dict({"counts": torch.tensor([8.0, 2.0], dtype=torch.float64)})
        action, log_prob = explore(torch.tensor([[1.0, 0.3]]), torch.ones(1, 2, dtype=torch.bool), 0.0, generator())
        assert int(action) == expected and float(log_prob) == 0.0


def test_ucb_has_little_regret() -> None:
    """Arms .9, .8, .5 with known values of 0.5 + what was paid: the best arm is pulled most (METHODS row 31, short)."""
    explore, chance = Ucb(c=0.5), generator(3)
    paid, pulls = torch.zeros(3), torch.zeros(3)
    for _ in range(1500):
        value = torch.where(pulls > 0, paid / pulls.clamp(min=1), 0.5)
        action = int(explore(value[None], torch.ones(1, 3, dtype=torch.bool), 0.0, chance)[0])
        paid[action] += float(torch.rand((), generator=chance) < (0.9, 0.8, 0.5)[action])
        pulls[action] += 1
    assert pulls.argmax() == 0 and pulls[0] > 900
    assert torch.equal(explore.state_dict()["counts"].float(), pulls)


def test_ucb_state_is_a_copy_and_comes_back() -> None:
    explore = Ucb(c=1.0)
    explore(torch.zeros(5, 3), torch.ones(5, 3, dtype=torch.bool), 0.0, generator())
    state = explore.state_dict()
    explore(torch.zeros(5, 3), torch.ones(5, 3, dtype=torch.bool), 0.0, generator())
    assert state["counts"].sum() == 5
    other = Ucb(c=1.0)
    other.load_state_dict(state)
    assert torch.equal(other.state_dict()["counts"], state["counts"]) and explore.state_dict()["counts"].sum() == 10
