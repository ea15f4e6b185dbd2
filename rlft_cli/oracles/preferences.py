"""Preferences: population optima of Bradley-Terry and DPO, and that RL with a KL has the same (METHODS 7.1, rows 36, 37)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from rlft_cli.algo import Algorithm
from rlft_cli.model import Output
from rlft_cli.oracles import Oracle
from rlft_cli.oracles.toys.replies import BETA, replies
from rlft_cli.oracles.toys.tagging import REINFORCE
from rlft_cli.returns import bradley_terry_loss, dpo_loss

D = torch.float64
Pairwise = Callable[[Tensor, Tensor, float], Tensor]
Dpo = Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]
ITEMS = 6


def _minimum(loss_of: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """Where L-BFGS takes a parameter."""
    parameter = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [parameter], max_iter=300, tolerance_grad=1e-12, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def closure() -> float:
        optimizer.zero_grad()
        loss = loss_of(parameter)
        torch.autograd.backward(loss)
        return float(loss.detach())

    optimizer.step(closure)
    return parameter.detach()


def _rewards(wins: Tensor, loss: Pairwise) -> Tensor:
    """Centred rewards [..., 6] that fit how often [..., 6, 6] row was preferred to column."""

    def total(reward: Tensor) -> Tensor:
        return (wins * loss(reward[..., :, None], reward[..., None, :], 0.0)).sum()

    found = _minimum(total, torch.zeros(wins.shape[:-1], dtype=D))
    return found - found.mean(-1, keepdim=True)


def _truth() -> tuple[Tensor, Tensor]:
    """Centred true rewards [6] and the chance [6, 6] that row is preferred to column."""
    reward = torch.randn(ITEMS, generator=torch.Generator().manual_seed(81), dtype=D)
    reward = reward - reward.mean()
    return reward, torch.sigmoid(reward[:, None] - reward[None, :]) * (1 - torch.eye(ITEMS, dtype=D))


def _population(loss: Pairwise) -> float:
    reward, chance = _truth()
    return float((_rewards(chance, loss) - reward).abs().max())


def _samples(loss: Pairwise) -> float:
    """How far outside [2.2, 4.5] the ratio of errors is for ten times the comparisons (sqrt(10) = 3.2), 24 repeats."""
    reward, chance = _truth()
    source, errors = torch.Generator().manual_seed(82), []
    for each in (40, 400):  # comparisons of every ordered pair
        wins = (torch.rand(24, each, ITEMS, ITEMS, generator=source, dtype=D) < chance).to(D).mean(1)
        wins = (wins + (1 - wins.mT)) * (1 - torch.eye(ITEMS, dtype=D)) / 2  # who is not preferred loses
        errors.append(float(((_rewards(wins, loss) - reward) ** 2).mean().sqrt()))
    ratio = errors[0] / errors[1]
    return max(0.0, 2.2 - ratio, ratio - 4.5)


def _dpo_total(loss: Dpo, logits: Tensor) -> Tensor:
    """Mean loss over all ordered pairs of replies drawn from the reference and judged by Bradley-Terry."""
    world = replies()
    ref, pi = world.log_prob(world.reference), world.log_prob(logits)
    chance = torch.sigmoid(world.paid()[:, None] - world.paid()[None, :])
    weight = ref.exp()[:, None] * ref.exp()[None, :] * chance
    return (weight * loss(pi[:, None], pi[None, :], ref[:, None], ref[None, :], BETA)).sum()


def _dpo_gradient(loss: Dpo) -> float:
    logits = replies().best.clone().requires_grad_()
    (found,) = torch.autograd.grad(_dpo_total(loss, logits), logits)
    return float(found.abs().max())


def _dpo_optimum(loss: Dpo) -> float:
    """Total variation of what L-BFGS finds from the reference on."""
    world = replies()
    found = _minimum(lambda logits: _dpo_total(loss, logits), world.reference)
    return float(0.5 * (world.log_prob(found).exp() - world.tilted()).abs().sum())


def _rl_gradient(algorithm: Algorithm) -> float:
    """Expected gradient of REINFORCE with the KL in the reward at pi*, by whole replies."""
    world = replies()
    logits = world.best.clone().requires_grad_()
    chosen = world.best[world.state].gather(-1, world.data.action[..., None]).squeeze(-1)
    prepared = algorithm.prepare(replace(world.data, log_prob=chosen))
    loss = algorithm.loss(Output(scores=logits[world.state], value=None), prepared, None)
    weight = world.tilted()[:, None] * world.data.mask
    (found,) = torch.autograd.grad((weight * loss).sum(), logits)
    return float(found.abs().max())


_TILTED = "pi_ref(y) exp(R / beta) / Z over all replies"

ORACLES = (
    Oracle(
        name="bradley_terry",
        row=36,
        object="Bradley-Terry reward, all comparisons",
        oracle="the true reward, up to a constant",
        tolerance=1e-4,
        subject=bradley_terry_loss,
        distance=_population,
    ),
    Oracle(
        name="bradley_terry_samples",
        row=36,
        object="Bradley-Terry reward, error for 10 times the comparisons",
        oracle="falls as 1 / sqrt(M): a ratio of 2.2 to 4.5",
        tolerance=0.0,
        subject=bradley_terry_loss,
        distance=_samples,
    ),
    Oracle(
        name="dpo_gradient",
        row=37,
        object="DPO's gradient at the optimum of RL with a KL",
        oracle="0, summed over all pairs of replies",
        tolerance=1e-8,
        subject=dpo_loss,
        distance=_dpo_gradient,
    ),
    Oracle(
        name="dpo_optimum",
        row=37,
        object="DPO's population optimum, total variation",
        oracle=_TILTED,
        tolerance=1e-6,
        subject=dpo_loss,
        distance=_dpo_optimum,
    ),
    Oracle(
        name="rl_gradient",
        row=37,
        object="REINFORCE with the KL in the reward at that optimum",
        oracle="expected gradient 0, summed over all replies",
        tolerance=1e-8,
        subject=replace(REINFORCE, kl_coefficient=BETA),
        distance=_rl_gradient,
    ),
)
