"""Estimators of KL(pi || pi_ref) from the log-probabilities of sampled actions."""

from __future__ import annotations

import torch
from torch import Tensor


def kl_exact(scores: Tensor, reference: Tensor) -> Tensor:
    """sum_a pi(a) (log pi(a) - log pi_ref(a)) of the softmax of both scores: [..., A] -> [...], in nats.

    Summed over the decisions of an episode drawn from pi it is an unbiased estimate of the KL of whole episodes (chain
    rule: Cover and Thomas 2006, th. 2.5.3), with less noise than the log-ratio of what was drawn.
    """
    log_prob, other = torch.log_softmax(scores, dim=-1), torch.log_softmax(reference, dim=-1)
    return (log_prob.exp() * (log_prob - other)).sum(-1)


def kl_k1(log_prob: Tensor, reference: Tensor) -> Tensor:
    """log pi - log pi_ref: unbiased for KL(pi || ref) as a reward; never differentiate it as a loss (Schulman 2020)."""
    return log_prob - reference


def kl_of_episodes(log_prob: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    """Mean over episodes of sum_t k1 in nats, unbiased for the KL of whole episodes: [N, T] three times -> [].

    It may be below 0 by chance, and is not cut there; NaN where no episode has a decision.
    """
    nats = torch.where(mask, kl_k1(log_prob, reference), torch.zeros_like(log_prob)).sum(1)
    return nats[mask.any(1)].mean()


def steered_coefficient(coefficient: Tensor, kl: Tensor, target: float, rate: float) -> Tensor:
    """beta (1 + K e) with e = clip((KL - target) / target, -0.2, 0.2): the price of the next batch, all of them [].

    A proportional controller in the logarithm of beta (Ziegler et al. 2019, sec. 2.2; K = 0.1 there). KL and target are in
    nats an episode. A KL that is NaN leaves beta as it is.
    """
    error = ((kl - target) / target).clamp(-0.2, 0.2).nan_to_num(0.0)
    return coefficient * (1 + rate * error)


def kl_penalised(reward: Tensor, log_prob: Tensor, reference: Tensor, coefficient: Tensor | float) -> Tensor:
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
