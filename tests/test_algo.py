"""Each algorithm's loss, advantages and needs: golden values by hand arithmetic."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from rlft_cli.episode import ILLEGAL_SCORE, Trajectory, blank
from rlft_cli.errors import UsageError
from rlft_cli.model import Output
from toy_training import actor_critic, dqn, grpo, ppo, reinforce, supervised

LN2, LN3 = math.log(2), math.log(3)


def episodes(action: list[list[int]], lengths: list[int], samples: int = 1, **columns: Any) -> Trajectory:
    tensor = torch.tensor(action)
    mask = torch.arange(tensor.shape[1])[None, :] < torch.tensor(lengths)[:, None]
    given: dict[str, Any] = {name: torch.as_tensor(value) for name, value in columns.items()}
    return replace(blank({"id": torch.arange(len(action) // samples)}, tensor, mask), **given)


def output(scores: Any, value: Any = None) -> Output:
    return Output(scores=torch.as_tensor(scores), value=None if value is None else torch.as_tensor(value))


def close(found: Tensor, expected: Any) -> None:
    wanted = torch.as_tensor(expected)
    assert found.shape == wanted.shape and (found - wanted).abs().max() < 1e-6, found


# -- supervised ----------------------------------------------------------------------------------------------------


def test_cross_entropy() -> None:
    # softmax(0, ln 2, ln 5) = (1, 2, 5) / 8
    scores = [[[0.0, LN2, math.log(5)]] * 2]
    close(supervised().loss(output(scores), episodes([[0, 2]], [2]), None), [[math.log(8), math.log(8 / 5)]])


def test_label_smoothing_is_spread_over_legal_actions() -> None:
    # softmax(0, ln 3) = (1/4, 3/4) and one illegal; s = 0.2, a = 1:
    # -0.8 ln(3/4) - 0.2 (ln(1/4) + ln(3/4)) / 2
    scores = [[[0.0, LN3, ILLEGAL_SCORE]]]
    expected = 0.8 * math.log(4 / 3) + 0.1 * (math.log(4) + math.log(4 / 3))
    close(supervised(0.2).loss(output(scores), episodes([[1]], [1]), None), [[expected]])


# -- dqn -----------------------------------------------------------------------------------------------------------


def test_bandit_loss_is_the_bernoulli_likelihood_of_the_reward() -> None:
    # sigma(ln 3) = 3/4: paid 1 it costs ln 4/3, paid 0 it costs ln 4
    data = episodes([[1], [1]], [1, 1], reward=[[1.0], [0.0]])
    close(dqn().loss(output([[[9.0, LN3]]] * 2), data, None), [[math.log(4 / 3)], [math.log(4)]])


def test_values_are_in_the_unit_of_the_reward() -> None:
    close(dqn().values(torch.tensor([0.0, LN3])), [0.5, 0.75])
    close(dqn(loss_kind="mse").values(torch.tensor([0.0, LN3])), [0.0, LN3])


def test_max_and_double_backups_differ_as_they_should() -> None:
    # a = (0, 1), rewards 1 and 2, gamma 1/2. In the second state the online policy prefers action 0, the target rates
    # it 4 and action 1 it rates 6: double y = 1 + 4/2 = 3, max y = 1 + 6/2 = 4; at the end y = 2 both times.
    data = episodes([[0, 1]], [2], reward=[[1.0, 2.0]])
    online, target = output([[[0.0, 0.0], [8.0, 5.0]]]), output([[[0.0, 0.0], [4.0, 6.0]]])
    double = dqn(gamma=0.5, loss_kind="mse").loss(online, data, target)
    close(double, [[0.5 * 3.0**2, 0.5 * (5.0 - 2.0) ** 2]])
    close(dqn(gamma=0.5, loss_kind="mse", backup="max").loss(online, data, target), [[0.5 * 4.0**2, 4.5]])


def test_two_steps() -> None:
    # rewards 1, 2, 4; gamma 1/2; V of the third state 6: y_0 = 1 + 2/2 + 6/4 = 3.5; y_1 = 2 + 4/2 = 4; y_2 = 4
    data = episodes([[0, 0, 0]], [3], reward=[[1.0, 2.0, 4.0]])
    zero, target = output(torch.zeros(1, 3, 2)), output([[[0.0, 0.0], [0.0, 0.0], [6.0, 0.0]]])
    found = dqn(gamma=0.5, loss_kind="mse", n_step=2).loss(zero, data, target)
    close(found, [[0.5 * 3.5**2, 8.0, 8.0]])


def test_soft_loss_of_one_decision() -> None:
    # beta 2, V = 1, pi = 3/4, pi_ref = 1/2: Q = 1 + 2 ln(3/2); the reward is 5 and nothing follows
    data = episodes([[1]], [1], reward=[[5.0]], reference_log_prob=[[-LN2]])
    algorithm = dqn(gamma=1.0, loss_kind="mse", backup="soft", kl_coefficient=2.0)
    close(algorithm.loss(output([[[0.0, LN3]]], [[1.0]]), data, None), [[0.5 * (1 + 2 * math.log(1.5) - 5) ** 2]])


@pytest.mark.parametrize(
    ("changes", "reads", "target"),
    [
        ({}, set(), False),
        ({"gamma": 0.9, "loss_kind": "mse"}, set(), True),
        ({"gamma": 0.9, "loss_kind": "mse", "target": "none"}, set(), False),
        ({"dueling": True}, {"dueling"}, False),
        ({"gamma": 1.0, "loss_kind": "huber", "backup": "soft"}, {"value", "reference"}, True),
    ],
)
def test_what_dqn_needs(changes: dict[str, Any], reads: set[str], target: bool) -> None:
    algorithm = dqn(**changes)
    assert (algorithm.reads, algorithm.uses_target) == (frozenset(reads), target)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: dqn(gamma=0.5), "algo.gamma=0"),
        (lambda: dqn(backup="soft"), "algo.backup=soft"),
        (lambda: dqn(backup="soft", loss_kind="mse", dueling=True), "algo.backup=soft"),
        (lambda: dqn(backup="soft", loss_kind="mse", kl_coefficient=0.0), "algo.kl_coefficient"),
        (lambda: reinforce(samples=1), "algo.samples=4"),
    ],
)
def test_combinations_without_meaning_are_wrong_use(make: Any, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        make()


# -- reinforce -----------------------------------------------------------------------------------------------------


def advantage(algorithm: Any, data: Trajectory) -> Tensor:
    found: Tensor = algorithm.prepare(data).advantage
    return found


def test_leave_one_out_by_decision() -> None:
    # two samples of one example, rewards (1, 0) and (0, 1), the second ended after two; gamma 0: each word by itself
    data = episodes([[0, 0], [0, 0]], [2, 2], samples=2, reward=[[1.0, 0.0], [0.0, 1.0]])
    close(advantage(reinforce(samples=2), data), [[1.0, -1.0], [-1.0, 1.0]])
    # gamma 1: returns to go (1, 0) and (1, 1)
    close(advantage(reinforce(samples=2, gamma=1.0), data), [[0.0, -1.0], [0.0, 1.0]])
    # credit by episode: 1 and 1 everywhere
    close(advantage(reinforce(samples=2, credit="episode"), data), [[0.0, 0.0], [0.0, 0.0]])


def test_self_critical() -> None:
    data = episodes([[0, 0]], [2], reward=[[1.0, 3.0]], greedy_reward=[[2.0, 0.0]])
    close(advantage(reinforce(samples=1, baseline="self_critical"), data), [[-1.0, 3.0]])
    close(advantage(reinforce(samples=1, baseline="self_critical", gamma=1.0), data), [[2.0, 3.0]])


def test_moving_average_is_that_of_earlier_batches() -> None:
    # decay 3/4; batch means 4, 8, 0: baselines 0 (nothing known), 4, 4 * 3/4 + 8/4 = 5
    algorithm = reinforce(samples=1, baseline="moving_average", moving_average_decay=0.75)
    for mean, baseline in ((4.0, 0.0), (8.0, 4.0), (0.0, 5.0)):
        data = episodes([[0, 0]], [2], reward=[[mean + 1, mean - 1]])
        close(advantage(algorithm, data), [[mean + 1 - baseline, mean - 1 - baseline]])
    assert float(algorithm.state["baseline"]) == 3.75


def test_moving_averages_are_not_shared() -> None:
    one, two = (reinforce(samples=1, baseline="moving_average") for _ in range(2))
    one.prepare(episodes([[0]], [1], reward=[[1.0]]))
    assert two.state == {}


def test_kl_is_paid_in_the_reward() -> None:
    # beta 2: 1 - 2 (ln(3/4) - ln(1/2)) = 1 - 2 ln(3/2)
    log_prob, reference = [[math.log(0.75)]], [[math.log(0.5)]]
    data = episodes([[1]], [1], reward=[[1.0]], log_prob=log_prob, reference_log_prob=reference)
    found = advantage(reinforce(samples=1, baseline="none", kl_coefficient=2.0), data)
    close(found, [[1 - 2 * math.log(1.5)]])


def test_no_advantage_beyond_the_end() -> None:
    data = episodes([[0, 0], [0, 0]], [1, 2], samples=2, reward=[[1.0, 9.0], [0.0, 1.0]])
    for algorithm in (
        reinforce(samples=2),
        reinforce(samples=2, baseline="none", credit="episode"),
        reinforce(samples=2, baseline="moving_average"),
        reinforce(samples=2, baseline="value"),
        actor_critic(samples=2, gamma=0.5),
        ppo(samples=2, gamma=0.5),
        grpo(samples=2, credit="episode"),
    ):
        assert advantage(algorithm, data)[0, 1] == 0


def test_surrogate_with_entropy_bonus() -> None:
    # softmax(0, ln 3) = (1/4, 3/4): -2 ln(3/4) - 0.1 H, H = 1/4 ln 4 + 3/4 ln 4/3
    data = episodes([[1]], [1], advantage=[[2.0]])
    entropy = 0.25 * math.log(4) + 0.75 * math.log(4 / 3)
    algorithm = reinforce(samples=1, baseline="none", entropy_coefficient=0.1)
    close(algorithm.loss(output([[[0.0, LN3]]]), data, None), [[2 * math.log(4 / 3) - 0.1 * entropy]])


def test_what_reinforce_needs() -> None:
    assert reinforce().reads == frozenset()
    assert reinforce(baseline="self_critical", kl_coefficient=0.1).reads == {"greedy", "reference"}
    assert reinforce(baseline="value").reads == {"value"}
    assert not reinforce().uses_target and reinforce().epochs == 1


def test_learned_value_as_baseline() -> None:
    # rewards 1 and 3, gamma 1: returns 4 and 3; the values foreseen are 1/2 and 1
    data = episodes([[1, 1]], [2], reward=[[1.0, 3.0]], value=[[0.5, 1.0]])
    algorithm = reinforce(samples=1, baseline="value", gamma=1.0, value_coefficient=0.5)
    prepared = algorithm.prepare(data)
    close(prepared.advantage, [[3.5, 2.0]])
    # -A ln(3/4) + 1/2 * 1/2 (V - G)^2, the value is now 2 and 3; no gradient of the policy comes from the value
    found = algorithm.loss(output([[[0.0, LN3]] * 2], [[2.0, 3.0]]), prepared, None)
    close(found, [[3.5 * math.log(4 / 3) + 0.25 * 4.0, 2.0 * math.log(4 / 3)]])


def test_kl_as_a_loss_leaves_the_reward_alone() -> None:
    # beta 2, u = ln(3/4) - ln(1/2) = ln(3/2): 2 u^2 / 2 beside -A ln(3/4), A = 1
    data = episodes([[1]], [1], reward=[[1.0]], log_prob=[[math.log(0.75)]], reference_log_prob=[[-LN2]])
    algorithm = reinforce(samples=1, baseline="none", kl_coefficient=2.0, kl_in="loss")
    prepared = algorithm.prepare(data)
    close(prepared.advantage, [[1.0]])
    found = algorithm.loss(output([[[0.0, LN3]]]), prepared, None)
    close(found, [[math.log(4 / 3) + math.log(1.5) ** 2]])
    assert algorithm.reads == {"reference"}


def test_how_many_samples_leave_one_out_needs() -> None:
    # returns 1, 1, 1, 0: Var = 1/4 (unbiased), mean 3/4, E[R]^2 = 9/16 - Var/4 = 1/2: more than 1 + 1/2 samples
    algorithm = reinforce(samples=4, moving_average_decay=0.75)
    algorithm.prepare(episodes([[0]] * 4, [1] * 4, samples=4, reward=[[1.0], [1.0], [1.0], [0.0]]))
    assert float(algorithm.state["break_even"]) == pytest.approx(1.5)
    # then 4, 0, 0, 0: Var 4, E[R]^2 = 1 - 1 = 0. Averages 1/4 * 3/4 + 4 / 4 = 19/16 and 1/2 * 3/4 = 3/8
    algorithm.prepare(episodes([[0]] * 4, [1] * 4, samples=4, reward=[[4.0], [0.0], [0.0], [0.0]]))
    assert float(algorithm.state["break_even"]) == pytest.approx(1 + (19 / 16) / (3 / 8))
    # nobody reacted: nothing is learned of it
    data = episodes([[0]] * 4, [1] * 4, samples=4)
    algorithm.prepare(replace(data, observed=torch.zeros_like(data.mask)))
    assert float(algorithm.state["break_even"]) == pytest.approx(1 + (19 / 16) / (3 / 8))
    assert reinforce(samples=1, baseline="none").state == {}


# -- actor-critic --------------------------------------------------------------------------------------------------


def test_actor_critic() -> None:
    # gamma = lambda = 1/2, rewards 1 and 2, values 2 and 4: delta_1 = 2 - 4 = -2, delta_0 = 1 + 4/2 - 2 = 1,
    # A_0 = 1 - 2/4 = 1/2. Regression targets A + V: 5/2 and 2, the value is now 5/2 and 5.
    data = episodes([[1, 1]], [2], reward=[[1.0, 2.0]], value=[[2.0, 4.0]])
    algorithm = actor_critic(gamma=0.5, gae_lambda=0.5, value_coefficient=0.5)
    prepared = algorithm.prepare(data)
    close(prepared.advantage, [[0.5, -2.0]])
    found = algorithm.loss(output([[[0.0, LN3]] * 2], [[2.5, 5.0]]), prepared, None)
    close(found, [[0.5 * math.log(4 / 3), -2.0 * math.log(4 / 3) + 0.25 * 9.0]])


@pytest.mark.parametrize("make", [actor_critic, ppo])
def test_actors_pay_the_kl_in_the_reward(make: Any) -> None:
    columns = {"log_prob": [[math.log(0.75)]], "reference_log_prob": [[-LN2]]}
    data = episodes([[1]], [1], reward=[[1.0]], value=[[0.25]], **columns)
    close(advantage(make(kl_coefficient=2.0), data), [[1 - 2 * math.log(1.5) - 0.25]])
    assert make(kl_coefficient=2.0).reads == {"value", "reference"} and make().reads == {"value"}


# -- ppo -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value_clip", "distances"), [(None, (0.0, 4.0)), (0.2, (0.64, 4.0))])
def test_ppo(value_clip: float | None, distances: tuple[float, float]) -> None:
    # pi_old = 1/2, pi = 3/4: rho = 3/2, clipped 6/5. A = 1: -min(3/2, 6/5); A = -1: -min(-3/2, -6/5).
    # V_old = 0, so A + V_old = 1 and -1; V = 1: (V - R)^2 = 0 and 4; within 0.2 of V_old it is 0.2: 0.64 and 1.44.
    columns = {"reward": [[1.0], [-1.0]], "log_prob": [[-LN2], [-LN2]]}
    data = episodes([[1], [1]], [1, 1], **columns)
    algorithm = ppo(clip_range=0.2, value_clip_range=value_clip, value_coefficient=0.5)
    found = algorithm.loss(output([[[0.0, LN3]]] * 2, [[1.0], [1.0]]), algorithm.prepare(data), None)
    close(found, [[-1.2 + 0.25 * distances[0]], [1.5 + 0.25 * distances[1]]])


@pytest.mark.parametrize(
    ("make", "surrogate"), [(actor_critic, 2 * math.log(4 / 3)), (ppo, -2.0), (grpo, -2.0)], ids=["a2c", "ppo", "grpo"]
)
def test_the_entropy_bonus_of_the_others(make: Any, surrogate: float) -> None:
    # A = 2 and rho = 1; the value is what it should be; softmax(0, ln 3) = (1/4, 3/4)
    entropy = 0.25 * math.log(4) + 0.75 * math.log(4 / 3)
    data = episodes([[1]], [1], log_prob=[[math.log(0.75)]], advantage=[[2.0]], value=[[-2.0]])
    found = make(entropy_coefficient=0.1).loss(output([[[0.0, LN3]]], [[0.0]]), data, None)
    close(found, [[surrogate - 0.1 * entropy]])


# -- grpo ----------------------------------------------------------------------------------------------------------


def test_grpo() -> None:
    # rewards 1 and 0 of one example: 1/2 and -1/2 off their mean; rho = 3/2: -min(3/4, 3/5) and -min(-3/4, -3/5)
    data = episodes([[1], [1]], [1, 1], samples=2, reward=[[1.0], [0.0]], log_prob=[[-LN2], [-LN2]])
    algorithm = grpo(samples=2)
    prepared = algorithm.prepare(data)
    close(prepared.advantage, [[0.5], [-0.5]])
    close(algorithm.loss(output([[[0.0, LN3]]] * 2), prepared, None), [[-0.6], [0.75]])


def test_grpo_scaled() -> None:
    # the standard deviation of 1 and 0 is sqrt(1/2)
    data = episodes([[1], [1]], [1, 1], samples=2, reward=[[1.0], [0.0]])
    scaled = 0.5 / (math.sqrt(0.5) + 1e-4)
    close(advantage(grpo(samples=2, scale_rewards=True), data), [[scaled], [-scaled]])


def test_grpo_credits_and_pays_the_kl() -> None:
    data = episodes([[0, 0], [0, 0]], [2, 2], samples=2, reward=[[0.0, 1.0], [0.0, 0.0]])
    close(advantage(grpo(samples=2, credit="episode"), data), [[0.5, 0.5], [-0.5, -0.5]])
    close(advantage(grpo(samples=2), data), [[0.0, 0.5], [0.0, -0.5]])
    # beta 2, a nat from the reference in the first episode only: 1 - 2 and 0, half of their difference
    away = {"log_prob": torch.tensor([[0.0, -1.0], [0.0, 0.0]])}
    priced = replace(data, **away, reference_log_prob=torch.tensor([[0.0, -2.0], [0.0, 0.0]]))
    close(advantage(grpo(samples=2, credit="episode", kl_coefficient=2.0), priced), [[-0.5, -0.5], [0.5, 0.5]])
    assert grpo(kl_coefficient=2.0).reads == {"reference"} and grpo().reads == frozenset()


@pytest.mark.parametrize("make", [supervised, dqn, reinforce, actor_critic, ppo, grpo])
def test_losses_are_unreduced_and_leave_their_input_alone(make: Any) -> None:
    algorithm = make()
    data = episodes([[0, 1, 2]] * 4, [3, 1, 2, 3], samples=algorithm.samples)
    scores = torch.randn(4, 3, 3)
    before = scores.clone()
    loss = algorithm.loss(output(scores, torch.zeros(4, 3)), algorithm.prepare(data), None)
    assert loss.shape == (4, 3) and torch.equal(scores, before)
