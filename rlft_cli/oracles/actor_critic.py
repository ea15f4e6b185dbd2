"""Actor-critic: generalized advantages and PPO's clipped loss (METHODS 7.1, row 26; 7.2)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rlft_cli.oracles import Oracle
from rlft_cli.oracles.toys.tagging import gradient, residual, sentence, true_gradient
from rlft_cli.returns import generalized_advantage, ppo_clip_loss

D = torch.float64
Clipped = Callable[[Tensor, Tensor, Tensor, float], Tensor]
LENGTHS = (6, 1, 4)


def _gae(advantage_of: Callable[..., Tensor]) -> float:
    """lambda-weighted sum of the k-step errors, written out; 0 is one step, 1 the return - V; NaN beyond the end."""
    chance, worst = torch.Generator().manual_seed(51), 0.0
    mask = torch.arange(6)[None, :] < torch.tensor(LENGTHS)[:, None]
    discount = (torch.arange(6)[None, :] < torch.tensor(LENGTHS)[:, None] - 1).to(D)
    reward, value = (torch.where(mask, torch.randn(3, 6, generator=chance, dtype=D), torch.nan) for _ in range(2))
    for gamma in (1.0, 0.9):
        for trace in (0.0, 0.3, 0.95, 1.0):
            found = advantage_of(reward, value, discount, mask, gamma, trace)
            for n, length in enumerate(LENGTHS):
                r, v = reward[n, :length].tolist(), [*value[n, :length].tolist(), 0.0]
                for t in range(length):
                    left = length - t
                    steps = [
                        sum(gamma**i * r[t + i] for i in range(k)) + gamma**k * v[t + k] - v[t]
                        for k in range(1, left + 1)
                    ]
                    weighted = sum((1 - trace) * trace ** (k - 1) * steps[k - 1] for k in range(1, left))
                    worst = max(worst, abs(float(found[n, t]) - weighted - trace ** (left - 1) * steps[-1]))
            worst = max(worst, float(torch.where(mask, 0.0, found).abs().nan_to_num(nan=torch.inf).max()))
    return worst


def _first_update(loss: Clipped) -> float:
    """At the behaviour policy itself the gradient is the policy gradient, whatever the clip."""
    toy = sentence()
    theta = toy.theta.clone().requires_grad_()
    old = toy.log_prob(toy.theta)
    advantage = toy.f1[:, None].expand_as(old)
    surrogate = loss(toy.log_prob(theta), old, advantage, 0.2)
    found = -gradient((toy.chance(toy.theta)[:, None] * surrogate).sum(), theta)
    return residual(found, true_gradient(toy, toy.f1, toy.theta))


def _pessimistic(loss: Clipped) -> float:
    """At another policy: never below -rho A; equal to it inside the clip; no gradient where the clip binds."""
    toy = sentence()
    log_prob = toy.log_prob(toy.theta + 0.3 * toy.other).requires_grad_()
    old, advantage = toy.log_prob(toy.theta).detach(), (toy.f1[:, None] - 0.4).expand(-1, 4)
    found = loss(log_prob, old, advantage, 0.2)
    ratio = (log_prob - old).exp()
    plain = -ratio * advantage
    inside = (ratio - 1).abs() <= 0.2
    binds = ((ratio > 1.2) & (advantage > 0)) | ((ratio < 0.8) & (advantage < 0))
    slope = gradient(found.sum(), log_prob)
    if not (bool(inside.any()) and bool(binds.any())):
        return 1.0
    faults = [
        (plain - found).clamp(min=0),
        (plain - found)[inside].abs(),
        slope[binds].abs(),
        (plain - found)[~binds].abs(),
    ]
    return max(float(fault.detach().max()) for fault in faults)


ORACLES = (
    Oracle(
        name="gae",
        row=26,
        object="generalized advantages, 4 lambdas, 2 gammas, padded",
        oracle="weighted sum of the k-step errors, written out",
        tolerance=1e-10,
        subject=generalized_advantage,
        distance=_gae,
    ),
    Oracle(
        name="ppo_first_update",
        row=26,
        object="PPO's clipped loss at the behaviour policy",
        oracle="policy gradient over 153 sequences",
        tolerance=1e-8,
        subject=ppo_clip_loss,
        distance=_first_update,
    ),
    Oracle(
        name="ppo_clip",
        row=26,
        object="PPO's clipped loss away from it",
        oracle="-rho A or worse; no gradient where the clip binds",
        tolerance=1e-10,
        subject=ppo_clip_loss,
        distance=_pessimistic,
    ),
)
