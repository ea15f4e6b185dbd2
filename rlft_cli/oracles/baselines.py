"""What baselines do to a policy gradient: its mean and its variance, summed over groups of tag sequences (METHODS 7.1)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from rlft_cli.oracles import Oracle
from rlft_cli.oracles.toys.tagging import (
    D,
    Tagging,
    gradient,
    groups,
    off_direction,
    residual,
    sentence,
    true_gradient,
    two_words,
)
from rlft_cli.returns import generalized_advantage, group_relative, leave_one_out, leave_one_out_break_even

Advantage = Callable[[Tensor, int], Tensor]  # returns [B k] and k -> advantages [B k]


def _of_advantage(toy: Tagging, advantage: Advantage, samples: int) -> Tensor:
    """E of (1/k) sum_i A_i d log p(y_i) over all groups of k sequences."""
    index, orders = groups(len(toy.action), samples)
    weight = orders * toy.chance(toy.theta)[index].prod(1) / samples
    each = advantage(toy.f1[index].reshape(-1), samples).view(-1, samples)
    share = torch.zeros_like(toy.f1).index_add(0, index.reshape(-1), (weight[:, None] * each).reshape(-1))
    theta = toy.theta.clone().requires_grad_()
    return gradient((share * toy.log_prob(theta).sum(1)).sum(), theta)


def _leave_one_out(advantage: Advantage) -> float:
    """Unbiased for 2 samples of 153 sequences and for 4 and 6 samples of 5."""
    cases = [(sentence(), 2), (two_words(), 4), (two_words(), 6)]
    return max(residual(_of_advantage(toy, advantage, k), true_gradient(toy, toy.f1, toy.theta)) for toy, k in cases)


def _self_inclusive(advantage: Advantage) -> float:
    toys = [(sentence(), 2), (two_words(), 4)]
    return max(
        residual(_of_advantage(toy, advantage, k), (k - 1) / k * true_gradient(toy, toy.f1, toy.theta))
        for toy, k in toys
    )


def _scaled_is_biased(advantage: Advantage) -> float:
    """What is missing for a direction that is off by more than 1 %, but by less than the angle of cosine .9."""
    toy = sentence()
    off = off_direction(_of_advantage(toy, advantage, 2), true_gradient(toy, toy.f1, toy.theta))
    return max(0.0, 0.01 - off, off - math.sqrt(2 - 2 * 0.9))


def _variance(toy: Tagging, advantage: Advantage, samples: int) -> float:
    """Trace of the covariance of the k-sample estimate, by enumeration."""
    index, orders = groups(len(toy.action), samples)
    weight = orders * toy.chance(toy.theta)[index].prod(1)
    each = advantage(toy.f1[index].reshape(-1), samples).view(-1, samples)
    estimate = (each[..., None] * _score_vectors(toy).sum(1)[index]).mean(1)  # [G, weights]
    mean = (weight[:, None] * estimate).sum(0)
    return float((weight * (estimate**2).sum(1)).sum() - (mean**2).sum())


def _score_vectors(toy: Tagging) -> Tensor:
    """d log p of each decision: [M, T, weights]."""
    found: Tensor = torch.func.jacfwd(toy.log_prob)(toy.theta)
    return found


def _closed_variance(advantage: Advantage) -> float:
    """Relative, for 2 samples of 153 sequences and 4 of 5."""
    error = 0.0
    for toy, k in ((sentence(), 2), (two_words(), 4)):
        chance, square = toy.chance(toy.theta), (_score_vectors(toy).sum(1) ** 2).sum(1)
        mean = float((chance * toy.f1).sum())
        spread = float((chance * (toy.f1 - mean) ** 2).sum())
        around = float((chance * (toy.f1 - mean) ** 2 * square).sum()) + spread / (k - 1) * float(
            (chance * square).sum()
        )
        slope = float((true_gradient(toy, toy.f1, toy.theta) ** 2).sum())
        error = max(error, abs(_variance(toy, advantage, k) / _closed_form(k, around, slope) - 1))
    return error


def _break_even(rule: Callable[[Tensor], Tensor]) -> float:
    """Samples by which the rule is off, over uniform policies of 20 actions of which m pay 1.

    There the score s_a = e_a - 1/n has the same norm for every action, so both variances are known in closed form.
    """
    n, error = 20, 0.0
    for paying in (2, 4, 5, 10):
        mean, spread, norm = paying / n, paying / n * (1 - paying / n), 1 - 1 / n
        slope = spread / n  # |d J|^2
        plain = (spread + mean**2) * norm - slope  # k times the variance without a baseline
        first = next(k for k in range(2, 1000) if _closed_form(k, spread * norm * k / (k - 1), slope) < plain / k)
        predicted = math.floor(float(rule((torch.arange(n) < paying).to(D))) + 1e-9) + 1
        error = max(error, abs(first - predicted))
    return error


def _closed_form(k: int, around: float, slope: float) -> float:
    """Variance of leave-one-out (METHODS 3): around = E (R-J)^2 s^2 + Var/(k-1) E s^2, slope = |d J|^2."""
    return (k * around + k * (k - 1) * slope * (1 + 1 / (k - 1) ** 2)) / k**2 - slope


def _least_variance(advantage_of: Callable[..., Tensor]) -> float:
    """By how much var(episode) > var(return to go) > var(return to go - V) is missed; V is exact, rewards are per tag."""
    toy = sentence()
    chance, each, score = toy.chance(toy.theta), toy.per_tag(), _score_vectors(toy)
    to_go = each.flip(1).cumsum(1).flip(1)
    prefix = [tuple(row) for row in toy.action.tolist()]
    value = torch.zeros_like(each)
    for t in range(each.shape[1]):
        for start in {row[:t] for row in prefix}:
            same = torch.tensor([row[:t] == start for row in prefix])
            value[same, t] = (chance * to_go[:, t])[same].sum() / chance[same].sum()
    whole = torch.ones_like(each, dtype=torch.bool)
    discount = torch.ones_like(each)
    discount[:, -1] = 0
    with_value = advantage_of(each, value, discount, whole, 1.0, 1.0)
    right = true_gradient(toy, each.sum(1), toy.theta)

    def variance(advantage: Tensor) -> float:
        estimate = (advantage[..., None] * score).sum(1)
        bias = float(((chance[:, None] * estimate).sum(0) - right).norm() / right.norm())
        return float((chance * (estimate**2).sum(1)).sum() - (right**2).sum()) if bias < 1e-8 else math.inf

    sizes = [variance(a) for a in (each.sum(1, keepdim=True).expand_as(each), to_go, with_value)]
    return max(0.0, sizes[1] - sizes[0], sizes[2] - sizes[1])


ORACLES = (
    Oracle(
        name="leave_one_out",
        row=2,
        object="leave-one-out advantage, 2, 4 and 6 samples",
        oracle="sum over all groups of sequences",
        tolerance=1e-8,
        subject=leave_one_out,
        distance=_leave_one_out,
    ),
    Oracle(
        name="group_mean",
        row=3,
        object="advantage over the group's own mean (GRPO, not scaled)",
        oracle="(k - 1) / k of the policy gradient",
        tolerance=1e-8,
        subject=lambda returns, k: group_relative(returns, k, scale=False),
        distance=_self_inclusive,
    ),
    Oracle(
        name="group_std",
        row=4,
        object="advantage over the group's std (GRPO, scaled) is biased",
        oracle="cosine above .9, but not the direction of the policy gradient",
        tolerance=0.0,
        subject=lambda returns, k: group_relative(returns, k, scale=True),
        distance=_scaled_is_biased,
    ),
    Oracle(
        name="leave_one_out_variance",
        row=5,
        object="variance of leave-one-out",
        oracle="closed form",
        tolerance=1e-8,
        subject=leave_one_out,
        distance=_closed_variance,
    ),
    Oracle(
        name="break_even",
        row=5,
        object="leave-one-out pays where k > 1 + Var(R) / E[R]^2",
        oracle="first k at which its variance is lower, in closed form",
        tolerance=0.0,
        subject=leave_one_out_break_even,
        distance=_break_even,
    ),
    Oracle(
        name="less_variance",
        row=6,
        object="variance: episode > return to go > return to go - V; none biased",
        oracle="enumeration",
        tolerance=0.0,
        subject=generalized_advantage,
        distance=_least_variance,
    ),
)
