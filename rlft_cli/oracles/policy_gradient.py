"""Policy gradients: each expectation is a finite sum over all legal tag sequences (METHODS 7.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from rlft_cli.algo import Algorithm
from rlft_cli.algo.reinforce import Reinforce
from rlft_cli.oracles import Oracle
from rlft_cli.oracles.toys.tagging import (
    REINFORCE,
    D,
    expected_gradient,
    gradient,
    residual,
    sentence,
    true_gradient,
)
from rlft_cli.returns import entropy
from rlft_cli.reward.f1_delta import potentials


def _against_f1(algorithm: Algorithm) -> float:
    """Residual of the expected gradient where the sentence's F1 is paid at the last tag."""
    toy = sentence()
    greedy = toy.at_end(torch.full_like(toy.f1, 0.8))
    found = expected_gradient(toy, algorithm, toy.theta, toy.at_end(toy.f1), {"greedy_reward": greedy})
    return residual(found, true_gradient(toy, toy.f1, toy.theta))


def _with_history(algorithm: Reinforce) -> float:
    algorithm.state["baseline"] = torch.tensor(0.37, dtype=D)  # what earlier batches left: a constant for this one
    return _against_f1(algorithm)


def _per_tag(algorithm: Algorithm) -> float:
    toy = sentence()
    right = true_gradient(toy, toy.per_tag().sum(1), toy.theta)
    return residual(expected_gradient(toy, algorithm, toy.theta, toy.per_tag()), right)


def _telescopes(potential: Callable[[list[str], list[str]], object]) -> float:
    toy = sentence()
    return float((toy.f1_delta(potential).sum(1) - toy.f1).abs().max())  # Phi_0 = 0: the reference has entities


def _f1_delta(algorithm: Algorithm) -> float:
    toy = sentence()
    found = expected_gradient(toy, algorithm, toy.theta, toy.f1_delta())
    return residual(found, true_gradient(toy, toy.f1, toy.theta))


def _zero_one(algorithm: Algorithm) -> float:
    toy = sentence()
    hit = toy.f1 == 1
    theta = toy.theta.clone().requires_grad_()
    log_prob = toy.log_prob(theta).sum(1)[hit].sum()  # one sequence
    right = log_prob.detach().exp() * gradient(log_prob, theta)
    return residual(expected_gradient(toy, algorithm, toy.theta, toy.at_end(hit.to(D))), right)


def _entropy_gradient(subject: Callable[[Tensor], Tensor]) -> float:
    """Against -E[(log pi + 1) d log pi] by state, all states with the same weight."""
    toy = sentence()
    theta = toy.theta.clone().requires_grad_()
    found = gradient(subject(toy.scores(theta)).sum(), theta)
    log_pi = torch.log_softmax(toy.scores(theta), -1)
    weight = -(log_pi.exp() * (log_pi + 1)).detach()
    return residual(found, gradient((weight * torch.where(toy.scores(theta) > -1e8, log_pi, 0.0)).sum(), theta))


def _entropy_bonus(algorithm: Reinforce) -> float:
    toy = sentence()
    theta = toy.theta.clone().requires_grad_()
    right = 0.3 * gradient((toy.chance(toy.theta)[:, None] * entropy(toy.scores(theta))).sum(), theta)
    return residual(expected_gradient(toy, algorithm, toy.theta, torch.zeros_like(toy.per_tag())), right)


def _constant(algorithm: Algorithm) -> float:
    toy = sentence()
    found = expected_gradient(toy, algorithm, toy.theta, toy.at_end(torch.ones_like(toy.f1)))
    return float(found.abs().max())


def _episode_credit(algorithms: tuple[Algorithm, Algorithm]) -> float:
    return max(_against_f1(algorithm) for algorithm in algorithms)


_GRADIENT = "sum over 153 legal sequences of p(y) R(y), differentiated"

ORACLES = (
    Oracle(
        name="reinforce",
        row=1,
        object="REINFORCE, no baseline, both forms of credit",
        oracle=_GRADIENT,
        tolerance=1e-8,
        subject=(REINFORCE, replace(REINFORCE, credit="episode")),
        distance=_episode_credit,
    ),
    Oracle(
        name="reinforce_moving_average",
        row=1,
        object="REINFORCE, moving average",
        oracle=_GRADIENT,
        tolerance=1e-8,
        subject=replace(REINFORCE, baseline="moving_average"),
        distance=_with_history,
    ),
    Oracle(
        name="reinforce_self_critical",
        row=1,
        object="REINFORCE, self-critical",
        oracle=_GRADIENT,
        tolerance=1e-8,
        subject=replace(REINFORCE, baseline="self_critical"),
        distance=_against_f1,
    ),
    Oracle(
        name="reinforce_leave_one_out",
        row=2,
        object="REINFORCE, leave-one-out, 2 samples",
        oracle="double sum over pairs of sequences",
        tolerance=1e-8,
        subject=replace(REINFORCE, samples=2, baseline="leave_one_out"),
        distance=_against_f1,
    ),
    Oracle(
        name="return_to_go",
        row=6,
        object="REINFORCE, return to go, reward of each tag",
        oracle=_GRADIENT,
        tolerance=1e-8,
        subject=REINFORCE,
        distance=_per_tag,
    ),
    Oracle(
        name="f1_delta_telescopes",
        row=7,
        object="F1-delta reward",
        oracle="F1 of the sentence",
        tolerance=1e-12,
        subject=potentials,
        distance=_telescopes,
    ),
    Oracle(
        name="f1_delta",
        row=7,
        object="REINFORCE on the F1-delta reward",
        oracle="gradient of the sentence's F1",
        tolerance=1e-8,
        subject=REINFORCE,
        distance=_f1_delta,
    ),
    Oracle(
        name="zero_one",
        row=8,
        object="REINFORCE on a 0/1 reward",
        oracle="pi(y*) d log pi(y*)",
        tolerance=1e-10,
        subject=REINFORCE,
        distance=_zero_one,
    ),
    Oracle(
        name="entropy",
        row=9,
        object="gradient of the entropy",
        oracle="score form, by enumeration of actions",
        tolerance=1e-8,
        subject=entropy,
        distance=_entropy_gradient,
    ),
    Oracle(
        name="entropy_bonus",
        row=9,
        object="entropy bonus of REINFORCE",
        oracle="gradient of the mean entropy",
        tolerance=1e-8,
        subject=replace(REINFORCE, entropy_coefficient=0.3),
        distance=_entropy_bonus,
    ),
    Oracle(
        name="constant_reward",
        row=10,
        object="REINFORCE on a constant reward",
        oracle="no gradient",
        tolerance=1e-10,
        subject=REINFORCE,
        distance=_constant,
    ),
)
