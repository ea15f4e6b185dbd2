"""Rewards before learning: noise taken out, classes weighed (METHODS 7.1, rows 30 and 35)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from rlft_cli.algo.dqn import Dqn
from rlft_cli.episode import blank
from rlft_cli.model import Output
from rlft_cli.oracles import Oracle
from rlft_cli.oracles.toys.chain import DQN
from rlft_cli.returns import denoised_reward, imbalance_reward, imbalance_threshold

D = torch.float64
RATIO, GAMMAS = 1 / 5.6, (0.0, 0.1, 0.5, 0.9)


def _denoised(corrected: Callable[[Tensor, float, float], Tensor]) -> float:
    """E of the corrected reward given the true one, symmetric and not."""
    worst = 0.0
    for false_positive, false_negative in ((0.2, 0.2), (0.0, 0.3), (0.35, 0.1), (0.0, 0.0)):
        seen = corrected(torch.tensor([0.0, 1.0], dtype=D), false_positive, false_negative)
        given_0 = (1 - false_positive) * seen[0] + false_positive * seen[1]
        given_1 = false_negative * seen[0] + (1 - false_negative) * seen[1]
        worst = max(worst, abs(float(given_0)), abs(float(given_1) - 1))
    return worst


def _likelihood_of_noisy(corrected: Callable[[Tensor, float, float], Tensor]) -> float:
    """Gradient of DQN's likelihood losses on corrected rewards, averaged over the flips, less that on the true rewards."""
    worst, e0, e1 = 0.0, 0.35, 0.1
    data = blank({"id": torch.arange(6)}, torch.arange(6)[:, None] % 3, torch.ones(6, 1, dtype=torch.bool))
    true = torch.tensor([0.0, 1.0], dtype=D).repeat_interleave(3)[:, None]
    flipped = e0 + (e1 - e0) * true
    for kind in ("bce", "softmax"):
        algorithm = replace(DQN, loss_kind=kind, gamma=0.0)

        def slope(reward: Tensor, weight: Tensor, algorithm: Dqn = algorithm) -> Tensor:
            scores = torch.linspace(-2, 2, 18, dtype=D).view(6, 1, 3).requires_grad_()
            loss = algorithm.loss(Output(scores=scores, value=None), replace(data, reward=reward), None)
            return torch.autograd.grad((weight * loss).sum(), scores)[0]

        clean = slope(true, torch.ones_like(true))
        noisy = slope(corrected(1 - true, e0, e1), flipped) + slope(corrected(true, e0, e1), 1 - flipped)
        worst = max(worst, float((noisy - clean).abs().max()))
    return worst


def _greedy(reward_of: Callable[[Tensor, Tensor, float], Tensor], gamma: float) -> tuple[Tensor, Tensor, float]:
    """Posteriors [400], which documents the greedy rule calls minority [400], and the mean value, by value iteration."""
    posterior = torch.rand(400, generator=torch.Generator().manual_seed(71), dtype=D) ** 2
    yes, no = torch.tensor(True), torch.tensor(False)
    right_minority, wrong_minority = (float(reward_of(is_right, yes, RATIO)) for is_right in (yes, no))
    right_majority, wrong_majority = (float(reward_of(is_right, no, RATIO)) for is_right in (yes, no))
    value, minority = 0.0, torch.zeros(400, dtype=torch.bool)
    for _ in range(600):
        on = gamma * value  # the next document does not depend on the action
        call_minority = posterior * (right_minority + on) + (1 - posterior) * (wrong_majority + on)
        call_majority = posterior * wrong_minority + (1 - posterior) * (right_majority + on)  # a miss ends the episode
        minority = call_minority > call_majority
        value = float(torch.maximum(call_minority, call_majority).mean())
    return posterior, minority, value


def _threshold(threshold: Callable[[float, float, float], float]) -> float:
    """Documents on which the rule p > p* and the greedy policy differ, over 4 gammas."""
    differ = 0
    for gamma in GAMMAS:
        posterior, minority, value = _greedy(imbalance_reward, gamma)
        differ += int(((posterior > threshold(RATIO, gamma, value)) != minority).sum())
    return float(differ)


def _rewards(reward_of: Callable[[Tensor, Tensor, float], Tensor]) -> float:
    """As above with the rewards as subject; without bootstrapping the rule must be the cost-sensitive p > rho / (1 + rho)."""
    posterior, minority, _ = _greedy(reward_of, 0.0)
    differ = int(((posterior > RATIO / (1 + RATIO)) != minority).sum())
    for gamma in GAMMAS:
        posterior, minority, value = _greedy(reward_of, gamma)
        differ += int(((posterior > imbalance_threshold(RATIO, gamma, value)) != minority).sum())
    return float(differ)


ORACLES = (
    Oracle(
        name="denoised_reward",
        row=30,
        object="corrected noisy reward, symmetric and asymmetric flips",
        oracle="mean over the flips is the true reward",
        tolerance=1e-12,
        subject=denoised_reward,
        distance=_denoised,
    ),
    Oracle(
        name="denoised_likelihood",
        row=30,
        object="DQN's likelihood losses on corrected noisy rewards",
        oracle="mean of the gradient over the flips is that on true rewards",
        tolerance=1e-12,
        subject=denoised_reward,
        distance=_likelihood_of_noisy,
    ),
    Oracle(
        name="dqnimb_threshold",
        row=35,
        object="DQNimb's threshold p*, documents that differ",
        oracle="greedy policy of value iteration, 400 documents, 4 gammas",
        tolerance=0.0,
        subject=imbalance_threshold,
        distance=_threshold,
    ),
    Oracle(
        name="dqnimb_reward",
        row=35,
        object="DQNimb's rewards, documents that differ",
        oracle="cost-sensitive rule, 400 documents, 4 gammas",
        tolerance=0.0,
        subject=imbalance_reward,
        distance=_rewards,
    ),
)
