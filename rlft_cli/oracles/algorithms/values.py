"""Values and imitation: what is learned of one decision and of tag chains, against means, shares and dynamic programming."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rlft_cli.algo import Algorithm
from rlft_cli.episode import blank
from rlft_cli.oracles import Oracle
from rlft_cli.oracles.algorithms.outputs import made, width
from rlft_cli.oracles.toys.chain import T, chain, fitted

D = torch.float64
_CHANCES = torch.tensor([0.1, 0.5, 0.9], dtype=D)  # with which each of 3 actions is paid 1, else 0


def _learned(algorithm: Algorithm) -> Tensor:
    """values(scores) [3] after a decision was taken 10 times each way with chance 1/3."""
    action = torch.arange(3).repeat_interleave(10)
    return _after_steps(algorithm, action, (torch.arange(10)[None, :] < 10 * _CHANCES[:, None]).reshape(-1).to(D))


def _after_steps(algorithm: Algorithm, taken: Tensor, rewards: Tensor) -> Tensor:
    """values(scores) [3] after 400 steps of Adam on one decision between 3 actions, taken [30] with rewards [30]."""
    action, paid = taken[:, None], rewards[:, None]
    start = blank({"id": torch.arange(30)}, action, torch.ones_like(action, dtype=torch.bool))
    data = replace(start, reward=paid, log_prob=torch.full_like(paid, -math.log(3)))
    algorithm.state.clear()
    data = algorithm.prepare(data)
    table, steps = torch.zeros(3, width(algorithm), dtype=D).requires_grad_(), 400
    optimizer = torch.optim.Adam([table], lr=0.1)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / steps)
        optimizer.zero_grad()
        output = made(algorithm, table.expand(30, 1, 3, -1))
        target = made(algorithm, table.detach().expand(30, 1, 3, -1)) if algorithm.uses_target else None
        torch.autograd.backward(algorithm.loss(output, data, target).sum())
        optimizer.step()
    return algorithm.values(made(algorithm, table.detach()[None, None]).scores[0, 0])


def _mean_reward(algorithm: Algorithm) -> float:
    return float((_learned(algorithm) - _CHANCES).abs().max())


def _best_action(algorithm: Algorithm) -> float:
    """What the action of the highest value earns less than the best."""
    return float(_CHANCES.max() - _CHANCES[_learned(algorithm).argmax()])


def oracle_of_imitation(settings: Mapping[str, Any]) -> Oracle:
    """Of choices that were all paid above the threshold; with one in ten that was not, where there is a threshold."""
    threshold = settings.get("threshold")

    def distance(algorithm: Algorithm) -> float:
        taken = torch.tensor([0] * 15 + [1] * 9 + [2] * 6)
        paid = torch.full((30,), 1.0 + (threshold or 0.0), dtype=D)
        if threshold is not None:
            taken[[0, 1, 2]], paid[[0, 1, 2]] = 2, float(threshold)
        good = taken[paid > threshold] if threshold is not None else taken
        right = torch.bincount(good, minlength=3) / len(good)
        return float((torch.softmax(_after_steps(algorithm, taken, paid), -1) - right).abs().max())

    return Oracle(
        name="algo_imitation",
        row=34,
        object="policy of one decision, after what searches chose",
        oracle="share of each action among the choices that were good enough",
        tolerance=1e-3,
        subject=None,
        distance=distance,
    )


def oracle_of_chain(gamma: float) -> Oracle:
    """Of what bootstraps, or with gamma 0 does not."""

    def distance(algorithm: Algorithm) -> float:
        """Of values(scores) from Q*; rewards are brought into [.1, .9], so that a loss of 0/1 rewards can be used."""
        world = chain()
        low, high = float(world.reward.min()), float(world.reward.max())
        reward = 0.1 + 0.8 * (world.reward - low) / (high - low)
        paid = torch.where(world.data.mask, 0.1 + 0.8 * (world.data.reward - low) / (high - low), 0.0)
        found = algorithm.values(fitted(algorithm, replace(world.data, reward=paid)))
        return world.error(found, replace(world, reward=reward).optimal(gamma))

    return Oracle(
        name="algo_fixed_point",
        row=15,
        object=f"fixed point on two tag chains of up to {T} words, gamma {gamma:g}",
        oracle="Q* by dynamic programming",
        tolerance=1e-3,
        subject=None,
        distance=distance,
    )


BEST_ACTION = Oracle(
    name="algo_best_action",
    row=15,
    object="action that it finds best, of one decision",
    oracle="action of the highest mean reward",
    tolerance=0.0,
    subject=None,
    distance=_best_action,
)
MEAN_REWARD = Oracle(
    name="algo_mean_reward",
    row=15,
    object="values of one decision",
    oracle="mean reward of each action",
    tolerance=1e-3,
    subject=None,
    distance=_mean_reward,
)
