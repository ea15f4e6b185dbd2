"""Distributional targets: C51's projection and quantile regression, against enumeration (METHODS 7.1, row 25)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from rlft_cli.oracles import Oracle
from rlft_cli.returns import categorical_projection, quantile_huber

D = torch.float64
Projection = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def _projected(project: Projection) -> float:
    """Sums to 1; keeps the mean where nothing is clipped; puts on the last atoms what lies beyond them."""
    chance = torch.Generator().manual_seed(41)
    support = torch.linspace(-1, 1, 21, dtype=D)
    probability = torch.softmax(torch.randn(30, 21, generator=chance, dtype=D), -1)
    reward = 0.4 * torch.rand(30, generator=chance, dtype=D) - 0.2
    scale = 0.8 * torch.rand(30, generator=chance, dtype=D)
    scale[:5] = 0  # the last decisions
    inside = project(support, probability, reward, scale)
    mean = reward + scale * (probability * support).sum(-1)
    beyond = project(support, probability, reward.sign() * 5, scale)
    edge = torch.where(reward > 0, beyond[:, -1], beyond[:, 0])
    faults = [
        (inside.sum(-1) - 1).abs(),
        ((inside * support).sum(-1) - mean).abs(),
        (edge - 1).abs(),
        (-inside).clamp(min=0),
    ]
    return max(float(fault.max()) for fault in faults)


def _distribution(project: Projection) -> float:
    """Return of 4 decisions that pay 0 or 1, from the last one back, against the 16 outcomes."""
    chances = [0.2, 0.9, 0.5, 0.35]
    exact = torch.zeros(5, dtype=D)
    for outcome in itertools.product((0, 1), repeat=4):
        exact[sum(outcome)] += math.prod(p if paid else 1 - p for p, paid in zip(chances, outcome, strict=True))
    support = torch.arange(5, dtype=D)
    found = torch.full((5,), 0.2, dtype=D)  # what follows the end; it must not count
    for t in reversed(range(4)):
        scale = torch.full((1,), float(t < 3), dtype=D)
        paid, nothing = (project(support, found[None], torch.full((1,), r, dtype=D), scale)[0] for r in (1.0, 0.0))
        found = chances[t] * paid + (1 - chances[t]) * nothing
    return float((found - exact).abs().max())


def _quantiles(loss: Callable[[Tensor, Tensor, float], Tensor]) -> float:
    """5 quantiles learned from 2,000 evenly spread samples of a normal, against its inverse distribution function."""
    target = torch.special.ndtri((torch.arange(2_000, dtype=D) + 0.5) / 2_000)
    level = (torch.arange(5, dtype=D) + 0.5) / 5
    theta = torch.zeros(5, dtype=D).requires_grad_()
    optimizer, steps = torch.optim.Adam([theta], lr=0.05), 400
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / steps)
        optimizer.zero_grad()
        torch.autograd.backward(loss(theta, target, 0.0))
        optimizer.step()
    return float((theta.detach() - torch.special.ndtri(level)).abs().max())


def _huber_parts(loss: Callable[[Tensor, Tensor, float], Tensor]) -> float:
    """kappa far above every distance is the square, far below it the quantile loss: both in closed form."""
    chance = torch.Generator().manual_seed(42)
    theta, target = torch.randn(7, generator=chance, dtype=D), torch.randn(11, generator=chance, dtype=D)
    u = target[None, :] - theta[:, None]
    weight = ((torch.arange(7, dtype=D)[:, None] + 0.5) / 7 - (u < 0).to(D)).abs()
    square, absolute = (weight * u**2 / 2).mean(), (weight * u.abs()).mean()
    return max(
        abs(float(1e6 * loss(theta, target, 1e6) - square)),
        abs(float(loss(theta, target, 1e-9) - absolute)) * 1e-2,
        abs(float(loss(theta, target, 0.0) - absolute)),
    )


ORACLES = (
    Oracle(
        name="c51_projection",
        row=25,
        object="C51 projection",
        oracle="sum 1; mean kept inside the support; clipped outside",
        tolerance=1e-10,
        subject=categorical_projection,
        distance=_projected,
    ),
    Oracle(
        name="c51_return",
        row=25,
        object="C51 backups from the last decision on",
        oracle="distribution of the return over all outcomes",
        tolerance=1e-10,
        subject=categorical_projection,
        distance=_distribution,
    ),
    Oracle(
        name="quantiles",
        row=25,
        object="quantile regression",
        oracle="quantiles of the normal distribution",
        tolerance=5e-3,
        subject=quantile_huber,
        distance=_quantiles,
    ),
    Oracle(
        name="quantile_huber",
        row=25,
        object="quantile Huber loss at its two ends",
        oracle="weighted squares, weighted distances",
        tolerance=1e-8,
        subject=quantile_huber,
        distance=_huber_parts,
    ),
)
