from __future__ import annotations

import torch

from rlft_cli.returns import categorical_projection, quantile_huber


def nearest_atom(support, probability, reward, scale):
    """All of a probability goes to one atom."""
    moved = (reward[..., None] + scale[..., None] * support).clamp(support[0], support[-1])
    place = ((moved - support[0]) / (support[1] - support[0])).round().long()
    return torch.zeros_like(probability).scatter_add(-1, place, probability)


def not_clipped(support, probability, reward, scale):
    spacing = support[1] - support[0]
    moved = reward[..., None] + scale[..., None] * support
    share = (1 - (moved[..., None, :] - support[:, None]).abs() / spacing).clamp(min=0)
    return (share * probability[..., None, :]).sum(-1)


TWINS = {
    "c51_projection": [nearest_atom, not_clipped],
    "c51_return": [
        lambda support, probability, reward, scale: categorical_projection(
            support, probability, reward, torch.ones_like(scale)
        ),  # bootstraps beyond the end
        lambda support, probability, reward, scale: categorical_projection(support, probability, 0 * reward, scale),
    ],
    "quantiles": [lambda theta, target, kappa: ((target[None, :] - theta[:, None]) ** 2).mean()],
    "quantile_huber": [
        lambda theta, target, kappa: quantile_huber(theta.flip(0), target, kappa),  # levels the wrong way round
        lambda theta, target, kappa: kappa * quantile_huber(theta, target, kappa),  # not divided by kappa
    ],
}
