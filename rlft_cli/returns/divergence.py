"""Estimators of KL(pi || pi_ref) from the log-probabilities of sampled actions."""

from __future__ import annotations

import torch
from torch import Tensor


def kl_k1(log_prob: Tensor, reference: Tensor) -> Tensor:
    """log pi - log pi_ref: unbiased for KL(pi || ref) as a reward; never differentiate it as a loss (Schulman 2020)."""
    return log_prob - reference


def kl_penalised(reward: Tensor, log_prob: Tensor, reference: Tensor, coefficient: float) -> Tensor:
    """r_t - beta (log pi - log pi_ref): the KL as a price in the reward, where its expected gradient is right: [N, T] -> same.

    ``log_prob`` is that of the policy that acted (Jaques et al. 2017; Ziegler et al. 2019, eq. 2).
    """
    return reward - coefficient * kl_k1(log_prob, reference)


def kl_k2(log_prob: Tensor, reference: Tensor) -> Tensor:
    """(log pi - log pi_ref)^2 / 2: its gradient is that of KL(pi || ref) on policy (Schulman 2020)."""
    return 0.5 * (log_prob - reference) ** 2


def kl_k3(log_prob: Tensor, reference: Tensor) -> Tensor:
    """exp(-u) - 1 + u with u = log pi - log pi_ref: unbiased, never negative; for logging (Schulman 2020)."""
    u = log_prob - reference
    return torch.exp(-u) - 1 + u
