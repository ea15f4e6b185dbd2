"""Policy gradients: the direction of the expected gradient against the exact one, by enumeration."""

from __future__ import annotations

import torch
from torch import Tensor

from rlft_cli.algo import Algorithm
from rlft_cli.oracles import Oracle
from rlft_cli.oracles.toys.tagging import (
    Tagging,
    expected_gradient,
    off_direction,
    sentence,
    tagging,
    true_gradient,
    two_words,
)


def _toy(algorithm: Algorithm) -> Tagging:
    return sentence() if algorithm.samples <= 2 else two_words()


def _one_decision(algorithm: Algorithm) -> float:
    """One tag, paid .9, .2 or .4: whatever gamma and credit are, only this reward counts."""
    toy = tagging(["O", "B-X", "B-Y"], ["B-X"])
    reward = torch.tensor([0.2, 0.9, 0.4], dtype=torch.float64)
    return _direction(algorithm, toy, reward[:, None])


def _no_coupling(algorithm: Algorithm) -> float:
    """Right tags of a sentence whose tags do not depend on one another: later rewards add noise only, for any gamma."""
    toy = tagging(["O", "B-X", "B-Y"], ["B-X", "O"])
    return _direction(algorithm, toy, toy.per_tag())


def _at_the_end(algorithm: Algorithm) -> float:
    toy = _toy(algorithm)
    return _direction(algorithm, toy, toy.at_end(toy.f1))


def _direction(algorithm: Algorithm, toy: Tagging, reward: Tensor) -> float:
    """Off the direction of the exact gradient, at the uniform policy, which is also the reference.

    There an entropy bonus and a KL have no gradient of their own; a positive factor is a matter of the learning rate. The
    value that a critic foresaw is the true one.
    """
    algorithm.state.clear()
    theta = torch.zeros_like(toy.theta)
    log_prob = toy.log_prob(theta)
    columns = {"log_prob": log_prob, "reference_log_prob": log_prob, "value": toy.foreseen(theta, reward)}
    found = expected_gradient(toy, algorithm, theta, reward, columns)
    return off_direction(found, true_gradient(toy, reward.sum(1), theta))


ON_POLICY = (
    Oracle(
        name="algo_one_decision",
        row=1,
        object="expected gradient of one decision",
        oracle="direction of the policy gradient, by enumeration",
        tolerance=1e-6,
        subject=None,
        distance=_one_decision,
    ),
    Oracle(
        name="algo_independent",
        row=1,
        object="expected gradient of decisions that do not depend on one another",
        oracle="direction of the policy gradient, by enumeration",
        tolerance=1e-6,
        subject=None,
        distance=_no_coupling,
    ),
    Oracle(
        name="algo_at_the_end",
        row=1,
        object="expected gradient of a reward at the end",
        oracle="direction of the policy gradient, by enumeration",
        tolerance=1e-6,
        subject=None,
        distance=_at_the_end,
    ),
)
