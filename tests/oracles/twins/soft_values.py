from __future__ import annotations

from dataclasses import replace

import torch

from rlft_cli.oracles.soft_values import BETA, SOFT
from rlft_cli.oracles.toys.replies import STEPS
from rlft_cli.returns import max_backup, munchausen_reward, soft_backup


def half_bonus(reward, action, scores, *, alpha, temperature, floor):
    return munchausen_reward(reward, action, scores, alpha=alpha / 2, temperature=temperature, floor=floor)


def without_temperature(reward, action, scores, *, alpha, temperature, floor):
    return munchausen_reward(reward, action, scores / temperature, alpha=alpha, temperature=1.0, floor=floor)


TWINS = {
    "soft_q": [
        lambda scores, temperature: max_backup(scores),
        lambda scores, temperature: soft_backup(scores, 2 * temperature),
    ],
    "soft_q_cold": [lambda scores, temperature: soft_backup(scores, 1.0)],
    "munchausen": [half_bonus, without_temperature],
    "munchausen_gap": [half_bonus],
    "soft_kl_value": [
        lambda scores, reference, beta: soft_backup(scores, beta),  # no reference
        lambda scores, reference, beta: (scores + beta * reference).amax(-1),
    ],
    "soft_kl_policy": [
        lambda scores, reference, beta: torch.log_softmax(scores / beta, -1),
        lambda scores, reference, beta: torch.log_softmax(reference + scores, -1),
    ],
    "dqn_soft": [replace(SOFT, kl_coefficient=2 * BETA), replace(SOFT, gamma=0.9)],
    "dqn_soft_learns": [replace(SOFT, n_step=STEPS, kl_coefficient=2 * BETA)],
}
