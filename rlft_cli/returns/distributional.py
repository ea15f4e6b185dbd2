"""Q-learning on whole return distributions: categorical (C51) and by quantiles."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def chosen_heads(heads: Tensor, action: Tensor) -> Tensor:
    """Of the n numbers of every action, heads [N, T, A, n], those of action [N, T]: [N, T, n]."""
    index = action[..., None, None].expand(*action.shape, 1, heads.shape[-1])
    return heads.gather(-2, index).squeeze(-2)


def categorical_mean(logits: Tensor, support: Tensor) -> Tensor:
    """Q = sum_i z_i p_i of softmax(logits): [..., n], support [n] -> [...] (Bellemare et al. 2017, sec. 4)."""
    return (torch.softmax(logits, -1) * support).sum(-1)


def categorical_projection(support: Tensor, probability: Tensor, reward: Tensor, scale: Tensor) -> Tensor:
    """Distribution of reward + scale z, clipped to the support and shared out between the two nearest atoms.

    support [n] evenly spaced, probability [..., n] over it of the following state's best action, reward and scale
    [...] -> [..., n]; scale is gamma, 0 after the last decision, or the second part of ``n_step_parts``. The mean is
    kept where nothing is clipped (Bellemare et al. 2017, eq. 7).
    """
    spacing = support[1] - support[0]
    moved = (reward[..., None] + scale[..., None] * support).clamp(support[0], support[-1])  # [..., n]
    share = (1 - (moved[..., None, :] - support[:, None]).abs() / spacing).clamp(min=0)  # [..., n to, n from]
    return (share * probability[..., None, :]).sum(-1)


def categorical_loss(logits: Tensor, target: Tensor) -> Tensor:
    """-sum_i m_i log p_i of the chosen action's logits and a projected target, [..., n] each -> [...].

    (Bellemare et al. 2017, algorithm 1.) The target gets no gradient.
    """
    return -(target.detach() * F.log_softmax(logits, -1)).sum(-1)


def quantile_huber(quantiles: Tensor, target: Tensor, kappa: float) -> Tensor:
    """mean_ij |tau_i - 1[u_ij < 0]| huber_kappa(u_ij) / kappa, u_ij = target_j - theta_i, tau_i = (i - 1/2) / n.

    quantiles theta [..., n] of the chosen action, target samples [..., m] -> [...] (Dabney et al. 2018, eq. 10, with
    the mean over i where they sum). kappa = 0 is the plain quantile loss |tau - 1[u < 0]| |u|. The target gets no gradient.
    """
    n = quantiles.shape[-1]
    level = (torch.arange(n, dtype=quantiles.dtype, device=quantiles.device) + 0.5) / n
    u = target.detach()[..., None, :] - quantiles[..., :, None]  # [..., n, m]
    weight = (level[:, None] - (u < 0).to(u.dtype)).abs()
    size = u.abs()
    distance = size if kappa == 0 else torch.where(size <= kappa, 0.5 * u**2, kappa * (size - 0.5 * kappa)) / kappa
    return (weight * distance).mean((-2, -1))
