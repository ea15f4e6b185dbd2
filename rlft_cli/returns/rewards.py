"""Arithmetic on rewards before anything is learned from them: noise taken out, classes weighed."""

from __future__ import annotations

import torch
from torch import Tensor


def denoised_reward(reward: Tensor, false_positive: float, false_negative: float) -> Tensor:
    """(r - e0) / (1 - e0 - e1): an unbiased estimate of the true 0/1 reward from a flipped one, [...] -> [...].

    e0 (``false_positive``) is P(seen 1 | true 0), e1 (``false_negative``) is P(seen 0 | true 1); both eta for symmetric
    flips, (r - eta) / (1 - 2 eta) (Wang et al. 2020, lemma 1; Natarajan et al. 2013). ValueError where e0 + e1 >= 1:
    then what is seen says nothing, or the opposite.
    """
    if false_positive + false_negative >= 1:
        raise ValueError(
            f"rewards flipped at rates {false_positive} and {false_negative} cannot be corrected: sum >= 1"
        )
    return (reward - false_positive) / (1 - false_positive - false_negative)


def imbalance_reward(right: Tensor, minority: Tensor, ratio: float) -> Tensor:
    """+1 / -1 for right / wrong on a minority example, +rho / -rho on a majority one: bool [...] twice -> float32 [...].

    rho = minority count / majority count (Lin, Chen and Qi 2019, DQNimb, eq. 8).
    """
    size = torch.where(minority, torch.ones(()), torch.full((), ratio))
    return torch.where(right, size, -size)


def imbalance_scale(counts: Tensor) -> Tensor:
    """lambda_k proportional to 1 / n_k, the largest 1, of class counts [A] above 0 -> [A] (Yang et al. 2022).

    The reward of several classes is +lambda_y for right and -lambda_y for wrong; two classes give ``imbalance_reward``.
    """
    return counts.min() / counts


def imbalance_threshold(ratio: float, gamma: float, mean_value: float) -> float:
    """p* = rho / (rho + 1 + gamma V / 2): DQNimb's greedy rule is "minority where P(minority | x) > p*".

    V is the mean over examples of max_a Q (METHODS 1b: a wrong minority decision ends the episode, every other one
    goes on to an independent example).
    """
    return ratio / (ratio + 1 + gamma * mean_value / 2)
