"""Returns, bootstrapped targets and backups of Q-learning, and the distance of a Q value from its target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

LossKind = Literal["bce", "mse", "huber"]
Credit = Literal["return_to_go", "episode"]


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


def credited_return(reward: Tensor, mask: Tensor, gamma: float, credit: Credit) -> Tensor:
    """The return that each decision is credited with, [N, T] -> [N, T]: what followed it, or the whole episode's sum."""
    if credit == "return_to_go":
        return returns_to_go(reward, mask, gamma)
    total = torch.where(mask, reward, torch.zeros_like(reward)).sum(1, keepdim=True)
    return total.expand_as(reward)


def n_step_targets(reward: Tensor, next_value: Tensor, discount: Tensor, gamma: float, n: int) -> Tensor:
    """y_t = sum_{i<m} gamma^i r_{t+i} + gamma^m V(s_{t+m}), m = n or up to the end, where V is 0: [N, T] -> [N, T].

    ``next_value[:, t]`` is V(s_{t+1}). n = 1 is r_t + gamma V(s_{t+1}). Off-policy data make n > 1 biased for max and
    double backups (METHODS 2.3): the fixed point is not Q*. (Rainbow, Hessel et al. 2018, eq. 1.)
    """
    steps = reward.shape[1]
    target = reward + gamma * discount * next_value
    for _ in range(1, min(n, steps)):
        target = reward + gamma * discount * shift_left(target)
    return target


def n_step_parts(reward: Tensor, discount: Tensor, gamma: float, n: int) -> tuple[Tensor, Tensor]:
    """The two parts of an n-step target y_t = R_t + s_t V(s_{t+n}): R and s, [N, T] each (Hessel et al. 2018, eq. 1).

    For targets that are no single number: a return distribution is shifted by R and scaled by s. s is 0 where the
    episode ends within n steps; V(s_{t+n}) is ``shift_left(V, n)``, whose zeros beyond T are met by s = 0 only.
    """
    partial, scale = reward, gamma * discount
    for _ in range(1, min(n, reward.shape[1])):
        partial = reward + gamma * discount * shift_left(partial)
        scale = gamma * discount * shift_left(scale)
    return partial, scale


def shift_left(x: Tensor, steps: int = 1) -> Tensor:
    """x[:, t + steps] at t, zero at the last ones: [N, T, ...] -> [N, T, ...]."""
    steps = min(steps, x.shape[1])
    return torch.cat([x[:, steps:], torch.zeros_like(x[:, :steps])], dim=1)


def shift_held(x: Tensor, steps: int) -> Tensor:
    """x[:, t + steps] at t, the last one beyond the end: [N, T, ...] -> [N, T, ...]; for what must stay a distribution."""
    later = (torch.arange(x.shape[1], device=x.device) + steps).clamp(max=x.shape[1] - 1)
    return x[:, later]


def max_backup(scores: Tensor) -> Tensor:
    """V(s) = max_a Q(s, a): [N, T, A] -> [N, T] (Mnih et al. 2015)."""
    return scores.amax(-1)


def double_backup(online: Tensor, target: Tensor) -> Tensor:
    """V(s) = Q_target(s, argmax_a Q_online(s, a)): [N, T, A] twice -> [N, T] (van Hasselt et al. 2016, eq. 4)."""
    return target.gather(-1, online.argmax(-1, keepdim=True)).squeeze(-1)


def soft_backup(scores: Tensor, temperature: float) -> Tensor:
    """V(s) = tau log sum_a exp(Q(s, a) / tau) = E_pi[Q - tau log pi], pi = softmax(Q / tau): [..., A] -> [...].

    Goes to max_a Q as tau goes to 0 (Haarnoja et al. 2017, eq. 3).
    """
    return temperature * torch.logsumexp(scores / temperature, -1)


def soft_kl_value(scores: Tensor, reference: Tensor, beta: float) -> Tensor:
    """V(s) = beta log sum_a pi_ref(a|s) exp(Q(s, a) / beta): Q and log pi_ref [..., A] -> [...].

    (Jaques et al. 2017, KL control; Q and V in the unit of the reward, beta too.)
    """
    return beta * torch.logsumexp(reference + scores / beta, -1)


def soft_kl_log_policy(scores: Tensor, reference: Tensor, beta: float) -> Tensor:
    """log pi(a|s) = log pi_ref(a|s) + (Q(s, a) - V(s)) / beta with V of ``soft_kl_value``: [..., A] twice -> [..., A].

    (Jaques et al. 2017; the policy that the soft value belongs to.)
    """
    return torch.log_softmax(reference + scores / beta, -1)


def munchausen_reward(
    reward: Tensor, action: Tensor, scores: Tensor, *, alpha: float, temperature: float, floor: float
) -> Tensor:
    """r_t + alpha clip(tau log pi(a_t|s_t), floor, 0), pi = softmax(Q / tau): [N, T], [N, T], Q [N, T, A] -> [N, T].

    Q is the lagging copy's. The Munchausen target is this reward with ``soft_backup`` at the same tau:
    ``n_step_targets(munchausen_reward(...), shift_left(soft_backup(scores, tau)), discount, gamma, n)``. It widens the
    gaps between actions by 1 / (1 - alpha) where nothing is clipped (Vieillard et al. 2020, eq. 3 and theorem 2).
    """
    log_pi = torch.log_softmax(scores / temperature, -1).gather(-1, action[..., None]).squeeze(-1)
    return reward + alpha * (temperature * log_pi).clamp(floor, 0.0)


def dueling(value: Tensor, advantage: Tensor, legal: Tensor) -> Tensor:
    """Q = V + A - mean over legal a' of A(a'): value [..., 1], advantage [..., A], legal [..., A] (Wang et al. 2016, eq. 9)."""
    weight = legal.to(advantage.dtype)
    mean = (torch.where(legal, advantage, torch.zeros_like(advantage))).sum(-1, keepdim=True) / weight.sum(
        -1, keepdim=True
    )
    return value + advantage - mean


def logit_of_softmax(scores: Tensor, action: Tensor) -> Tensor:
    """log p / (1 - p) of p = softmax(scores)_a, which is s_a - log sum_{a' != a} exp s_a': [..., A] and [...] -> [...]."""
    chosen = action[..., None]
    others = scores.scatter(-1, chosen, -torch.inf)
    return scores.gather(-1, chosen).squeeze(-1) - torch.logsumexp(others, -1)


def q_loss(q: Tensor, target: Tensor, kind: LossKind, delta: float = 1.0) -> Tensor:
    """Distance of chosen Q values from their targets, unreduced: [N, T] -> [N, T].

    bce: q is a logit of P(reward = 1), softplus(q) - q y (Bernoulli likelihood), linear in the target, which is in [0, 1] or
    an unbiased estimate of such a number; mse: (q - y)^2 / 2;
    huber: quadratic within delta, linear beyond (Mnih et al. 2015, error clipping).
    """
    if kind == "bce":
        return F.binary_cross_entropy_with_logits(q, target, reduction="none")
    if kind == "mse":
        return 0.5 * (q - target) ** 2
    return F.huber_loss(q, target, reduction="none", delta=delta)


def polyak(target: Mapping[str, Tensor], online: Mapping[str, Tensor], tau: float) -> None:
    """theta_target <- (1 - tau) theta_target + tau theta, in place (Lillicrap et al. 2016)."""
    with torch.no_grad():
        for name, tensor in target.items():
            if tensor.is_floating_point():
                tensor.lerp_(online[name].detach().to(tensor.dtype), tau)
            else:
                tensor.copy_(online[name])
