"""The value of one policy from the log of another: importance weighting, regression, and both.

A row is a logged decision, or an episode with the product of its ratios. Estimators that are means of independent rows
return the rows [N], so that a bootstrap can give the interval; ``ratio`` is pi(a|x) / pi_0(a|x).
"""

from __future__ import annotations

import torch
from torch import Tensor


def importance_ratio(log_prob: Tensor, behaviour_log_prob: Tensor, most: float) -> Tensor:
    """min(pi / pi_0, most) of chosen actions, [...] twice -> [...]; ``most`` = inf does not clip (Ionides 2008).

    Clipped rows get no gradient; clipping lowers the variance and biases towards 0.
    """
    return torch.exp(log_prob - behaviour_log_prob).clamp(max=most)


def inverse_propensity(ratio: Tensor, reward: Tensor) -> Tensor:
    """w r by row: [N] -> [N]; the mean is unbiased where pi_0 > 0 wherever pi > 0 (Horvitz and Thompson 1952)."""
    return ratio * reward


def self_normalised(ratio: Tensor, reward: Tensor) -> Tensor:
    """sum w r / sum w: [N] twice -> scalar, inside the range of the rewards (Swaminathan and Joachims 2015b, eq. 9).

    Biased by O(1/N); adding c to every reward adds c. As a loss on small batches the ratio of two noisy sums is biased:
    use ``banditnet_loss``. NaN where no row has any weight.
    """
    return (ratio * reward).sum() / ratio.sum()


def direct_method(log_policy: Tensor, predicted: Tensor) -> Tensor:
    """sum_a pi(a|x) q(x, a) by row: log pi and predicted rewards [N, A] -> [N] (Dudik et al. 2011, eq. 1)."""
    return (log_policy.exp() * predicted).sum(-1)


def doubly_robust(ratio: Tensor, reward: Tensor, predicted_chosen: Tensor, expected: Tensor) -> Tensor:
    """E_pi q(x, .) + w (r - q(x, a)) by row: [N] four times -> [N] (Dudik et al. 2011, eq. 3).

    ``expected`` is ``direct_method``. The mean is unbiased where the propensities or the predictions are right.
    """
    return expected + ratio * (reward - predicted_chosen)


def effective_sample_size(ratio: Tensor) -> Tensor:
    """(sum w)^2 / sum w^2: [N] -> scalar, 1 to N: how many equally weighted rows say as much (Kong 1992).

    0 where no row has any weight.
    """
    square = (ratio**2).sum()
    return torch.where(square > 0, ratio.sum() ** 2 / square.clamp(min=torch.finfo(ratio.dtype).tiny), square)


def banditnet_loss(ratio: Tensor, reward: Tensor, translation: float) -> Tensor:
    """-(r - lambda) w by row: [...] twice -> [...] (Joachims, Swaminathan and de Rijke 2018, eq. 11).

    lambda is the value that SNIPS would have: the optimum over lambda is SNIPS's, and the loss is a mean of rows.
    """
    return -(reward - translation) * ratio
