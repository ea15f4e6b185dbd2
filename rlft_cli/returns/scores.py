"""From scores to log-probabilities: what a policy gives to the actions it took, and how spread out it is."""

from __future__ import annotations

import torch
from torch import Tensor


def action_log_prob(scores: Tensor, action: Tensor) -> Tensor:
    """log softmax(scores)[action]: scores [..., A], action [...] -> [...]."""
    return torch.log_softmax(scores, dim=-1).gather(-1, action[..., None]).squeeze(-1)


def entropy(scores: Tensor) -> Tensor:
    """H = -sum_a pi log pi of softmax(scores): [..., A] -> [...]. Illegal actions hold a large finite negative score."""
    log_prob = torch.log_softmax(scores, dim=-1)
    return -(log_prob.exp() * log_prob).sum(-1)


def upper_bound(value: Tensor, count: Tensor, c: float) -> Tensor:
    """value_a + c sqrt(2 ln t / n_a), t = sum of n: value and count [..., A] -> [..., A] (UCB1, Auer et al. 2002, c = 1)."""
    plays = count.sum(-1, keepdim=True).clamp(min=1)
    return value + c * torch.sqrt(2 * torch.log(plays) / count.clamp(min=1e-12))
