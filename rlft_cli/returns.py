"""Pure arithmetic on decisions: log-probabilities, returns, bootstrapped targets, advantages, losses. Imports torch alone.

Shapes: N episodes, T decisions, A actions. ``mask`` [N, T] bool says that a decision exists; ``discount`` [N, T] is 0 at
the last decision of an episode and 1 before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

LossKind = Literal["bce", "mse", "huber"]


def action_log_prob(scores: Tensor, action: Tensor) -> Tensor:
    """log softmax(scores)[action]: scores [..., A], action [...] -> [...]."""
    return torch.log_softmax(scores, dim=-1).gather(-1, action[..., None]).squeeze(-1)


def entropy(scores: Tensor) -> Tensor:
    """H = -sum_a pi log pi of softmax(scores): [..., A] -> [...]. Illegal actions hold a large finite negative score."""
    log_prob = torch.log_softmax(scores, dim=-1)
    return -(log_prob.exp() * log_prob).sum(-1)


def returns_to_go(reward: Tensor, mask: Tensor, gamma: float) -> Tensor:
    """G_t = r_t + gamma G_{t+1}, zero beyond the mask: [N, T] -> [N, T] (Williams 1992)."""
    reward = torch.where(mask, reward, torch.zeros_like(reward))
    if gamma == 0.0:
        return reward
    returns, running = torch.zeros_like(reward), torch.zeros_like(reward[:, 0])
    for t in range(reward.shape[1] - 1, -1, -1):
        running = reward[:, t] + gamma * running
        returns[:, t] = running
    return returns


def n_step_targets(reward: Tensor, next_value: Tensor, discount: Tensor, gamma: float, n: int) -> Tensor:
    """y_t = sum_{i<m} gamma^i r_{t+i} + gamma^m V(s_{t+m}), m = n or up to the end, where V is 0: [N, T] -> [N, T].

    ``next_value[:, t]`` is V(s_{t+1}). n = 1 is r_t + gamma V(s_{t+1}). Off-policy data make n > 1 biased for max and
    double backups (METHODS 2.3): the fixed point is not Q*. (Rainbow, Hessel et al. 2018, eq. 1.)
    """
    steps = reward.shape[1]
    target = reward + gamma * discount * next_value
    for _ in range(1, min(n, steps)):
        later = torch.cat([target[:, 1:], torch.zeros_like(target[:, :1])], dim=1)
        target = reward + gamma * discount * later
    return target


def shift_left(x: Tensor) -> Tensor:
    """x[:, t + 1] at t, zero at the last: [N, T] -> [N, T]."""
    return torch.cat([x[:, 1:], torch.zeros_like(x[:, :1])], dim=1)


def max_backup(scores: Tensor) -> Tensor:
    """V(s) = max_a Q(s, a): [N, T, A] -> [N, T] (Mnih et al. 2015)."""
    return scores.amax(-1)


def double_backup(online: Tensor, target: Tensor) -> Tensor:
    """V(s) = Q_target(s, argmax_a Q_online(s, a)): [N, T, A] twice -> [N, T] (van Hasselt et al. 2016, eq. 4)."""
    return target.gather(-1, online.argmax(-1, keepdim=True)).squeeze(-1)


def dueling(value: Tensor, advantage: Tensor, legal: Tensor) -> Tensor:
    """Q = V + A - mean over legal a' of A(a'): value [..., 1], advantage [..., A], legal [..., A] (Wang et al. 2016, eq. 9)."""
    weight = legal.to(advantage.dtype)
    mean = (torch.where(legal, advantage, torch.zeros_like(advantage))).sum(-1, keepdim=True) / weight.sum(
        -1, keepdim=True
    )
    return value + advantage - mean


def q_loss(q: Tensor, target: Tensor, kind: LossKind, delta: float = 1.0) -> Tensor:
    """Distance of chosen Q values from their targets, unreduced: [N, T] -> [N, T].

    bce: q is a logit of P(reward = 1), target in [0, 1] (Bernoulli likelihood); mse: (q - y)^2 / 2;
    huber: quadratic within delta, linear beyond (Mnih et al. 2015, error clipping).
    """
    if kind == "bce":
        return F.binary_cross_entropy_with_logits(q, target, reduction="none")
    if kind == "mse":
        return 0.5 * (q - target) ** 2
    return F.huber_loss(q, target, reduction="none", delta=delta)


def leave_one_out(returns: Tensor, samples: int) -> Tensor:
    """A_i = R_i - mean of the other samples of the same observation: [B * k, ...] -> [B * k, ...].

    (Kool et al. 2019; Ahmadian et al. 2024, eq. 8.) ValueError for k < 2.
    """
    if samples < 2:
        raise ValueError("leave-one-out needs at least 2 samples of each observation")
    grouped = returns.unflatten(0, (-1, samples))
    mean = grouped.mean(1, keepdim=True)
    advantage: Tensor = (grouped - mean) * (samples / (samples - 1))
    return advantage.flatten(0, 1)


def kl_k1(log_prob: Tensor, reference: Tensor) -> Tensor:
    """log pi - log pi_ref: unbiased for KL(pi || ref) as a reward; never differentiate it as a loss (Schulman 2020)."""
    return log_prob - reference


def kl_k2(log_prob: Tensor, reference: Tensor) -> Tensor:
    """(log pi - log pi_ref)^2 / 2: its gradient is that of KL(pi || ref) on policy (Schulman 2020)."""
    return 0.5 * (log_prob - reference) ** 2


def kl_k3(log_prob: Tensor, reference: Tensor) -> Tensor:
    """exp(-u) - 1 + u with u = log pi - log pi_ref: unbiased, never negative; for logging (Schulman 2020)."""
    u = log_prob - reference
    return torch.exp(-u) - 1 + u


def polyak(target: Mapping[str, Tensor], online: Mapping[str, Tensor], tau: float) -> None:
    """theta_target <- (1 - tau) theta_target + tau theta, in place (Lillicrap et al. 2016)."""
    with torch.no_grad():
        for name, tensor in target.items():
            if tensor.is_floating_point():
                tensor.lerp_(online[name].detach().to(tensor.dtype), tau)
            else:
                tensor.copy_(online[name])
