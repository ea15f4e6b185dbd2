"""Algorithms with a learned value, with PPO's clip, with a group's mean, with the KL as a loss: their expected gradients."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from rlft_cli.algo import Algorithm
from rlft_cli.algo.grpo import Grpo
from rlft_cli.algo.ppo import Ppo
from rlft_cli.oracles import Oracle
from rlft_cli.oracles.toys.tagging import (
    REINFORCE,
    D,
    Tagging,
    expected_gradient,
    gradient,
    residual,
    sentence,
    true_gradient,
)

BETA = 0.7
PPO = Ppo(
    samples=1,
    epochs=1,
    clip_range=0.2,
    gamma=1.0,
    gae_lambda=1.0,
    value_coefficient=0.5,
    value_clip_range=None,
    entropy_coefficient=0.0,
    kl_coefficient=0.0,
    kl_target=None,
    kl_rate=0.1,
)
GRPO = Grpo(
    samples=2,
    epochs=1,
    clip_range=0.2,
    scale_rewards=False,
    credit="return_to_go",
    gamma=1.0,
    entropy_coefficient=0.0,
    kl_coefficient=0.0,
    kl_target=None,
    kl_rate=0.1,
)


def _prefixes(toy: Tagging) -> list[list[tuple[int, ...]]]:
    """What was decided before each decision: [M][T]."""
    return [[tuple(row[:t]) for t in range(len(row))] for row in toy.action.tolist()]


def _any_value(toy: Tagging) -> Tensor:
    """A value [M, T] without meaning; it depends on what came before the decision, and on nothing else."""
    before = _prefixes(toy)
    states = sorted({state for row in before for state in row})
    some = torch.randn(len(states), generator=torch.Generator().manual_seed(7), dtype=D)
    return torch.stack([some[[states.index(state) for state in row]] for row in before])


def _bias(algorithm: Algorithm, value: Tensor, share: float) -> float:
    """Residual against ``share`` of the policy gradient, where F1 is paid at the end."""
    toy = sentence()
    columns = {"value": value, "log_prob": toy.log_prob(toy.theta)}
    found = expected_gradient(toy, algorithm, toy.theta, toy.at_end(toy.f1), columns)
    return residual(found, share * true_gradient(toy, toy.f1, toy.theta))


def _with_a_value(algorithm: Algorithm) -> float:
    return _bias(algorithm, _any_value(sentence()), 1.0)


def _with_the_value(algorithm: Algorithm) -> float:
    toy = sentence()
    return _bias(algorithm, toy.foreseen(toy.theta, toy.at_end(toy.f1)), 1.0)


def _half(algorithm: Algorithm) -> float:
    """(k - 1) / k of the gradient, k = 2."""
    return _bias(algorithm, torch.zeros(sentence().action.shape, dtype=D), 0.5)


def _kl_of_each_decision(algorithm: Algorithm) -> float:
    """Against the gradient of sum_t KL(pi(. | s_t) || ref(. | s_t)), the chances of the states held."""
    toy = sentence()
    theta = toy.theta.clone().requires_grad_()
    log_pi, log_ref = (torch.log_softmax(toy.scores(weights), -1) for weights in (theta, toy.other))
    each = (log_pi.exp() * (log_pi - log_ref)).sum(-1)
    right = gradient((toy.chance(toy.theta)[:, None] * each).sum(), theta)
    columns = {"log_prob": toy.log_prob(toy.theta), "reference_log_prob": toy.log_prob(toy.other)}
    found = expected_gradient(toy, algorithm, toy.theta, torch.zeros_like(toy.per_tag()), columns)
    return residual(found, -BETA * right)


_GRADIENT = "policy gradient over 153 sequences"

ORACLES = (
    Oracle(
        name="reinforce_value",
        row=6,
        object="REINFORCE against any value of the state",
        oracle=_GRADIENT,
        tolerance=1e-8,
        subject=replace(REINFORCE, baseline="value"),
        distance=_with_a_value,
    ),
    Oracle(
        name="actor_critic",
        row=26,
        object="actor-critic (PPO in its first epoch), lambda 1, any value of the state",
        oracle=_GRADIENT,
        tolerance=1e-8,
        subject=PPO,
        distance=_with_a_value,
    ),
    Oracle(
        name="ppo_algorithm",
        row=26,
        object="PPO in its first epoch, lambda 0.3, the true value",
        oracle=_GRADIENT,
        tolerance=1e-8,
        subject=replace(PPO, gae_lambda=0.3),
        distance=_with_the_value,
    ),
    Oracle(
        name="grpo_algorithm",
        row=3,
        object="GRPO in its first epoch, not scaled, 2 samples",
        oracle="half the policy gradient, sum over pairs of sequences",
        tolerance=1e-8,
        subject=GRPO,
        distance=_half,
    ),
    Oracle(
        name="kl_in_loss",
        row=13,
        object="REINFORCE with the KL as a loss (k2)",
        oracle="gradient of the KL of each decision, by enumeration",
        tolerance=1e-10,
        subject=replace(REINFORCE, kl_coefficient=BETA, kl_in="loss"),
        distance=_kl_of_each_decision,
    ),
)
