"""Each algorithm's loss, advantages and needs: golden values by hand arithmetic."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from rlft_cli.algo.ppo import Ppo
from rlft_cli.episode import ILLEGAL_SCORE, Trajectory, blank
from rlft_cli.errors import UsageError
from rlft_cli.model import Output
from rlft_cli.pipeline import build
from rlft_cli.returns import imbalance_threshold
from toy_training import (
    c51,
    config_of,
    doubly_robust,
    dqn,
    dqnimb,
    filtered_bc,
    grpo,
    ilql,
    ips,
    ppo,
    quantile,
    reinforce,
    supervised,
)

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
        ({}, {"chance"}, False),
        ({"loss_kind": "softmax"}, {"chance"}, False),
        ({"gamma": 0.9, "loss_kind": "mse"}, set(), True),
        ({"gamma": 0.9, "loss_kind": "mse", "target": "none"}, set(), False),
        ({"dueling": True}, {"chance", "dueling"}, False),
        ({"backup": "munchausen", "loss_kind": "mse"}, set(), True),
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
        (lambda: dqn(backup="munchausen"), "algo.loss_kind=huber"),
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


# -- actor-critic and ppo ------------------------------------------------------------------------------------------


def test_generalized_advantages_against_the_values_foreseen() -> None:
    # gamma = lambda = 1/2, rewards 1 and 2, values 2 and 4: delta_1 = 2 - 4 = -2, delta_0 = 1 + 4/2 - 2 = 1,
    # A_0 = 1 - 2/4 = 1/2. Regression targets A + V: 5/2 and 2, the value is now 5/2 and 5; rho is 1.
    data = episodes([[1, 1]], [2], reward=[[1.0, 2.0]], value=[[2.0, 4.0]], log_prob=[[math.log(0.75)] * 2])
    algorithm = ppo(gamma=0.5, gae_lambda=0.5, value_coefficient=0.5)
    prepared = algorithm.prepare(data)
    close(prepared.advantage, [[0.5, -2.0]])
    found = algorithm.loss(output([[[0.0, LN3]] * 2], [[2.5, 5.0]]), prepared, None)
    close(found, [[-0.5, 2.0 + 0.25 * 9.0]])


def shipped_actor_critic() -> Ppo:
    found: Ppo = build(config_of("algo=actor_critic", "algo.gamma=0.9", "algo.kl_coefficient=0.3").algo)
    return found


def gradients(algorithm: Ppo | None, moved: float) -> list[Tensor]:
    """Of scores and values: of the algorithm, or (None) of -A log pi + c_V (V - A - V_old)^2 / 2 - c_H H as written down.

    ``moved`` is how far the policy went from the one that acted before it is updated.
    """
    chance = torch.Generator().manual_seed(11)
    scores = torch.randn(6, 3, 4, generator=chance, dtype=torch.float64, requires_grad=True)
    value = torch.randn(6, 3, generator=chance, dtype=torch.float64, requires_grad=True)
    action = torch.randint(4, (6, 3), generator=chance)
    log_pi = torch.log_softmax(scores, -1)
    taken = log_pi.gather(-1, action[..., None]).squeeze(-1)
    columns = {
        name: torch.randn(6, 3, generator=chance, dtype=torch.float64)
        for name in ("reward", "value", "reference_log_prob")
    }
    data = episodes(action.tolist(), [3, 1, 2, 3, 3, 2], log_prob=taken.detach() - moved, **columns)
    shipped = shipped_actor_critic()
    prepared = shipped.prepare(data)
    if algorithm is not None:
        loss = algorithm.loss(Output(scores=scores, value=value), prepared, None)
    else:
        distance = 0.5 * (value - prepared.advantage - data.value) ** 2
        bonus = shipped.entropy_coefficient * -(log_pi.exp() * log_pi).sum(-1)
        loss = -prepared.advantage * taken + shipped.value_coefficient * distance - bonus
    return list(torch.autograd.grad(torch.where(data.mask, loss, 0.0).sum(), [scores, value]))


def test_actor_critic_is_ppo_with_one_update() -> None:
    """At rho = 1 the gradient of rho A is that of A log pi (Schulman et al. 2017, eq. 6), and nothing is clipped."""
    algorithm = shipped_actor_critic()
    assert algorithm.epochs == 1
    for found, expected in zip(gradients(algorithm, 0.0), gradients(None, 0.0), strict=True):
        assert (found - expected).abs().max() < 1e-12
    assert (gradients(algorithm, 0.1)[0] - gradients(None, 0.1)[0]).abs().max() > 0.01, "the twin: stale episodes"


def test_ppo_pays_the_kl_in_the_reward() -> None:
    columns = {"log_prob": [[math.log(0.75)]], "reference_log_prob": [[-LN2]]}
    data = episodes([[1]], [1], reward=[[1.0]], value=[[0.25]], **columns)
    close(advantage(ppo(kl_coefficient=2.0), data), [[1 - 2 * math.log(1.5) - 0.25]])
    assert ppo(kl_coefficient=2.0).reads == {"value", "reference"} and ppo().reads == {"value"}


@pytest.mark.parametrize(("value_clip", "distances"), [(None, (0.0, 4.0)), (0.2, (0.64, 4.0))])
def test_ppo(value_clip: float | None, distances: tuple[float, float]) -> None:
    # pi_old = 1/2, pi = 3/4: rho = 3/2, clipped 6/5. A = 1: -min(3/2, 6/5); A = -1: -min(-3/2, -6/5).
    # V_old = 0, so A + V_old = 1 and -1; V = 1: (V - R)^2 = 0 and 4; within 0.2 of V_old it is 0.2: 0.64 and 1.44.
    columns = {"reward": [[1.0], [-1.0]], "log_prob": [[-LN2], [-LN2]]}
    data = episodes([[1], [1]], [1, 1], **columns)
    algorithm = ppo(clip_range=0.2, value_clip_range=value_clip, value_coefficient=0.5)
    found = algorithm.loss(output([[[0.0, LN3]]] * 2, [[1.0], [1.0]]), algorithm.prepare(data), None)
    close(found, [[-1.2 + 0.25 * distances[0]], [1.5 + 0.25 * distances[1]]])


@pytest.mark.parametrize("make", [ppo, grpo])
def test_the_entropy_bonus_of_the_others(make: Any) -> None:
    # A = 2 and rho = 1; the value is what it should be; softmax(0, ln 3) = (1/4, 3/4)
    entropy = 0.25 * math.log(4) + 0.75 * math.log(4 / 3)
    data = episodes([[1]], [1], log_prob=[[math.log(0.75)]], advantage=[[2.0]], value=[[-2.0]])
    found = make(entropy_coefficient=0.1).loss(output([[[0.0, LN3]]], [[0.0]]), data, None)
    close(found, [[-2.0 - 0.1 * entropy]])


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


# -- a price of the KL that follows a target -----------------------------------------------------------------------


@pytest.mark.parametrize("make", [reinforce, ppo, grpo])
def test_the_price_of_the_kl_follows_its_target(make: Any) -> None:
    # Nats an episode: 1 + 3 = 4 and 0, the masked one not counted: mean 2. Target 4: e = (2 - 4) / 4, clipped to -1/5;
    # beta = 2, K = 1/2: this batch pays 2 a nat, the next one 2 (1 - 1/10) = 1.8.
    ends = {"samples": 2, "reward": [[1.0, 1.0], [1.0, 9.0]], "log_prob": [[-1.0, -1.0], [-2.0, 0.0]]}
    data = episodes([[0, 0], [0, 0]], [2, 1], **ends, reference_log_prob=[[-2.0, -4.0], [-2.0, -9.0]])
    settings = {"samples": 2, "gamma": 1.0, "kl_coefficient": 2.0, "kl_rate": 0.5}
    steered, fixed = make(**settings, kl_target=4.0), make(**settings)
    assert torch.equal(advantage(steered, data), advantage(fixed, data))
    assert steered.state["kl_coefficient"].item() == pytest.approx(1.8, abs=1e-6)
    cheaper = make(**{**settings, "kl_coefficient": 1.8})
    close(advantage(steered, data), advantage(cheaper, data))
    assert "kl_coefficient" not in fixed.state


def test_a_price_steers_the_kl_to_its_target() -> None:
    """One decision with 8 actions, of which the first is paid 1: at a fixed price the KL would end elsewhere."""
    reference = torch.log_softmax(torch.linspace(0, 1, 8, dtype=torch.float64), 0)
    chance = torch.Generator().manual_seed(0)

    def nats(log_prob: Tensor) -> float:
        return float((log_prob.exp() * (log_prob - reference)).sum())

    for beta in (0.05, 2.0):
        optimum = torch.log_softmax(reference + torch.eye(8)[0] / beta, 0)  # pi* = ref exp(r / beta) / Z
        assert abs(nats(optimum) - 0.5) > 0.4
        algorithm = reinforce(samples=1, baseline="none", kl_coefficient=beta, kl_target=0.5, kl_rate=0.5)
        theta, found = reference.clone().requires_grad_(), []
        for _ in range(150):
            log_prob = torch.log_softmax(theta, 0).detach()
            found.append(nats(log_prob))
            action = torch.multinomial(log_prob.exp(), 64, replacement=True, generator=chance)[:, None]
            data = episodes(action.tolist(), [1] * 64, reward=(action == 0).double())
            data = algorithm.prepare(replace(data, log_prob=log_prob[action], reference_log_prob=reference[action]))
            loss = algorithm.loss(output(theta.expand(64, 1, 8)), data, None).mean()
            theta = (theta - 2.0 * torch.autograd.grad(loss, theta)[0]).detach().requires_grad_()
        assert sum(found[-75:]) / 75 == pytest.approx(0.5, rel=0.2)


@pytest.mark.parametrize("make", [supervised, dqn, reinforce, ppo, grpo])
def test_losses_are_unreduced_and_leave_their_input_alone(make: Any) -> None:
    algorithm = make()
    data = episodes([[0, 1, 2]] * 4, [3, 1, 2, 3], samples=algorithm.samples)
    scores = torch.randn(4, 3, 3)
    before = scores.clone()
    loss = algorithm.loss(output(scores, torch.zeros(4, 3)), algorithm.prepare(data), None)
    assert loss.shape == (4, 3) and torch.equal(scores, before)


# -- dqn's additions -----------------------------------------------------------------------------------------------


def test_munchausen_loss() -> None:
    # Q- = (0, 0) and (ln 3, 0), tau 1, alpha 1/2, gamma 1/2, a = (0, 1): pi- of a_0 is 1/2, of a_1 1/4.
    # y_1 = 2 + (-ln 4) / 2 = 2 - ln 2; V(s_1) = ln 4; y_0 = 1 - ln 2 / 2 + ln 4 / 2 = 1 + ln 2 / 2. Online Q is 0.
    data = episodes([[0, 1]], [2], reward=[[1.0, 2.0]])
    algorithm = dqn(
        gamma=0.5, loss_kind="mse", backup="munchausen", munchausen_alpha=0.5, munchausen_temperature=1.0,
        munchausen_floor=-9.0,
    )  # fmt: skip
    target = output([[[0.0, 0.0], [LN3, 0.0]]])
    found = algorithm.loss(output(torch.zeros(1, 2, 2)), data, target)
    close(found, [[0.5 * (1 + LN2 / 2) ** 2, 0.5 * (2 - LN2) ** 2]])
    # A floor of -1/2 cuts both: y_1 = 2 - 1/4, y_0 = 1 - 1/4 + ln 4 / 2.
    found = replace(algorithm, munchausen_floor=-0.5).loss(output(torch.zeros(1, 2, 2)), data, target)
    close(found, [[0.5 * (0.75 + LN2) ** 2, 0.5 * 1.75**2]])


def test_conservative_loss() -> None:
    # Q = (0, ln 3), a = 0, r = 1: (0 - 1)^2 / 2 + 1/2 (ln 4 - 0); illegal actions have no part in the sum
    data = episodes([[0]], [1], reward=[[1.0]])
    scores = [[[0.0, LN3, ILLEGAL_SCORE]]]
    close(dqn(loss_kind="mse", cql_coefficient=0.5).loss(output(scores), data, None), [[0.5 + LN2]])
    # bce: -ln sigma(0) + 1/2 ln 4
    close(dqn(cql_coefficient=0.5).loss(output(scores), data, None), [[LN2 + LN2]])


# -- importance weights --------------------------------------------------------------------------------------------


def test_inverse_propensity_loss() -> None:
    # pi = (1/4, 3/4), mu of action 1 is 1/2: weight 3/2, reward 2: -3
    data = episodes([[1]], [1], reward=[[2.0]], log_prob=[[-LN2]])
    close(ips().loss(output([[[0.0, LN3]]]), data, None), [[-3.0]])
    close(ips(translation=0.5).loss(output([[[0.0, LN3]]]), data, None), [[-2.25]])  # BanditNet: (2 - 1/2) 3/2
    close(ips(clip=1.25).loss(output([[[0.0, LN3]]]), data, None), [[-2.5]])


def test_inverse_propensity_of_later_rewards() -> None:
    # gamma 1/2, rewards 1 and 4: returns 3 and 4; weights (1/2) / (1/4) = 2 and (1/2) / 1 = 1/2
    data = episodes([[0, 1]], [2], reward=[[1.0, 4.0]], log_prob=[[-2 * LN2, 0.0]])
    close(ips(gamma=0.5).loss(output(torch.zeros(1, 2, 2)), data, None), [[-6.0, -2.0]])


def test_a_clipped_weight_has_no_gradient_and_others_pull() -> None:
    scores = torch.tensor([[[0.0, LN3]], [[0.0, LN3]]], requires_grad=True)
    data = episodes([[1], [1]], [1, 1], reward=[[2.0], [2.0]], log_prob=[[-9.0], [-LN2]])
    ips().loss(output(scores), data, None).sum().backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    # -r w grad log pi(1) = -3 (-1/4, 1/4)
    close(scores.grad, [[[0.0, 0.0]], [[0.75, -0.75]]])


def test_doubly_robust_loss() -> None:
    """pi = (1/4, 3/4); id 0 is fitted by head 0 and predicted by head 1, id 1 the other way round; mse.

    Row 0: q = (4, 8) of head 1; a = 1, mu = 1/2, w = 3/2, r = 2: E q = 1 + 6 = 7, 7 + 3/2 (2 - 8) = -2; head 0 has 5 for
    the action: (5 - 2)^2 / 2 = 4.5. Row 1: q = (0, 5) of head 0; a = 0, mu = 1, w = 1/4, r = 1: 15/4 + 1/4 = 4; head 1 has 4:
    4.5.
    """
    heads = torch.tensor([[0.0, 4.0], [5.0, 8.0]]).expand(2, 1, 2, 2)  # [N, T, A, 2]: heads 0 and 1 of each action
    data = episodes([[1], [0]], [1, 1], reward=[[2.0], [1.0]], log_prob=[[-LN2], [0.0]])
    scores = output(torch.tensor([[[0.0, LN3]]] * 2))
    close(doubly_robust(loss_kind="mse").loss(replace(scores, heads=heads), data, None), [[4.5 + 2.0], [4.5 - 4.0]])
    # The direct method: -7 and -15/4. A coefficient of 2 doubles the regressions.
    direct = doubly_robust(loss_kind="mse", clip=0.0, reward_model_coefficient=2.0)
    close(direct.loss(replace(scores, heads=heads), data, None), [[9.0 - 7.0], [9.0 - 3.75]])


def test_the_reward_model_and_the_policy_leave_each_other_alone() -> None:
    data = episodes([[1], [0]], [1, 1], reward=[[1.0], [0.0]], log_prob=[[-LN2], [-LN2]])
    scores = torch.tensor([[[0.0, LN3]]] * 2, requires_grad=True)
    heads = torch.zeros(2, 1, 2, 2, requires_grad=True)
    doubly_robust().loss(replace(output(scores), heads=heads), data, None).sum().backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None and heads.grad is not None
    # bce: sigma(0) - r at the logged action of the head that is fitted on that row: row 0 head 0, row 1 head 1
    expected = torch.zeros(2, 1, 2, 2)
    expected[0, 0, 1, 0], expected[1, 0, 0, 1] = -0.5, 0.5
    close(heads.grad, expected)
    # q is 1/2 everywhere, so E q has no gradient; w (r - 1/2) = 3/2 x 1/2: -3/4 grad log pi(1) = -3/4 (-1/4, 1/4)
    # and -(1/2)(-1/2) grad log pi(0) = 1/4 (3/4, -3/4)
    close(scores.grad, [[[0.1875, -0.1875]], [[0.1875, -0.1875]]])


def test_what_learning_from_logs_needs() -> None:
    assert ips().reads == {"propensity"} and not ips().uses_target
    assert doubly_robust().reads == {"propensity", "heads:2", "chance"}
    assert doubly_robust(clip=0.0, loss_kind="mse").reads == {"heads:2"}, "the direct method needs no propensities"


# -- distributions of returns --------------------------------------------------------------------------------------


def numbers(scores: Any, heads: Any) -> Output:
    return replace(output(scores), heads=torch.as_tensor(heads))


@pytest.mark.parametrize(("double", "first"), [(False, 11 / 8 * LN2), (True, 13 / 8 * LN2)])
def test_categorical_loss_of_two_decisions(double: bool, first: float) -> None:
    """Atoms -1, 0, 1; gamma 1/2; a = (0, 1); r = (1/2, 0).

    The target prefers action 1 in the second state, p = (1/4, 1/4, 1/2) there: 1/2 + z/2 lies at 0, 1/2, 1, so that
    m = (0, 3/8, 5/8) and the loss against p = (1/4, 1/4, 1/2) is 3/8 ln 4 + 5/8 ln 2. The policy prefers action 0, of which
    the target has p = (1/2, 1/4, 1/4): m = (0, 5/8, 3/8). At the end all is at r = 0: -ln 1/2.
    """
    online = numbers(
        [[[0.0, 0.0], [1.0, 0.0]]], [[[[0.0, 0.0, LN2], [9.0, 0.0, 0.0]], [[7.0, 0.0, 0.0], [0.0, LN2, 0.0]]]]
    )
    lagging = numbers([[[0.0, 0.0], [0.0, 1.0]]], [[[[5.0, 0.0, 0.0]] * 2, [[LN2, 0.0, 0.0], [0.0, 0.0, LN2]]]])
    data = episodes([[0, 1]], [2], reward=[[0.5, 0.0]])
    close(c51(gamma=0.5, double=double).loss(online, data, lagging), [[first, LN2]])


def test_quantile_loss() -> None:
    # Levels 1/4 and 3/4, kappa 0. The second state's best action has (2, 4), so the target is 1 + (2, 4) / 2 = (2, 3):
    # theta = (0, 2) is off by 2 and 3 at weight 1/4, by 0 and 1 at weight 3/4: (5/4 + 3/4) / 4. At the end the target is 1:
    # theta = (0, 2) is off by 1 at weight 1/4 and by -1 at weight 1/4: 1/4.
    chosen, other = [0.0, 2.0], [8.0, 9.0]
    online = numbers([[[0.0, 0.0], [0.0, 0.0]]], [[[chosen, other], [other, chosen]]])
    lagging = numbers([[[0.0, 0.0], [3.0, 5.0]]], [[[other, other], [other, [2.0, 4.0]]]])
    data = episodes([[0, 1]], [2], reward=[[1.0, 1.0]])
    close(quantile(gamma=0.5, double=False).loss(online, data, lagging), [[0.5, 0.25]])


def test_distributions_get_no_gradient_through_their_target() -> None:
    for algorithm, n in ((c51(gamma=0.5), 3), (quantile(gamma=0.5), 2)):
        heads = torch.randn(1, 2, 2, n, requires_grad=True)
        online = Output(scores=heads.mean(-1), value=None, heads=heads)
        data = episodes([[0, 1]], [2], reward=[[0.3, 0.1]])
        algorithm.loss(online, data, None)[0, 0].backward()
        assert heads.grad is not None
        assert heads.grad[0, 0, 0].abs().max() > 0 and not heads.grad[0, 1].any() and not heads.grad[0, 0, 1].any()


def test_what_distributions_need() -> None:
    assert c51(atoms=5, lowest=-1, highest=2.0).reads == {"atoms:5:-1.0:2.0"}
    assert quantile().reads == {"quantiles:2"} and quantile(gamma=0.5).uses_target and not quantile().uses_target
    with pytest.raises(UsageError, match=r"algo\.lowest"):
        c51(lowest=1.0, highest=1.0)


# -- implicit Q-learning -------------------------------------------------------------------------------------------


def test_implicit_loss() -> None:
    """One decision, a = 0, r = 1, V = 0, Q = (2, 2) and (3, 3), lagging 1 and 5, pi(0) = 1/4, one action illegal.

    V: .7 (1 - 0)^2. Q: (1 - 2)^2 + (1 - 3)^2 = 5. Conservative: ln 2 twice. Policy: exp(ln 2 x 1) ln 4 = 4 ln 2.
    """
    scores = [[[0.0, LN3, ILLEGAL_SCORE]]]
    online = replace(numbers(scores, [[[[2.0, 3.0], [2.0, 3.0], [9.0, 9.0]]]]), value=torch.zeros(1, 1))
    lagging = numbers(scores, [[[[1.0, 5.0], [0.0, 0.0], [0.0, 0.0]]]])
    data = episodes([[0]], [1], reward=[[1.0]])
    found = ilql(advantage_weight=LN2, cql_coefficient=0.5, policy_coefficient=0.25).loss(online, data, lagging)
    close(found, [[0.7 + 5.0 + 0.5 * 2 * LN2 + 0.25 * 4 * LN2]])


# -- classes out of balance ----------------------------------------------------------------------------------------


def test_the_stream_goes_on_unless_a_minority_text_is_missed() -> None:
    # mean reward 1/4, the stream goes on 3 times of 4: V = .25 / (1 - .5 x .75) = .4; then averages (.325, .775)
    algorithm = dqnimb(gamma=0.5, average_decay=0.9)
    data = episodes([[0]] * 4, [1] * 4, reward=[[1.0], [-1.0], [0.5], [0.5]])
    prepared = algorithm.prepare(data)
    close(prepared.advantage, [[0.2], [0.0], [0.2], [0.2]])
    close(algorithm.loss(output(torch.zeros(4, 1, 2)), prepared, None), [[0.72], [0.5], [0.245], [0.245]])
    again = algorithm.prepare(episodes([[0]], [1], reward=[[1.0]]))
    close(again.advantage, [[0.5 * 0.325 / (1 - 0.5 * 0.775)]])


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 0.9])
def test_minority_is_chosen_above_the_exact_threshold(gamma: float) -> None:
    """METHODS 7.1, row 35: at p = rho / (rho + 1 + gamma V / 2) the expected targets of both decisions are equal."""
    ratio = 0.2
    algorithm = dqnimb(gamma=gamma, average_decay=0.5)
    # rewards of (minority, majority) texts where the minority is chosen, then where the majority is
    earned = [[1.0], [-ratio], [-1.0], [ratio], [1.0], [1.0]]  # the last two make V differ from 0
    paid = algorithm.prepare(episodes([[0]] * 6, [1] * 6, reward=earned))
    y = (paid.reward + paid.advantage).squeeze(1).tolist()
    reward, chance = algorithm.state["averages"].tolist()
    p = imbalance_threshold(ratio, gamma, reward / (1 - gamma * chance))
    choose, leave = p * y[0] + (1 - p) * y[1], p * y[2] + (1 - p) * y[3]
    assert abs(choose - leave) < 1e-6
    assert (p + 0.05) * y[0] + (0.95 - p) * y[1] > (p + 0.05) * y[2] + (0.95 - p) * y[3]


def test_filtered_behaviour_cloning_is_cross_entropy_on_what_paid() -> None:
    scores = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(3))
    reward = torch.tensor([[0.0, 0.6, 0.4], [1.0, 0.5, 0.0]])
    told = episodes([[0, 1, 2], [3, 2, 1]], [3, 3], reward=reward)
    each = -torch.log_softmax(scores, -1).gather(-1, told.action[..., None]).squeeze(-1)
    found = filtered_bc().loss(Output(scores=scores, value=None), told, None)
    close(found, torch.where(torch.tensor([[False, True, False], [True, False, False]]), each, 0.0))
    found = filtered_bc(gamma=1.0).loss(Output(scores=scores, value=None), told, None)
    close(found, torch.where(torch.tensor([[True, True, False], [True, False, False]]), each, 0.0))


def enumerated(scores: Tensor, heads: Tensor | None) -> tuple[Output, Trajectory, Tensor]:
    """Every action of two texts once: what the policy says, what was logged, and how often (mu / 2) [6]."""
    mu, reward = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]), torch.tensor([[1.0, 0.0, 0.4], [0.2, 0.9, 0.0]])
    text, action = torch.arange(2).repeat_interleave(3), torch.arange(3).repeat(2)
    start = episodes(action[:, None].tolist(), [1] * 6, reward=reward.reshape(6, 1), log_prob=mu.log().reshape(6, 1))
    data = replace(start, observation={"id": text})  # so that all that is known of a text is in one fold
    told = Output(scores=scores[text][:, None], value=None, heads=None if heads is None else heads[text][:, None])
    return told, data, 0.5 * mu.reshape(6, 1)


@pytest.mark.parametrize("name", ["ips", "banditnet", "doubly_robust"])
def test_expected_gradients_are_those_of_the_value(name: str) -> None:
    """Over all that the logger does, -sum mu grad loss = grad V (METHODS 7.1, row 28), whatever the reward model says."""
    chance = torch.Generator().manual_seed(8)
    scores = torch.randn(2, 3, generator=chance, requires_grad=True)
    heads = torch.randn(2, 3, 2, generator=chance)
    algorithm: Any = {"ips": ips, "banditnet": lambda: ips(translation=0.5), "doubly_robust": doubly_robust}[name]()
    reward = torch.tensor([[1.0, 0.0, 0.4], [0.2, 0.9, 0.0]])
    (expected,) = torch.autograd.grad(0.5 * (torch.softmax(scores, -1) * reward).sum(), scores)

    def found(of: Any) -> Tensor:
        told, data, share = enumerated(scores, heads)
        return -torch.autograd.grad((share * of.loss(told, data, None)).sum(), scores)[0]

    close(found(algorithm), expected)
    wrong = doubly_robust(clip=0.0) if name == "doubly_robust" else ips(clip=0.5)
    assert (found(wrong) - expected).abs().max() > 0.01, "the twin: no correction, or weights cut"
