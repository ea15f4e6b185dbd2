"""Golden values by hand arithmetic and closed forms: scores, returns, targets, backups, KL."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from golden_values import D, close, t64
from rlft_cli import returns
from rlft_cli.episode import ILLEGAL_SCORE

# -- distributions -------------------------------------------------------------------------------------------------


def test_action_log_prob() -> None:
    # softmax(0, ln 2, ln 5) = (1, 2, 5) / 8
    scores = t64([[0.0, math.log(2), math.log(5)]] * 3)
    close(returns.action_log_prob(scores, torch.tensor([0, 1, 2])), [math.log(1 / 8), math.log(2 / 8), math.log(5 / 8)])


def test_action_log_prob_keeps_leading_dimensions() -> None:
    scores = torch.randn(2, 3, 4, dtype=D)
    action = torch.tensor([[0, 1, 2], [3, 0, 1]])
    found = returns.action_log_prob(scores, action)
    assert found.shape == (2, 3)
    close(found[1, 0], float(scores[1, 0, 3] - scores[1, 0].exp().sum().log()))


def test_entropy() -> None:
    # uniform over 4: ln 4; (1/2, 1/4, 1/4): 1/2 ln 2 + 2/4 ln 4 = 3/2 ln 2; an illegal action adds nothing
    close(returns.entropy(t64([0.0, 0.0, 0.0, 0.0])), math.log(4))
    close(returns.entropy(t64([math.log(2), 0.0, 0.0])), 1.5 * math.log(2))
    close(returns.entropy(t64([0.0, 0.0, ILLEGAL_SCORE])), math.log(2))


def test_entropy_gradient_with_an_illegal_action_is_finite() -> None:
    scores = t64([0.3, -0.2, ILLEGAL_SCORE]).requires_grad_()
    returns.entropy(scores).backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    # dH/ds_a = -p_a (ln p_a + H), and 0 for what has no probability
    p = torch.softmax(scores.detach(), -1)
    expected = -p[:2] * (p[:2].log() + returns.entropy(scores.detach()))
    close(scores.grad, [*expected.tolist(), 0.0])


# -- returns -------------------------------------------------------------------------------------------------------


def test_returns_to_go() -> None:
    # rewards 1, 2, 4 and gamma 1/2: G_2 = 4; G_1 = 2 + 4/2 = 4; G_0 = 1 + 4/2 = 3. Second row: 3 alone.
    reward = t64([[1.0, 2.0, 4.0], [3.0, float("nan"), 9.0]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    close(returns.returns_to_go(reward, mask, 0.5), [[3.0, 4.0, 4.0], [3.0, 0.0, 0.0]])
    close(returns.returns_to_go(reward, mask, 1.0), [[7.0, 6.0, 4.0], [3.0, 0.0, 0.0]])
    close(returns.returns_to_go(reward, mask, 0.0), [[1.0, 2.0, 4.0], [3.0, 0.0, 0.0]])


@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.9, 1.0])
def test_returns_of_a_constant_reward_are_a_geometric_series(gamma: float) -> None:
    found = returns.returns_to_go(torch.ones(1, 6, dtype=D), torch.ones(1, 6, dtype=torch.bool), gamma)
    series = [sum(gamma**i for i in range(6 - t)) for t in range(6)]
    close(found, [series])


def test_credited_return() -> None:
    # rewards 1, 2 and what is masked; gamma 1/2: 1 + 2/2 = 2 and 2, or 3 for all
    reward, mask = t64([[1.0, 2.0, 9.0]]), torch.tensor([[True, True, False]])
    close(returns.credited_return(reward, mask, 0.5, "return_to_go"), [[2.0, 2.0, 0.0]])
    close(returns.credited_return(reward, mask, 0.5, "episode"), [[3.0, 3.0, 3.0]])


def test_shift_left() -> None:
    close(returns.shift_left(t64([[1.0, 2.0, 3.0]])), [[2.0, 3.0, 0.0]])


def test_n_step_targets() -> None:
    # rewards 1, 2, 4; V(s_1) = 10, V(s_2) = 20; gamma 1/2; the episode ends with the third decision, so that the 99
    # behind it must not count.
    # n=1: 1 + 10/2 = 6;  2 + 20/2 = 12;  4
    # n=2: 1 + 2/2 + 20/4 = 7;  2 + 4/2 = 4 (ended: nothing behind it);  4
    # n=3 and more: 1 + 2/2 + 4/4 = 3;  4;  4
    reward, value = t64([[1.0, 2.0, 4.0]]), t64([[10.0, 20.0, 99.0]])
    discount = t64([[1.0, 1.0, 0.0]])
    expected = {1: [[6.0, 12.0, 4.0]], 2: [[7.0, 4.0, 4.0]], 3: [[3.0, 4.0, 4.0]], 50: [[3.0, 4.0, 4.0]]}
    for n, target in expected.items():
        close(returns.n_step_targets(reward, value, discount, 0.5, n), target)


def test_n_step_targets_end_where_the_episode_ends() -> None:
    # an episode of 1 beside one of 3: whatever its padding holds, its target is its reward
    reward, value = t64([[5.0, 7.0, 7.0]]), t64([[8.0, 8.0, 8.0]])
    for n in (1, 2, 3):
        close(returns.n_step_targets(reward, value, t64([[0.0, 0.0, 0.0]]), 0.9, n)[:, :1], [[5.0]])
        close(returns.n_step_targets(reward, value, t64([[0.0, 1.0, 0.0]]), 0.9, n)[:, :1], [[5.0]])


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_n_step_targets_are_the_sum_in_their_docstring(data: st.DataObject) -> None:
    number = st.floats(-2, 2)
    steps, n = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 8))
    length, gamma = data.draw(st.integers(1, steps)), data.draw(st.floats(0, 1))
    r = data.draw(st.lists(number, min_size=steps, max_size=steps))
    v = data.draw(st.lists(number, min_size=steps, max_size=steps))  # v[t] = V(s_{t+1})
    found = returns.n_step_targets(t64([r]), t64([v]), t64([[float(t < length - 1) for t in range(steps)]]), gamma, n)[
        0
    ]
    for t in range(length):
        m = min(n, length - t)
        bootstrap = gamma**n * v[t + n - 1] if t + n < length else 0.0
        assert abs(float(found[t]) - sum(gamma**i * r[t + i] for i in range(m)) - bootstrap) < 1e-9


# -- values --------------------------------------------------------------------------------------------------------


def test_backups() -> None:
    # online prefers action 1 in the first state and 0 in the second; the target rates them 2 and 7, its best 5 and 9
    online, target = t64([[[1.0, 3.0, 2.0], [4.0, 0.0, 1.0]]]), t64([[[5.0, 2.0, 1.0], [7.0, 9.0, 8.0]]])
    close(returns.max_backup(target), [[5.0, 9.0]])
    close(returns.double_backup(online, target), [[2.0, 7.0]])
    close(returns.double_backup(target, target), [[5.0, 9.0]])


def test_illegal_actions_are_never_the_best() -> None:
    scores = t64([[[-50.0, ILLEGAL_SCORE], [ILLEGAL_SCORE, -60.0]]])
    close(returns.max_backup(scores), [[-50.0, -60.0]])


def test_dueling() -> None:
    # V = 10, A = (1, 3, 100), the third illegal: mean over legal = 2, so Q = (9, 11)
    legal = torch.tensor([True, True, False])
    q = returns.dueling(t64([10.0]), t64([1.0, 3.0, 100.0]), legal)
    close(q[:2], [9.0, 11.0])


def test_dueling_is_blind_to_a_shift_and_means_v_over_legal_actions() -> None:
    advantage, legal = torch.randn(7, 5, dtype=D), torch.rand(7, 5) > 0.3
    legal[:, 0] = True
    value = torch.randn(7, 1, dtype=D)
    q = returns.dueling(value, advantage, legal)
    close(returns.dueling(value, advantage + 4.2, legal), q.tolist())
    mean = torch.where(legal, q, 0.0).sum(-1) / legal.sum(-1)
    close(mean, value[:, 0].tolist())
    wrong = value + advantage - advantage.mean(-1, keepdim=True)  # the twin: mean over all actions
    assert (wrong - q).abs().max() > 0.05


def test_logit_of_softmax() -> None:
    scores = t64([[math.log(1), math.log(2), math.log(5)], [0.0, -1e9, 0.0]])
    close(returns.logit_of_softmax(scores, torch.tensor([2, 0])), [math.log(5 / 3), 0.0])  # 5/8 against 3/8; 1/2
    chosen = torch.softmax(scores, -1).gather(-1, torch.tensor([[1], [2]])).squeeze(-1)
    close(torch.sigmoid(returns.logit_of_softmax(scores, torch.tensor([1, 2]))), chosen.tolist())


def test_q_loss() -> None:
    q = t64([0.0, math.log(3), 2.0, -4.0])
    y = t64([1.0, 0.0, 0.5, 0.0])
    # bce: -ln sigma(0) = ln 2; sigma(ln 3) = 3/4, -ln(1/4) = ln 4
    close(returns.q_loss(q, y, "bce")[:2], [math.log(2), math.log(4)])
    # mse: 1/2 (0-1)^2; 1/2 ln^2 3; 1/2 1.5^2; 1/2 4^2
    close(returns.q_loss(q, y, "mse"), [0.5, 0.5 * math.log(3) ** 2, 1.125, 8.0])
    # huber, delta 1: quadratic at distance 1; else |d| - 1/2: ln 3 - .5; 1.5 - .5; 4 - .5
    close(returns.q_loss(q, y, "huber"), [0.5, math.log(3) - 0.5, 1.0, 3.5])
    # delta 2: 1/2 1.5^2; 2 (4 - 1)
    close(returns.q_loss(q, y, "huber", delta=2.0)[2:], [1.125, 6.0])


def test_bce_is_least_where_q_is_the_log_odds_of_the_mean_reward() -> None:
    # rewards 1, 1, 1, 0: the minimum over q of the mean loss has sigma(q) = 3/4, q = ln 3
    q = t64(math.log(3)).requires_grad_()
    returns.q_loss(q.expand(4), t64([1.0, 1.0, 1.0, 0.0]), "bce").mean().backward()  # type: ignore[no-untyped-call]
    assert q.grad is not None and abs(float(q.grad)) < 1e-12


# -- baselines -----------------------------------------------------------------------------------------------------


def test_leave_one_out() -> None:
    # (1, 2, 6): 1 - (2+6)/2 = -3; 2 - 7/2 = -1.5; 6 - 3/2 = 4.5. (0, 0, 3): -1.5, -1.5, 3
    found = returns.leave_one_out(t64([1.0, 2.0, 6.0, 0.0, 0.0, 3.0]), 3)
    close(found, [-3.0, -1.5, 4.5, -1.5, -1.5, 3.0])
    close(returns.leave_one_out(t64([[1.0, 5.0], [4.0, 5.0]]), 2), [[-3.0, 0.0], [3.0, 0.0]])


def test_leave_one_out_needs_another_sample() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        returns.leave_one_out(t64([1.0]), 1)


# -- divergence ----------------------------------------------------------------------------------------------------


def test_kl_estimators() -> None:
    # pi = 1/2, ref = 1/4: u = ln 2; k1 = ln 2; k2 = ln^2 2 / 2; k3 = 1/2 - 1 + ln 2
    pi, ref = t64([math.log(1 / 2)]), t64([math.log(1 / 4)])
    close(returns.kl_k1(pi, ref), [math.log(2)])
    close(returns.kl_penalised(t64([3.0]), pi, ref, 0.5), [3.0 - 0.5 * math.log(2)])
    close(returns.kl_k2(pi, ref), [math.log(2) ** 2 / 2])
    close(returns.kl_k3(pi, ref), [math.log(2) - 0.5])


def test_the_exact_kl_of_two_sets_of_scores() -> None:
    # (1/2, 1/2) from (3/4, 1/4): ln(2/3) / 2 + ln(2) / 2 = ln(4/3) / 2; scores have any constant; illegal ones count for nothing
    scores = t64([[1.0, 1.0, -1e9], [math.log(3), 0.0, -1e9]])
    other = t64([[math.log(3) + 7, 7.0, -1e9], [math.log(3) - 2, -2.0, -1e9]])
    close(returns.kl_exact(scores, other), [0.5 * math.log(4 / 3), 0.0])


def test_expected_kl_estimators() -> None:
    """Row 12: k1 and k3 are unbiased, k2 is not; k3 is never negative."""
    pi, ref = torch.log_softmax(torch.randn(9, dtype=D), 0), torch.log_softmax(torch.randn(9, dtype=D), 0)
    kl = (pi.exp() * (pi - ref)).sum()
    assert abs(returns.kl_exact(pi, ref) - kl) < 1e-12
    assert abs((pi.exp() * returns.kl_k1(pi, ref)).sum() - kl) < 1e-12
    assert abs((pi.exp() * returns.kl_k3(pi, ref)).sum() - kl) < 1e-12
    assert abs((pi.exp() * returns.kl_k2(pi, ref)).sum() - kl) > 1e-3
    assert (returns.kl_k3(pi, ref) >= 0).all()


# -- target network ------------------------------------------------------------------------------------------------


def test_polyak() -> None:
    target = {"w": t64([0.0, 8.0]), "n": torch.tensor([3])}
    online = {"w": t64([4.0, 0.0]), "n": torch.tensor([5]), "other": t64([1.0])}
    returns.polyak(target, online, 0.25)  # 3/4 old + 1/4 new; whole numbers are copied
    close(target["w"], [1.0, 6.0])
    assert target["n"].tolist() == [5]
    returns.polyak(target, online, 1.0)
    close(target["w"], [4.0, 0.0])


@pytest.mark.parametrize("dtype", [torch.float32, D])
def test_functions_keep_the_precision_of_their_input(dtype: torch.dtype) -> None:
    x, mask = torch.rand(2, 3, dtype=dtype), torch.ones(2, 3, dtype=torch.bool)
    made = [
        returns.returns_to_go(x, mask, 0.9),
        returns.n_step_targets(x, x, x, 0.9, 2),
        returns.leave_one_out(x, 2),
        returns.q_loss(x, x, "bce"),
        returns.q_loss(x, x, "huber"),
        returns.kl_k3(x, x),
        returns.entropy(x),
        returns.dueling(x[:, :1], x, mask),
    ]
    assert {tensor.dtype for tensor in made} == {dtype}


def test_spread_in_groups_is_unbiased() -> None:
    """Every outcome of k = 3 rewards of 0 or 1, paid with chance p: Var(R) = p (1 - p), E[R]^2 = p^2."""
    outcomes = torch.cartesian_prod(*[t64([0.0, 1.0])] * 3)
    mask = torch.ones(3, 1, dtype=torch.bool)
    for p in (0.1, 0.5, 0.9):
        chance = (outcomes * p + (1 - outcomes) * (1 - p)).prod(1)
        parts = [torch.stack(returns.spread_in_groups(row[:, None], 3, mask)) for row in outcomes]
        close((chance[:, None] * torch.stack(parts)).sum(0), [p * (1 - p), p**2])


def test_spread_in_groups_reads_what_all_samples_have() -> None:
    # two examples of two samples; the second decision of the first example exists in one sample only
    reward = t64([[2.0, math.nan], [0.0, 5.0], [1.0, 3.0], [1.0, 1.0]])
    mask = torch.tensor([[True, False], [True, True], [True, True], [True, True]])
    # Var 2, 0, 2 of means 1, 1, 2: mean variance 4/3, mean square (1 + 1 + 4) / 3 less Var / 2
    variance, square = returns.spread_in_groups(reward, 2, mask)
    close(torch.stack([variance, square]), [4 / 3, 2 - 2 / 3])
    assert torch.stack(returns.spread_in_groups(reward, 2, torch.zeros_like(mask))).tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="at least 2"):
        returns.spread_in_groups(reward, 1, mask)


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5])
def test_spread_in_groups_gives_the_break_even_of_one_example(p: float) -> None:
    """1 + Var / E[R]^2 = 1/p, as ``leave_one_out_break_even`` has it of a whole population."""
    population = (torch.arange(20) < 20 * p).to(D)
    variance, square = p * (1 - p), p**2
    assert float(returns.leave_one_out_break_even(population)) == pytest.approx(1 + variance / square) == 1 / p
