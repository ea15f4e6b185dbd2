"""Soft Q-learning: against sums over whole paths, never against its own recursion (METHODS 7.1, rows 20 and 21)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from rlft_cli.algo.dqn import Dqn
from rlft_cli.model import Output
from rlft_cli.oracles import Oracle
from rlft_cli.oracles.toys.chain import DQN, D, K, T, chain
from rlft_cli.oracles.toys.replies import BETA, STEPS, replies
from rlft_cli.returns import (
    munchausen_reward,
    n_step_targets,
    shift_left,
    soft_backup,
    soft_kl_log_policy,
    soft_kl_value,
)

TAU, ALPHA = 0.3, 0.5
SOFT = replace(DQN, gamma=1.0, backup="soft", kl_coefficient=BETA)
Backup = Callable[[Tensor, float], Tensor]


def _iterated(backup: Backup, reward: Callable[[Tensor], Tensor], temperature: float, rounds: int) -> Tensor:
    """The table after ``rounds`` applications of Q <- r + V(s'), gamma 1."""
    world = chain()
    table = torch.zeros(2, T, K + 1, K, dtype=D)
    for _ in range(rounds):
        scores = world.scores(table)
        value = shift_left(backup(scores, temperature))
        table = world.mean_over_paths(n_step_targets(reward(scores), value, world.data.discount, 1.0, 1))
    return table


def _over_paths(temperature: float) -> Tensor:
    """tau log sum over the paths through each state and action of exp(reward to go / tau), by enumeration [2, T, K+1, K].

    Each path through (t, previous, tag) is counted once for every beginning, so the sum is over distinct endings.
    """
    world = chain()
    to_go = world.data.reward.flip(1).cumsum(1).flip(1)
    found = torch.zeros(2, T, K + 1, K, dtype=D)
    endings: dict[tuple[int, ...], dict[tuple[int, ...], float]] = {}
    sentence, word, previous = world.index()
    for n, t in world.data.mask.nonzero().tolist():
        place: tuple[int, ...] = (
            int(sentence[n, t]),
            int(word[n, t]),
            int(previous[n, t]),
            int(world.data.action[n, t]),
        )
        ending = tuple(world.data.action[n, t:][world.data.mask[n, t:]].tolist())
        endings.setdefault(place, {})[ending] = float(to_go[n, t])
    for place, totals in endings.items():
        found[place] = temperature * torch.logsumexp(torch.tensor(list(totals.values()), dtype=D) / temperature, 0)
    return found


def _soft(backup: Backup) -> float:
    world = chain()
    return world.error(_iterated(backup, lambda _: world.data.reward, TAU, T), _over_paths(TAU))


def _to_max(backup: Backup) -> float:
    world = chain()
    return world.error(_iterated(backup, lambda _: world.data.reward, 1e-3, T), world.optimal(1.0))


def _munchausen_iterated(bonus: Callable[..., Tensor], temperature: float) -> Tensor:
    data = chain().data

    def reward(scores: Tensor) -> Tensor:
        paid: Tensor = bonus(
            data.reward, data.action, scores, alpha=ALPHA, temperature=temperature, floor=-float("inf")
        )
        return paid

    return _iterated(soft_backup, reward, temperature, 120)


def _munchausen(bonus: Callable[..., Tensor]) -> float:
    """Its soft value is that of the temperature (1 - alpha) tau: V = tau logsumexp(Q / tau) at the first word."""
    world = chain()
    value = soft_backup(world.scores(_munchausen_iterated(bonus, TAU)), TAU)[:, 0]
    lower = (1 - ALPHA) * TAU
    exact = lower * torch.logsumexp(world.scores(_over_paths(lower))[:, 0] / lower, -1)
    return float((value - exact).abs().max())


def _gap(bonus: Callable[..., Tensor]) -> float:
    """Gaps between the actions of the last decision, over those of its rewards: 1 / (1 - alpha)."""
    world = chain()
    last = world.data.mask & (world.data.discount == 0)
    q = world.scores(_munchausen_iterated(bonus, TAU))[last]
    r = world.scores(world.reward)[last]
    gaps, before = q[:, 0] - q[:, 1], r[:, 0] - r[:, 1]
    return float((gaps / before * (1 - ALPHA) - 1).abs().max())


def _kl_value(value_of: Callable[[Tensor, Tensor, float], Tensor]) -> float:
    """V of the empty prefix by recursion with the subject, against beta log Z over whole replies."""
    world = replies()
    value = torch.zeros(len(world.reference), dtype=D)
    for t in reversed(range(STEPS)):  # prefixes of t tokens from those of t + 1
        q = torch.zeros_like(world.reference)
        rows = world.data.mask[:, t].nonzero().squeeze(-1)
        state, token = world.state[rows, t], world.data.action[rows, t]
        ended = world.data.discount[rows, t] == 0
        after = world.state[rows, min(t + 1, STEPS - 1)]
        q[state, token] = world.data.reward[rows, t] + torch.where(ended, 0.0, value[after])
        value[state] = value_of(q, world.reference, BETA)[state]
    return abs(float(value[0]) - BETA * world.log_partition())


def _kl_policy(policy_of: Callable[[Tensor, Tensor, float], Tensor]) -> float:
    """pi of the exact Q = V + beta log(pi* / pi_ref), by whole replies, against the tilted reference."""
    world = replies()
    q = world.value[:, None] + BETA * (world.best - world.reference)
    return float((world.log_prob(policy_of(q, world.reference, BETA)).exp() - world.tilted()).abs().max())


def _no_loss(algorithm: Dqn) -> float:
    """Largest |Q - y| at the exact solution, over n of 1, 2, T and more, on every reply, good or bad."""
    world = replies()
    output = Output(scores=world.best[world.state], value=world.value[world.state])
    losses = [replace(algorithm, n_step=n).loss(output, world.data, None)[world.data.mask] for n in (1, 2, STEPS, 50)]
    return float((2 * torch.cat(losses).max()).sqrt())


def _learned(algorithm: Dqn) -> float:
    """Total variation from the tilted reference after 400 steps of Adam, from the reference on."""
    world, steps = replies(), 400
    logits, value = world.reference.clone().requires_grad_(), torch.zeros_like(world.value).requires_grad_()
    optimizer = torch.optim.Adam([logits, value], lr=0.1)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / steps)
        loss = algorithm.loss(Output(scores=logits[world.state], value=value[world.state]), world.data, None)
        optimizer.zero_grad()
        torch.autograd.backward(torch.where(world.data.mask, loss, 0.0).sum())
        optimizer.step()
    return float(0.5 * (world.log_prob(logits.detach()).exp() - world.tilted()).abs().sum())


_TILTED = "pi_ref(y) exp(R / beta) / Z over all replies"

ORACLES = (
    Oracle(
        name="soft_q",
        row=20,
        object="soft Q iterated to its fixed point",
        oracle="tau log sum over paths of exp(R / tau)",
        tolerance=1e-10,
        subject=soft_backup,
        distance=_soft,
    ),
    Oracle(
        name="soft_q_cold",
        row=20,
        object="soft Q at temperature .001",
        oracle="Q* by dynamic programming",
        tolerance=1e-2,
        subject=soft_backup,
        distance=_to_max,
    ),
    Oracle(
        name="munchausen",
        row=20,
        object="Munchausen Q iterated to its fixed point",
        oracle="log sum over paths at temperature (1 - alpha) tau",
        tolerance=1e-6,
        subject=munchausen_reward,
        distance=_munchausen,
    ),
    Oracle(
        name="munchausen_gap",
        row=20,
        object="action gaps of Munchausen Q",
        oracle="those of the rewards times 1 / (1 - alpha)",
        tolerance=1e-2,
        subject=munchausen_reward,
        distance=_gap,
    ),
    Oracle(
        name="soft_kl_value",
        row=21,
        object="value under KL control",
        oracle="beta log Z over all replies",
        tolerance=1e-10,
        subject=soft_kl_value,
        distance=_kl_value,
    ),
    Oracle(
        name="soft_kl_policy",
        row=21,
        object="policy under KL control",
        oracle=_TILTED,
        tolerance=1e-10,
        subject=soft_kl_log_policy,
        distance=_kl_policy,
    ),
    Oracle(
        name="dqn_soft",
        row=21,
        object="soft DQN has no error at the optimum, n 1, 2, T and more",
        oracle=_TILTED,
        tolerance=1e-10,
        subject=SOFT,
        distance=_no_loss,
    ),
    Oracle(
        name="dqn_soft_learns",
        row=21,
        object="soft DQN learned on whole replies, total variation",
        oracle=_TILTED,
        tolerance=1e-3,
        subject=replace(SOFT, n_step=STEPS),
        distance=_learned,
    ),
)
