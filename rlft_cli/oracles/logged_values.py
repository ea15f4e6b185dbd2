"""Q-learning on logs: CQL, expectiles and ILQL against closed forms on the tag chains (METHODS 7.1, rows 24 and 25)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rlft_cli.oracles import Oracle
from rlft_cli.oracles.toys.chain import GAMMA, LENGTHS, D, K, T, chain, start_table
from rlft_cli.returns import IlqlLosses, cql_penalty, expectile_loss, ilql_losses, shift_left

Penalty = Callable[[Tensor, Tensor], Tensor]
ALPHA = 0.1


def _behaviour() -> Tensor:
    """pi_beta [2, T, K + 1, K] of the paths: how often each tag follows in each state."""
    counts = chain().counts()
    return counts / counts.sum(-1, keepdim=True).clamp(min=1)


def _penalty_gradient(penalty: Penalty) -> float:
    """Mean gradient over the data of each state against softmax(Q) - pi_beta."""
    world = chain()
    table = start_table().requires_grad_()
    loss = penalty(world.scores(table), world.data.action)
    (found,) = torch.autograd.grad(torch.where(world.data.mask, loss, 0.0).sum(), table)
    visits = world.counts().sum(-1)
    masked = table.detach().masked_fill(~world.legal[None, None], -1e9)
    right = torch.softmax(masked, -1) - _behaviour()
    seen = visits > 0
    return float(((found / visits.clamp(min=1)[..., None]) - right)[seen].abs().max())


def _conservative(penalty: Penalty) -> float:
    """V-hat = V - alpha (I - gamma P)^-1 [sum_a pi (pi / pi_beta - 1)] for pi = softmax(Q-hat), and V-hat <= V.

    Q-hat is where gradient descent on (Q - r - gamma V')^2 / 2 + alpha penalty settles; V and the sum over later states
    come from recursion. (Kumar et al. 2020, theorem 3.1, with the log-sum-exp penalty.)
    """
    world, behaviour = chain(), _behaviour()
    table = torch.zeros(2, T, K + 1, K, dtype=D)
    counts = world.counts().clamp(min=1)
    for _ in range(400):
        table.requires_grad_()
        scores = world.scores(table)
        value = (torch.softmax(scores, -1) * scores).sum(-1).detach()
        y = world.data.reward + GAMMA * world.data.discount * shift_left(value)
        chosen = scores.gather(-1, world.data.action[..., None]).squeeze(-1)
        loss = 0.5 * (chosen - y) ** 2 + ALPHA * penalty(scores, world.data.action)
        (slope,) = torch.autograd.grad(torch.where(world.data.mask, loss, 0.0).sum(), table)
        table = (table - 0.5 * slope / counts).detach()
    policy = torch.softmax(world.scores(table), -1)
    excess = (policy * (policy / behaviour[world.index()].clamp(min=1e-9) - 1)).sum(-1)  # [N, T]
    q, beyond = torch.zeros_like(table), torch.zeros_like(table)
    worst = 0.0
    for t in reversed(range(max(LENGTHS))):
        value, later = (policy * world.scores(q)).sum(-1), excess + (policy * beyond[world.index()]).sum(-1)
        quantity = world.data.reward + GAMMA * world.data.discount * shift_left(value)
        q[:, t] = world.mean_over_paths(quantity)[:, t]
        beyond[:, t] = world.mean_over_paths(GAMMA * world.data.discount * shift_left(later))[:, t]
        value, later = (policy * world.scores(q)).sum(-1), excess + (policy * beyond[world.index()]).sum(-1)
        there = world.data.mask[:, t]
        low = (policy * world.scores(table)).sum(-1)[there, t]
        worst = max(worst, float((low - (value[there, t] - ALPHA * later[there, t])).abs().max()))
        worst = max(worst, float((low - value[there, t]).max()))
    return worst


def _expectile(loss: Callable[[Tensor, float], Tensor]) -> float:
    """Where the loss is least (by bisection of its gradient), against repeated weighted means."""
    values = torch.randn(200, generator=torch.Generator().manual_seed(31), dtype=D)
    worst = 0.0
    for level in (0.5, 0.7, 0.95):
        low, high = float(values.min()), float(values.max())
        for _ in range(60):
            middle = torch.tensor((low + high) / 2, dtype=D, requires_grad=True)
            (slope,) = torch.autograd.grad(loss(values - middle, level).sum(), middle)
            low, high = ((low + high) / 2, high) if slope < 0 else (low, (low + high) / 2)
        mean = values.mean()
        for _ in range(200):
            weight = (level - (values < mean).to(D)).abs()
            mean = (weight * values).sum() / weight.sum()
        worst = max(worst, abs((low + high) / 2 - float(mean)))
    return worst


def _ilql(losses: Callable[..., IlqlLosses]) -> float:
    """With expectile 1/2 both Q heads settle at the value of the behaviour: mean discounted returns of the paths.

    The losses are squares then, and a gradient step over the curvature of each entry goes all the way.
    """
    world = chain()
    q = torch.stack([start_table(), -start_table()])
    value, counts = torch.zeros(2, T, K + 1, dtype=D), world.counts().clamp(min=1)
    for _ in range(3 * T):
        q.requires_grad_(), value.requires_grad_()
        heads = [world.scores(table) for table in q]
        parts = losses(
            heads=heads,
            lagging_heads=heads,
            value=value[world.index()],
            policy_scores=heads[0].detach(),
            action=world.data.action,
            reward=world.data.reward,
            discount=world.data.discount,
            gamma=GAMMA,
            expectile=0.5,
            advantage_weight=1.0,
        )
        total = torch.where(world.data.mask, parts.value + parts.q, 0.0).sum()
        q_slope, value_slope = torch.autograd.grad(total, (q, value))
        q = (q - 0.5 * q_slope / counts).detach()
        value = (value - value_slope / world.counts().sum(-1).clamp(min=1)).detach()
    to_go = torch.zeros_like(world.data.reward)
    for t in reversed(range(T)):
        to_go[:, t] = world.data.reward[:, t] + (GAMMA * to_go[:, t + 1] if t + 1 < T else 0.0)
    right = world.mean_over_paths(to_go)
    return max(world.error(table, right) for table in q)


ORACLES = (
    Oracle(
        name="cql_gradient",
        row=24,
        object="gradient of the CQL penalty",
        oracle="softmax(Q) - behaviour policy, by state",
        tolerance=1e-8,
        subject=cql_penalty,
        distance=_penalty_gradient,
    ),
    Oracle(
        name="cql_value",
        row=24,
        object="value learned under the CQL penalty",
        oracle="V - alpha (I - gamma P)^-1 [sum pi (pi / pi_beta - 1)], at most V",
        tolerance=1e-8,
        subject=cql_penalty,
        distance=_conservative,
    ),
    Oracle(
        name="expectile",
        row=25,
        object="minimum of the expectile loss",
        oracle="its first-order condition, by weighted means",
        tolerance=1e-8,
        subject=expectile_loss,
        distance=_expectile,
    ),
    Oracle(
        name="ilql",
        row=25,
        object="fixed point of ILQL with expectile 1/2",
        oracle="mean returns of the paths",
        tolerance=1e-8,
        subject=ilql_losses,
        distance=_ilql,
    ),
)
