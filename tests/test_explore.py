"""Exploration: the log-probability that each strategy returns is that of what it does."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from rlft_cli.episode import ILLEGAL_SCORE, Trajectory, blank, draw, legal_actions
from rlft_cli.errors import UsageError
from rlft_cli.explore.boltzmann import Boltzmann
from rlft_cli.explore.dropout_thompson import DropoutThompson
from rlft_cli.explore.epsilon_greedy import EpsilonGreedy
from rlft_cli.explore.greedy import Greedy
from rlft_cli.explore.linucb import LinUcb
from rlft_cli.explore.mcts import Mcts
from rlft_cli.explore.noisy import Noisy
from rlft_cli.explore.sample import Sample
from rlft_cli.explore.thompson import Thompson
from rlft_cli.explore.ucb import Ucb
from rlft_cli.learner import learn
from rlft_cli.linear import LinearRewards
from rlft_cli.model.head import NoiseScale
from rlft_cli.oracles.toys.acting import decision
from rlft_cli.returns import upper_bound
from toy_training import (
    bind,
    class_rows,
    dqn,
    largest_difference,
    policy_of,
    reinforce,
    tagged_rows,
    tiny,
    training,
    weights,
)

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


def cut(kept: dict[int, list[int]]) -> Tensor:
    """softmax over the kept actions of each state.

    State 0 has chances .140, .626, .230, .004 before: two are .856 of it. State 1 has .422, .422, .155: two are .844.
    """
    scores = torch.full_like(SCORES, -torch.inf)
    for state, actions in kept.items():
        scores[state, actions] = SCORES[state, actions]
    return torch.softmax(scores, -1)


STRATEGIES = {
    "greedy": (Greedy(split_ties=True), BEST),
    "first": (Greedy(split_ties=False), torch.tensor([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0]])),
    "epsilon_greedy": (epsilon_greedy(), 0.3 * UNIFORM + 0.7 * BEST),
    "random": (epsilon_greedy(1.0, 1.0), UNIFORM),
    "epsilon_0": (epsilon_greedy(0.0, 0.0), BEST),
    "sample": (Sample(temperature=1.0, top_k=0, top_p=1.0), softened(1.0)),
    "sample_cold": (Sample(temperature=0.5, top_k=0, top_p=1.0), softened(0.5)),
    "top_k": (Sample(temperature=1.0, top_k=2, top_p=1.0), cut({0: [1, 2], 1: [0, 1], 2: [2]})),
    "top_p": (Sample(temperature=1.0, top_k=0, top_p=0.85), cut({0: [1, 2], 1: [0, 1, 2], 2: [2]})),
    "boltzmann": (Boltzmann(temperature=0.5), softened(0.5)),
    "sample_hot": (Sample(temperature=3.0, top_k=0, top_p=1.0), softened(3.0)),
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_log_prob_is_exact(name: str) -> None:
    """Closed form, and the frequency of many draws."""
    explore, expected = STRATEGIES[name]
    assert (expected.sum(1) - 1).abs().max() < 1e-6 and (expected[~LEGAL] == 0).all()
    for state in range(3):
        scores, legal = SCORES[state].expand(DRAWS, 4), LEGAL[state].expand(DRAWS, 4)
        action, log_prob = explore(decision(scores, legal, 0.7), generator(state))
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
    action, log_prob = explore(decision(SCORES[0].expand(DRAWS, 4), LEGAL[0].expand(DRAWS, 4), 0.7), generator())
    chance = torch.zeros(4).scatter(0, action, log_prob.exp())
    assert abs(float(chance.sum()) - 1) < 1e-5


@pytest.mark.parametrize("name", STRATEGIES)
def test_scores_that_hold_the_mask_already_are_read_alike(name: str) -> None:
    explore, _ = STRATEGIES[name]
    masked = SCORES.masked_fill(~LEGAL, ILLEGAL_SCORE)
    one, two = (explore(decision(scores, LEGAL, 0.7), generator(4)) for scores in (SCORES, masked))
    assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])


def test_legality_is_read_from_the_scores() -> None:
    scores = torch.tensor([[0.0, ILLEGAL_SCORE, -1e4], [ILLEGAL_SCORE / 0.5, 1e4, 0.0]])
    assert legal_actions(scores).tolist() == [[True, False, True], [False, True, True]]


@pytest.mark.parametrize("temperature", [0.05, 0.7, 1.0, 50.0])
def test_a_warped_illegal_score_stays_illegal(temperature: float) -> None:
    """At a high temperature the division alone would bring it back among the legal ones."""
    scores = torch.tensor([[3.0, ILLEGAL_SCORE, 1.0]])
    warped = Sample(temperature=temperature, top_k=0, top_p=1.0).warp(scores)
    assert legal_actions(warped).tolist() == [[True, False, True]]
    assert (warped[0, [0, 2]] - scores[0, [0, 2]] / temperature).abs().max() < 1e-5
    assert float(torch.softmax(warped, -1)[0, 1]) == 0.0


@pytest.mark.parametrize("explore", [Greedy(split_ties=True), epsilon_greedy(), Boltzmann(temperature=0.1)])
def test_ranking_strategies_leave_the_scores_alone(explore: Any) -> None:
    assert torch.equal(explore.warp(SCORES), SCORES)


def test_the_generator_decides() -> None:
    explore, many = Sample(temperature=1.0, top_k=0, top_p=1.0), torch.zeros(50, 4)
    legal = torch.ones(50, 4, dtype=torch.bool)
    one, same, other = (explore(decision(many, legal, 0.0), generator(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


# -- truncation ----------------------------------------------------------------------------------------------------


def test_top_k_and_top_p_together_by_hand() -> None:
    # softmax of ln(8, 4, 2, 1, 1) = 1/2, 1/4, 1/8, 1/16, 1/16; of the best 3: 4/7, 2/7, 1/7. top_p .8 keeps two of those
    # (4/7 < .8 <= 6/7); alone it would keep three of the five (3/4 < .8 <= 7/8)
    scores = torch.tensor([[2.0, 8.0, 1.0, 4.0, 1.0]]).log()
    kept = {(0, 0.8): [0, 1, 3], (3, 0.8): [1, 3], (3, 1.0): [0, 1, 3], (4, 1.0): [0, 1, 2, 3, 4], (1, 0.01): [1]}
    for (k, p), expected in kept.items():
        warped = Sample(temperature=1.0, top_k=k, top_p=p).warp(scores)
        assert legal_actions(warped)[0].nonzero().squeeze(1).tolist() == expected  # of (4, 1.0): the last two tie
        assert torch.equal(warped[0, expected], scores[0, expected])


def test_truncation_lets_gradients_through_to_what_is_kept_only() -> None:
    scores = torch.tensor([[0.0, 3.0, 2.0, 1.0]], requires_grad=True)
    torch.log_softmax(Sample(temperature=2.0, top_k=2, top_p=1.0).warp(scores), -1)[0, 1].backward()
    assert scores.grad is not None and (scores.grad[0] != 0).tolist() == [False, True, True, False]


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


def test_inverse() -> None:
    # 1 / epsilon from 2 to 10 over the first half: 6 at a quarter
    explore = epsilon_greedy(0.5, 0.1, 0.5, "inverse")
    assert [explore.epsilon(p) for p in (0.0, 0.25, 0.5, 1.0)] == pytest.approx([0.5, 1 / 6, 0.1, 0.1])
    assert 0 < epsilon_greedy(0.5, 0.0, 1.0, "inverse").epsilon(1.0) < 1e-5


def test_constant() -> None:
    explore = epsilon_greedy(0.4, 0.1, 0.5, "constant")
    assert {explore.epsilon(p) for p in (0.0, 0.3, 1.0)} == {0.4}


# -- ucb -----------------------------------------------------------------------------------------------------------


def test_ucb_tries_every_legal_action_first() -> None:
    explore, legal = Ucb(c=1.0), torch.tensor([[True, True, False, True]])
    scores = torch.tensor([[0.9, 0.1, 5.0, 0.5]])
    found = [int(explore(decision(scores, legal), generator())[0]) for _ in range(3)]
    assert found == [0, 3, 1]  # by value among the untried
    assert explore.state["counts"].tolist() == [1, 1, 0, 1]


def test_ucb_bound_by_hand() -> None:
    # counts 8 and 2, t = 10: bonus sqrt(2 ln 10 / 8) = 0.7587, sqrt(2 ln 10 / 2) = 1.5174; values 1.0 and 0.3:
    # 1.759 < 1.817, so that the second is tried; with c = 0.5: 1.379 > 1.059, and with c = 0 the best is taken
    bound = upper_bound(torch.tensor([1.0, 0.3]), torch.tensor([8.0, 2.0]), 1.0)
    assert bound.tolist() == pytest.approx([1.7587, 1.8174], abs=1e-4)
    for c, expected in ((1.0, 1), (0.5, 0), (0.0, 0)):
        explore = Ucb(c=c)
        explore.state["counts"] = torch.tensor([8.0, 2.0], dtype=torch.float64)
        action, log_prob = explore(decision(torch.tensor([[1.0, 0.3]])), generator())
        assert int(action) == expected and float(log_prob) == 0.0


def test_ucb_counts_the_plays_of_a_batch_one_after_the_other() -> None:
    together, apart, scores = Ucb(c=1.0), Ucb(c=1.0), torch.rand(40, 5, generator=generator())
    one = together(decision(scores), generator())[0]
    two = torch.cat([apart(decision(row[None]), generator())[0] for row in scores])
    assert torch.equal(one, two) and sorted(one[:5].tolist()) == list(range(5))


# -- linear models of the reward -----------------------------------------------------------------------------------


def linucb(alpha: float = 0.5, **changes: Any) -> LinUcb:
    return LinUcb(alpha=alpha, regression=regression(**changes))


def thompson(noise: float = 0.2, **changes: Any) -> Thompson:
    return Thompson(noise=noise, regression=regression(**changes))


def regression(**changes: Any) -> LinearRewards:
    return LinearRewards(**({"ridge": 1.0, "refresh_batches": 0, "window_episodes": 100} | changes))


def one_step(action: Tensor, reward: Tensor, first: int = 0) -> Trajectory:
    """Episodes of one decision each, of the examples ``first`` and on."""
    known = blank({"id": torch.arange(first, first + len(action))}, action[:, None], torch.ones(len(action), 1).bool())
    return replace(known, reward=reward[:, None].float())


def test_linucb_bound_by_hand() -> None:
    """A batch of one: theta . phi + alpha sqrt(phi . inv(A) phi) of two actions in two dimensions."""
    explore, phi = linucb(alpha=0.5), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    explore(decision(torch.zeros(2, 2), features=phi), generator())
    explore.observe(one_step(torch.tensor([0, 1]), torch.tensor([1.0, 1.0])), lambda _: phi[:, None])
    # action 0: A = diag(2, 1), b = (1, 0), so that theta = (1/2, 0); action 1: A = diag(1, 2), theta = (0, 1/2).
    # phi = (1, 0.4): .5 + .5 sqrt(1/2 + .16) = .9062 and .2 + .5 sqrt(1 + .08) = .7196
    # phi = (.1, .1) with alpha 4: .05 + 4 sqrt(.005 + .01) = .5399 for both; the first of them
    for given, alpha, expected in (([1.0, 0.4], 0.5, 0), ([0.4, 1.0], 0.5, 1), ([1.0, 0.1], 9.0, 1)):
        other = linucb(alpha=alpha)
        other.state.update({name: tensor.clone() for name, tensor in explore.state.items()})
        action, log_prob = other(decision(torch.zeros(1, 2), features=torch.tensor([given])), generator())
        assert int(action) == expected and float(log_prob) == 0.0


def test_linucb_spreads_a_batch_over_actions_before_any_reward_is_there() -> None:
    explore = linucb()
    same = torch.ones(12, 3)
    assert sorted(explore(decision(torch.zeros(12, 6), features=same), generator())[0].tolist()) == sorted(
        [*range(6)] * 2
    )
    legal = torch.tensor([True, False, True, False, False, False]).expand(12, 6)
    assert set(explore(decision(torch.zeros(12, 6), legal, features=same), generator())[0].tolist()) == {0, 2}


def test_thompson_draws_the_posterior_of_each_episode_once() -> None:
    """Mean and covariance of w . phi by many episodes; the same weights at the next decision of an episode."""
    explore = thompson(noise=0.5, ridge=2.0)
    phi = torch.tensor([[3.0, 4.0]])  # of which the direction counts: (.6, .8)
    explore(decision(torch.zeros(1, 2), features=phi), generator())
    explore.observe(one_step(torch.tensor([1]), torch.tensor([3.0])), lambda _: phi[:, None])
    # A = 2 I + phi phi' , phi . inv(A) phi = 1/2 / (1 + 1/2) = 1/3; theta . phi = 3 * 1/3; of action 0: 0 and 1/2
    count = 20_000
    explore(decision(torch.zeros(count, 2), features=phi.expand(count, 2)), generator(1))
    values = torch.einsum("nah,h->na", explore.drawn["weights"], phi[0].double() / 5)
    for a, mean, variance in ((0, 0.0, 0.25 / 2), (1, 1.0, 0.25 / 3)):
        z = (values[:, a].mean() - mean) / math.sqrt(variance / count)
        assert abs(float(z)) < Z
        assert float(values[:, a].var()) == pytest.approx(variance, rel=5 * math.sqrt(2 / count))
    before = explore.drawn["weights"]
    again = explore(decision(torch.zeros(count, 2), features=phi.expand(count, 2), t=1), generator(2))[0]
    assert explore.drawn["weights"] is before and torch.equal(again, values.argmax(1))


def test_what_is_made_anew_reads_an_input_once_for_all_episodes_that_begin_alike() -> None:
    """Several decisions each, examples that come again, with the same actions before a decision and with others."""
    chance = generator(6)
    example, length = torch.tensor([0, 0, 0, 1, 1, 0, 2]), torch.tensor([3, 3, 3, 3, 2, 3, 1])
    action = torch.tensor([[0, 1, 0], [0, 1, 1], [1, 1, 0], [0, 1, 0], [2, 0, 0], [0, 1, 0], [2, 0, 0]])
    mask = torch.arange(3) < length[:, None]
    given = replace(
        blank({"id": example}, action, mask),
        reward=torch.where(mask, torch.rand(7, 3, generator=chance), 0.0),
        observed=torch.rand(7, 3, generator=chance) < 0.8,
    )
    base, read = torch.randn(3, 4, generator=chance), []

    def features(trajectory: Trajectory) -> Tensor:
        """Of the example, and of the actions before."""
        ids = trajectory.observation["id"]
        read.append(len(ids))
        before = torch.cat([torch.zeros(len(ids), 1), trajectory.action[:, :-1].float().cumsum(1)], dim=1)
        return base[ids][:, None, :] + before[..., None] * torch.tensor([1.0, -1.0, 0.5, 2.0])

    whole, anew = linucb(), linucb(refresh_batches=1)
    for explore in (whole, anew):
        explore(decision(torch.zeros(1, 3), features=torch.ones(1, 4)), generator())
        explore.observe(given, features)
    assert read == [7, 5]  # (0, 1) of example 0 comes three times
    for name in ("inverse", "moment"):
        assert torch.allclose(whole.state[name], anew.state[name], atol=1e-12)


@pytest.mark.parametrize("make", [linucb, thompson])
def test_models_are_made_anew_from_the_latest_episodes_with_features_of_now(make: Any) -> None:
    chance = generator(5)
    old, new = torch.randn(20, 4, generator=chance), torch.randn(20, 4, generator=chance)
    action, reward = torch.randint(3, (20,), generator=chance), torch.rand(20, generator=chance)
    explore = make(refresh_batches=4, window_episodes=12)
    explore(decision(torch.zeros(20, 3), features=old), generator())
    for batch in range(4):
        some = slice(5 * batch, 5 * batch + 5)
        table = old if batch < 3 else new  # what the network makes of the same examples later
        told = one_step(action[some], reward[some], 5 * batch)
        explore.observe(told, lambda asked, table=table: table[asked.observation["id"]][:, None])
    other = make()
    other(decision(torch.zeros(20, 3), features=old), generator())
    other.observe(one_step(action[8:], reward[8:], 8), lambda asked: new[asked.observation["id"]][:, None])
    for name in ("inverse", "moment"):
        assert (explore.state[name] - other.state[name]).abs().max() < 1e-6, name  # rewards are kept in float32


def test_decisions_without_a_reaction_do_not_enter() -> None:
    explore, phi = linucb(), torch.ones(2, 3)
    explore(decision(torch.zeros(2, 2), features=phi), generator())
    told = one_step(torch.tensor([0, 1]), torch.tensor([1.0, 1.0]))
    explore.observe(replace(told, observed=torch.tensor([[True], [False]])), lambda _: phi[:, None])
    assert (
        float(explore.state["moment"][0].sum()) == pytest.approx(3**0.5)
        and float(explore.state["moment"][1].abs().sum()) == 0.0
    )


# -- draws for whole episodes --------------------------------------------------------------------------------------


def test_dropout_masks_and_noise_by_their_moments() -> None:
    mask = DropoutThompson(p=0.2).perturb(2000, 50, 7, generator())["feature_mask"]
    assert mask.shape == (2000, 50) and set(mask.unique().tolist()) == {0.0, 1.25}
    assert abs(float((mask == 0).float().mean()) - 0.2) < Z * math.sqrt(0.16 / 1e5)
    noise = Noisy(sigma_start=0.5).perturb(2000, 50, 7, generator())["weight_noise"]
    # f(e)^2 = |e|, whose mean is sqrt(2 / pi); the output's part is scaled by sigma_start
    assert noise.shape == (2000, 57)
    assert float(noise[:, :50].square().mean()) == pytest.approx(math.sqrt(2 / math.pi), rel=0.02)
    assert float(noise[:, 50:].square().mean()) == pytest.approx(0.25 * math.sqrt(2 / math.pi), rel=0.05)
    assert abs(float(noise[:, :50].mean())) < Z * math.sqrt(0.8 / 1e5)


def test_noise_of_a_layer_by_hand() -> None:
    # x = (1, 2), e_in = (3, -1), e_out = (2): S = (.5, .25), s = .1 gives 2 (.5 * 3 + .25 * -2 + .1) = 2.2
    layer = NoiseScale(2, 1)
    assert torch.equal(layer.weight, torch.full((1, 2), 2**-0.5))
    layer.weight.data, layer.bias.data = torch.tensor([[0.5, 0.25]]), torch.tensor([0.1])
    added = layer(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -1.0, 2.0]]))
    assert added.tolist() == [[pytest.approx(2.2)]]


# -- what every strategy keeps to ----------------------------------------------------------------------------------

EVERY: dict[str, Any] = {
    "ucb": lambda: Ucb(c=1.0),
    "linucb": linucb,
    "thompson": thompson,
    "dropout_thompson": lambda: DropoutThompson(p=0.1),
    "noisy": lambda: Noisy(sigma_start=0.5),
    "mcts": lambda: Mcts(simulations=9, exploration=1.25, temperature=0.1, width=3),
}


@pytest.mark.parametrize("name", EVERY)
def test_deterministic_strategies_say_so_and_keep_to_what_is_legal(name: str) -> None:
    explore = EVERY[name]()
    assert explore.propensities is False and explore.on_policy is False and "tokens" not in explore.decisions
    legal = torch.rand(200, 6, generator=generator()) < 0.4
    legal[:, 3] = True
    scores, features = torch.randn(200, 6, generator=generator()), torch.randn(200, 4, generator=generator())
    for _ in range(2):
        action, log_prob = explore(decision(scores, legal, features=features), generator(1))
        assert legal.gather(1, action[:, None]).all() and action.dtype == torch.int64
        assert float(log_prob.abs().max()) == 0.0
    assert torch.equal(explore.warp(scores), scores)


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_others_draw_nothing_for_episodes_and_keep_nothing(name: str) -> None:
    explore, _ = STRATEGIES[name]
    assert explore.perturb(3, 4, 5, generator()) == {} and explore.state == {}
    assert explore.propensities is ("greedy" != name != "first")


# -- in the loop ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [tagged_rows, class_rows], ids=["tags", "classes"])
@pytest.mark.parametrize("name", EVERY)
def test_a_value_based_algorithm_learns_with_it(name: str, rows: Any) -> None:
    explore, model = EVERY[name](), tiny()
    task = bind(rows(24), model)
    policy = policy_of(model, task, frozenset(explore.reads))
    before = weights(policy)
    made = training(policy, task, dqn(), count=24, explore=explore, passes=2.0)
    seen = list(learn(made))
    assert all(math.isfinite(progress.signals["loss"]) for progress in seen)
    assert 0 < made.regret < made.decided
    assert all(
        largest_difference({"w": before[key]}, {"w": weights(policy)[key]}) > 0 for key in before if "noise" in key
    )


def test_regret_is_the_number_of_wrong_decisions() -> None:
    model = tiny()
    task = bind(class_rows(24), model)
    made = training(policy_of(model, task), task, dqn(), count=24, explore=epsilon_greedy(1.0, 1.0), passes=2.0)
    before, right = 0, 0.0
    for progress in learn(made):  # a reward of 1 for each right decision
        right += progress.signals["reward"] * (made.decided - before)
        before = made.decided
    assert made.decided == made.seen and made.regret == made.decided - round(right)


def test_a_reference_that_cuts_an_action_off_is_refused() -> None:
    model = tiny()
    task = bind(class_rows(24), model)
    policy = policy_of(model, task)
    explore = Sample(temperature=1.0, top_k=1, top_p=1.0)
    made = training(policy, task, reinforce(kl_coefficient=0.1), count=24, explore=explore)
    for weight in policy.parameters():  # away from the reference
        weight.data += torch.randn_like(weight)
    with pytest.raises(UsageError, match=r"explore\.top_k=0 explore\.top_p=1\.0"):
        list(learn(made))
