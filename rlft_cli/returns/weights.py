"""How often stored episodes are drawn, and how much a draw counts."""

from __future__ import annotations

from torch import Tensor


def priority_probabilities(priority: Tensor, alpha: float) -> Tensor:
    """P_i = p_i^alpha / sum_k p_k^alpha, priorities [N] above 0 -> [N] (Schaul et al. 2016, eq. 1); alpha 0 is uniform."""
    weight = priority**alpha
    return weight / weight.sum()


def importance_weights(probability: Tensor, size: int, beta: float) -> Tensor:
    """w_i = (size P_i)^-beta / max_j w_j of drawn rows, P [n] out of ``size`` stored ones -> [n] (Schaul et al. 2016, sec. 3.4).

    beta = 1 restores the uniform expected update up to one factor, the largest weight.
    """
    weight = (size * probability) ** -beta
    return weight / weight.max()
