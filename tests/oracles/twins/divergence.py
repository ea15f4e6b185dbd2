from __future__ import annotations

from dataclasses import replace

from rlft_cli.oracles.divergence import BETA
from rlft_cli.oracles.toys.tagging import REINFORCE
from rlft_cli.returns import kl_k1, kl_k2, kl_k3

TWINS = {
    "kl_k1": [kl_k2, lambda pi, ref: ref - pi],
    "kl_k3": [kl_k2, kl_k1],
    "kl_k2": [kl_k1, lambda pi, ref: (pi - ref) ** 2],
    "kl_k1_loss": [kl_k2, kl_k3],
    "kl_k2_loss": [kl_k1, kl_k3],
    "kl_k3_loss": [kl_k1, kl_k2],
    "kl_reward": [
        replace(REINFORCE, kl_coefficient=BETA, gamma=0.0),  # the future's share of the KL is missing
        replace(REINFORCE, kl_coefficient=2 * BETA),
    ],
    "kl_token_sum": [kl_k2, kl_k3],
}
