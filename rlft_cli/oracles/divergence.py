"""KL estimators: their values, and what their gradients are gradients of, by enumeration (METHODS 7.1, rows 12 to 14)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from rlft_cli.algo import Algorithm
from rlft_cli.oracles import Oracle
from rlft_cli.oracles.toys.tagging import REINFORCE, expected_gradient, gradient, residual, sentence
from rlft_cli.returns import kl_k1, kl_k2, kl_k3

Estimator = Callable[[Tensor, Tensor], Tensor]
BETA = 0.7


def _pair(theta: Tensor) -> tuple[Tensor, Tensor]:
    """log pi and log pi_ref [M] of whole sequences."""
    toy = sentence()
    return toy.log_prob(theta).sum(1), toy.log_prob(toy.other).sum(1)


def _unbiased(estimator: Estimator) -> float:
    pi, ref = _pair(sentence().theta)
    exact = (pi.exp() * (pi - ref)).sum()
    return float(((pi.exp() * estimator(pi, ref)).sum() / exact - 1).abs())


def _never_negative(estimator: Estimator) -> float:
    return _unbiased(estimator) + float((-estimator(*_pair(sentence().theta))).clamp(min=0).max())


def _bias_goes(estimator: Estimator) -> float:
    """Relative bias where pi is near pi_ref; and it must have one where it is not."""
    toy = sentence()
    pi, ref = _pair(toy.other + 1e-3 * (toy.theta - toy.other))
    exact = (pi.exp() * (pi - ref)).sum()
    near = float(((pi.exp() * estimator(pi, ref)).sum() / exact - 1).abs())
    return near if _unbiased(estimator) > 0.05 else 1.0


def _kl_gradient(forward: bool) -> Tensor:
    """d/dtheta of KL(pi || ref), or of KL(ref || pi)."""
    theta = sentence().theta.clone().requires_grad_()
    pi, ref = _pair(theta)
    return gradient((pi.exp() * (pi - ref)).sum() if forward else (ref.exp() * (ref - pi)).sum(), theta)


def _as_loss(estimator: Estimator) -> Tensor:
    """E of d estimator / d theta: what descending it as a loss follows."""
    theta = sentence().theta.clone().requires_grad_()
    pi, ref = _pair(theta)
    return gradient((pi.detach().exp() * estimator(pi, ref)).sum(), theta)


def _no_gradient(estimator: Estimator) -> float:
    return float(_as_loss(estimator).abs().max())


def _forward_gradient(estimator: Estimator) -> float:
    return residual(_as_loss(estimator), _kl_gradient(forward=True))


def _reverse_gradient(estimator: Estimator) -> float:
    return residual(_as_loss(estimator), _kl_gradient(forward=False))


def _in_reward(algorithm: Algorithm) -> float:
    toy = sentence()
    columns = {"log_prob": toy.log_prob(toy.theta), "reference_log_prob": toy.log_prob(toy.other)}
    found = expected_gradient(toy, algorithm, toy.theta, torch.zeros_like(toy.per_tag()), columns)
    return residual(found, -BETA * _kl_gradient(forward=True))


def _token_sum(estimator: Estimator) -> float:
    toy = sentence()
    per_token = estimator(toy.log_prob(toy.theta), toy.log_prob(toy.other)).sum(1)
    ratio = toy.chance(toy.theta) / toy.chance(toy.other)
    return float((per_token - ratio.log()).abs().max())


ORACLES = (
    Oracle(
        name="kl_k1",
        row=12,
        object="mean of the KL estimator k1",
        oracle="KL(pi || ref) over 153 sequences",
        tolerance=1e-10,
        subject=kl_k1,
        distance=_unbiased,
    ),
    Oracle(
        name="kl_k3",
        row=12,
        object="mean of the KL estimator k3, and its sign",
        oracle="KL(pi || ref) over 153 sequences; never negative",
        tolerance=1e-10,
        subject=kl_k3,
        distance=_never_negative,
    ),
    Oracle(
        name="kl_k2",
        row=12,
        object="bias of the KL estimator k2",
        oracle="goes to 0 as pi goes to pi_ref, and only there",
        tolerance=1e-2,
        subject=kl_k2,
        distance=_bias_goes,
    ),
    Oracle(
        name="kl_k1_loss",
        row=13,
        object="k1 as a loss teaches nothing",
        oracle="expected gradient 0",
        tolerance=1e-10,
        subject=kl_k1,
        distance=_no_gradient,
    ),
    Oracle(
        name="kl_k2_loss",
        row=13,
        object="gradient of k2 as a loss",
        oracle="gradient of KL(pi || ref)",
        tolerance=1e-10,
        subject=kl_k2,
        distance=_forward_gradient,
    ),
    Oracle(
        name="kl_k3_loss",
        row=13,
        object="gradient of k3 as a loss",
        oracle="gradient of KL(ref || pi)",
        tolerance=1e-10,
        subject=kl_k3,
        distance=_reverse_gradient,
    ),
    Oracle(
        name="kl_reward",
        row=13,
        object="REINFORCE with the KL in the reward",
        oracle="gradient of KL(pi || ref)",
        tolerance=1e-10,
        subject=replace(REINFORCE, kl_coefficient=BETA),
        distance=_in_reward,
    ),
    Oracle(
        name="kl_token_sum",
        row=14,
        object="sum of k1 over the decisions",
        oracle="log ratio of the sequence's probabilities",
        tolerance=1e-10,
        subject=kl_k1,
        distance=_token_sum,
    ),
)
