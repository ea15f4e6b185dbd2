"""Baselines and advantages of policy gradients, and the losses that use them."""

from __future__ import annotations

import torch
from torch import Tensor

from rlft_cli.returns.values import shift_left

FLAT = 1e-4  # a standard deviation below this is that of a constant, seen through rounding


def leave_one_out(returns: Tensor, samples: int) -> Tensor:
    """A_i = R_i - mean of the other samples of the same observation: [B * k, ...] -> [B * k, ...].

    (Kool et al. 2019; Ahmadian et al. 2024, eq. 8.) ValueError for k < 2.
    """
    advantage: Tensor = _centred(returns, samples) * (samples / (samples - 1))
    return advantage.flatten(0, 1)


def leave_one_out_break_even(returns: Tensor) -> Tensor:
    """1 + Var(R) / E[R]^2 of episode returns [N]: with fewer samples than this, no baseline has the lower variance.

    Exact where the squared norm of the score is uncorrelated with R; 1/p for 0/1 rewards of chance p; infinite where
    the mean is 0 and the returns vary, 1 (any k) where all are 0 (METHODS 3, from the closed form of the variance).
    """
    spread = returns.var(unbiased=False)
    return 1 + torch.where(spread > 0, spread / returns.mean() ** 2, torch.zeros_like(spread))


def spread_in_groups(returns: Tensor, samples: int, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over observations of Var(R) and of E[R]^2, both unbiased from k samples of each: [B * k, T] -> scalars.

    1 + the first / the second is how many samples leave-one-out needs (``leave_one_out_break_even``) where observations
    differ: with P(x) the chance of one, no baseline has sum P E[R^2] in its variance and leave-one-out
    sum P Var(R) k / (k - 1). Decisions that not all samples have are left out; zeros where there are none. ValueError
    for k < 2.
    """
    square = (_centred(returns, samples) ** 2).sum(1) / (samples - 1)  # [B, T]
    mean = returns.unflatten(0, (-1, samples)).mean(1)
    shared = mask.unflatten(0, (-1, samples)).all(1)
    count = shared.sum().clamp(min=1)
    variance = torch.where(shared, square, torch.zeros_like(square)).sum() / count
    second = torch.where(shared, mean**2, torch.zeros_like(mean)).sum() / count
    return variance, second - variance / samples


def group_relative(returns: Tensor, samples: int, scale: bool) -> Tensor:
    """A_i = R_i - mean of the k samples of its observation, over (their std + 1e-4) where ``scale``: [B * k, ...] -> same.

    Scaled: Shao et al. 2024, sec. 4.1 (GRPO), biased: it favours observations whose returns hardly differ. Unscaled:
    Liu et al. 2025 (Dr. GRPO), (k - 1) / k times leave-one-out. The std is the sample's (k - 1). ValueError for k < 2.
    """
    advantage: Tensor = _centred(returns, samples)
    if scale:
        advantage = advantage / (returns.unflatten(0, (-1, samples)).std(1, keepdim=True) + FLAT)
    return advantage.flatten(0, 1)


def _centred(returns: Tensor, samples: int) -> Tensor:
    if samples < 2:
        raise ValueError(f"comparing the samples of an observation needs at least 2 of each, not {samples}")
    grouped = returns.unflatten(0, (-1, samples))
    centred: Tensor = grouped - grouped.mean(1, keepdim=True)
    return centred


def generalized_advantage(
    reward: Tensor, value: Tensor, discount: Tensor, mask: Tensor, gamma: float, trace: float
) -> Tensor:
    """A_t = sum_l (gamma lambda)^l delta_{t+l}, delta_t = r_t + gamma V_{t+1} - V_t, V 0 after the end: [N, T] -> [N, T].

    ``trace`` is lambda: 0 gives the one-step error, 1 the return to go minus V (Schulman et al. 2016, eq. 16). Zero
    where the mask is False; A + V is the value's regression target.
    """
    zero = torch.zeros_like(reward)
    reward, value, discount = (torch.where(mask, x, zero) for x in (reward, value, discount))
    delta = reward + gamma * discount * shift_left(value) - value
    advantage, running = torch.zeros_like(delta), torch.zeros_like(delta[:, 0])
    for t in range(delta.shape[1] - 1, -1, -1):
        running = delta[:, t] + gamma * trace * discount[:, t] * running
        advantage[:, t] = running
    return torch.where(mask, advantage, zero)


def whiten(x: Tensor, mask: Tensor) -> Tensor:
    """(x - mean) / (std + 1e-4) over the mask, zero beyond it: [N, T] -> [N, T].

    A batch whose std is below 1e-4 is centred only: dividing rounding errors by it would make an advantage of nothing
    (METHODS 8, pitfall 16).
    """
    there = x[mask]
    if there.numel() == 0:
        return torch.zeros_like(x)
    mean, std = there.mean(), there.std(unbiased=False)
    scaled = (x - mean) / torch.where(std < FLAT, torch.ones_like(std), std + FLAT)
    return torch.where(mask, scaled, torch.zeros_like(x))


def ppo_clip_loss(log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, clip_range: float) -> Tensor:
    """-min(rho A, clip(rho, 1 - eps, 1 + eps) A), rho = pi / pi_old: [N, T] -> [N, T] (Schulman et al. 2017, eq. 7)."""
    ratio = torch.exp(log_prob - old_log_prob)
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    return -torch.minimum(ratio * advantage, clipped * advantage)


def clipped_value_loss(value: Tensor, old_value: Tensor, returns: Tensor, clip_range: float) -> Tensor:
    """max((V - R)^2, (clip(V, V_old - eps, V_old + eps) - R)^2) / 2: [N, T] -> [N, T].

    (Schulman et al. 2017, as in their published code; DeepSpeed-Chat, Yao et al. 2023.)
    """
    near = torch.minimum(torch.maximum(value, old_value - clip_range), old_value + clip_range)
    return 0.5 * torch.maximum((value - returns) ** 2, (near - returns) ** 2)


def value_loss(value: Tensor, old_value: Tensor, advantage: Tensor, clip_range: float | None) -> Tensor:
    """(V - R)^2 / 2 of a learned value, R = A + V_old what came: [N, T] -> [N, T]; clipped as above where there is a range.

    V_old is the value foreseen while acting, and A the advantage over it (Mnih et al. 2016, sec. 4).
    """
    returns = advantage + old_value
    if clip_range is None:
        return 0.5 * (value - returns) ** 2
    return clipped_value_loss(value, old_value, returns, clip_range)


def mixed_objective(supervised: Tensor, reinforcement: Tensor, coefficient: float) -> Tensor:
    """L = L_RL + lambda L_CE, lambda >= 0: [N, T] twice -> [N, T] (Wu et al. 2016, eq. 9, up to one factor)."""
    return reinforcement + coefficient * supervised
