"""Golden values of soft and Munchausen targets, of logged Q-learning and of return distributions."""

from __future__ import annotations

import math

import torch

from golden_values import close, t64
from rlft_cli import returns
from rlft_cli.episode import ILLEGAL_SCORE

LN2, LN3 = math.log(2), math.log(3)


def test_n_step_parts_are_the_parts_of_the_target() -> None:
    chance = torch.Generator().manual_seed(0)
    reward, value = torch.randn(2, 5, generator=chance), torch.randn(2, 5, generator=chance)
    discount = torch.tensor([[1.0, 1.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0]])
    for n in (1, 2, 3, 5, 9):
        whole = returns.n_step_targets(reward, returns.shift_left(value), discount, 0.9, n)
        partial, scale = returns.n_step_parts(reward, discount, 0.9, n)
        close(partial + scale * returns.shift_left(value, n), whole, 1e-6)


def test_soft_backup() -> None:
    # tau 2: 2 ln(1 + 3) from Q = (0, 2 ln 3); an illegal action adds nothing
    close(returns.soft_backup(t64([0.0, 2 * LN3, ILLEGAL_SCORE]), 2.0), 2 * math.log(4))


def test_soft_kl() -> None:
    # pi_ref (1/4, 3/4), beta 1/2, Q (ln 2 / 2, 0): weights 1/4 * 2 and 3/4, sum 5/4; pi = (2/5, 3/5)
    scores, reference = t64([LN2 / 2, 0.0]), t64([math.log(1 / 4), math.log(3 / 4)])
    close(returns.soft_kl_value(scores, reference, 0.5), 0.5 * math.log(5 / 4))
    close(returns.soft_kl_log_policy(scores, reference, 0.5), [math.log(2 / 5), math.log(3 / 5)])


def test_munchausen_reward() -> None:
    # Q = (0, tau ln 3), tau 1/2: log pi = (ln 1/4, ln 3/4); 1 + .9 * tau log pi, and floored at -.5
    scores, reward = t64([[[0.0, LN3 / 2]] * 2]), t64([[1.0, 1.0]])
    action = torch.tensor([[0, 1]])
    found = returns.munchausen_reward(reward, action, scores, alpha=0.9, temperature=0.5, floor=-0.5)
    close(found, [[1 - 0.9 * 0.5, 1 + 0.9 * 0.5 * math.log(3 / 4)]])


def test_cql_penalty() -> None:
    # softmax(0, ln 3) = (1/4, 3/4)
    close(
        returns.cql_penalty(t64([[0.0, LN3, ILLEGAL_SCORE]] * 2), torch.tensor([0, 1])), [math.log(4), math.log(4 / 3)]
    )


def test_expectile_loss() -> None:
    close(returns.expectile_loss(t64([2.0, -3.0]), 0.75), [0.75 * 4, 0.25 * 9])


def test_ilql_losses() -> None:
    # one decision, a = 1, reward 2: Q heads 1 and 3 towards 2; the lesser lagging Q is 4, V is 1
    heads, lagging = [t64([[[9.0, 1.0]]]), t64([[[9.0, 3.0]]])], [t64([[[0.0, 5.0]]]), t64([[[0.0, 4.0]]])]
    value, policy = t64([[1.0]]).requires_grad_(), t64([[[0.0, LN3]]])
    for head in heads:
        head.requires_grad_()
    found = returns.ilql_losses(
        heads=heads,
        lagging_heads=lagging,
        value=value,
        policy_scores=policy,
        action=torch.tensor([[1]]),
        reward=t64([[2.0]]),
        discount=t64([[0.0]]),
        gamma=0.9,
        expectile=0.8,
        advantage_weight=0.5,
    )
    close(found.value, [[0.8 * 9]])
    close(found.q, [[1.0 + 1.0]])
    close(found.conservative, [[math.log1p(math.exp(8)) + math.log1p(math.exp(6))]])
    close(found.policy, [[math.exp(0.5 * 3) * math.log(4 / 3)]])
    grads = torch.autograd.grad(found.value.sum(), [value, *heads], allow_unused=True)
    assert grads[0] is not None and grads[1] is None and grads[2] is None
    (into_value,) = torch.autograd.grad(found.q.sum(), [value], allow_unused=True)
    assert into_value is None
    assert not found.policy.requires_grad, "the weight is a constant"


def test_categorical_projection() -> None:
    # atoms 0, 1, 2; all on 2; r 1/4, scale 1/2: lands at 1.25, 3/4 on 1 and 1/4 on 2; at an end the reward alone
    support, probability = t64([0.0, 1.0, 2.0]), t64([[0.0, 0.0, 1.0]] * 3)
    found = returns.categorical_projection(support, probability, t64([0.25, 0.25, 7.0]), t64([0.5, 0.0, 1.0]))
    close(found, [[0.0, 0.75, 0.25], [0.75, 0.25, 0.0], [0.0, 0.0, 1.0]])


def test_categorical_mean_and_loss() -> None:
    logits = t64([[0.0, LN3]])  # (1/4, 3/4)
    close(returns.categorical_mean(logits, t64([-1.0, 1.0])), [0.5])
    close(returns.categorical_loss(logits, t64([[0.5, 0.5]])), [0.5 * math.log(4) + 0.5 * math.log(4 / 3)])


def test_quantile_huber() -> None:
    # theta (0, 2), levels 1/4 and 3/4, target 1: u = 1 (weight 1/4), u = -1 (weight |3/4 - 1| = 1/4); huber 1/2 each
    found = returns.quantile_huber(t64([[0.0, 2.0]]), t64([[1.0]]), 1.0)
    close(found, [0.5 * (1 / 8 + 1 / 8)])
    # kappa 1/2: (1/2) (1 - 1/4) / (1/2) = 3/4 each
    close(returns.quantile_huber(t64([[0.0, 2.0]]), t64([[1.0]]), 0.5), [0.75 / 4])
    close(returns.quantile_huber(t64([[0.0, 2.0]]), t64([[1.0]]), 0.0), [1 / 4])


def test_priorities() -> None:
    # (1, 16)^(1/2) = (1, 4): 1/5, 4/5; drawn from 2: w = (2 P)^-1 = (5/2, 5/8), over the largest
    probability = returns.priority_probabilities(t64([1.0, 16.0]), 0.5)
    close(probability, [0.2, 0.8])
    close(returns.importance_weights(probability, 2, 1.0), [1.0, 0.25])
    close(returns.importance_weights(probability, 2, 0.0), [1.0, 1.0])
