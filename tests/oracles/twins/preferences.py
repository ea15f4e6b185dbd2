from __future__ import annotations

from dataclasses import replace

import torch

from rlft_cli.oracles.preferences import BETA, REINFORCE
from rlft_cli.returns import bradley_terry_loss, dpo_loss


def with_margin(chosen, rejected, margin):
    return bradley_terry_loss(chosen, rejected, 1.0)


TWINS = {
    "bradley_terry": [with_margin, lambda chosen, rejected, margin: -torch.sigmoid(chosen - rejected)],
    "bradley_terry_samples": [with_margin],
    "dpo_gradient": [
        lambda w, l, ref_w, ref_l, beta: dpo_loss(w, l, 0 * ref_w, 0 * ref_l, beta),  # noqa: E741
        lambda w, l, ref_w, ref_l, beta: dpo_loss(l, w, ref_l, ref_w, beta),  # noqa: E741
    ],
    "dpo_optimum": [lambda w, l, ref_w, ref_l, beta: dpo_loss(w, l, ref_w, ref_l, 2 * beta)],  # noqa: E741
    "rl_gradient": [replace(REINFORCE, kl_coefficient=2 * BETA), replace(REINFORCE, kl_coefficient=BETA, gamma=0.5)],
}
