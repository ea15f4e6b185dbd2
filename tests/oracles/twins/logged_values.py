from __future__ import annotations

from typing import Any

import torch

from rlft_cli.returns import IlqlLosses, cql_penalty, ilql_losses


def mean_penalty(scores, action):
    """The mean over all actions instead of the soft maximum."""
    legal = scores > -1e8
    mean = torch.where(legal, scores, 0.0).sum(-1) / legal.sum(-1)
    return mean - scores.gather(-1, action[..., None]).squeeze(-1)


def last_dropped(*, reward: Any, discount: Any, **rest: Any) -> IlqlLosses:
    return ilql_losses(reward=torch.where(discount == 0, 0.0, reward), discount=discount, **rest)


def no_future(*, discount: Any, **rest: Any) -> IlqlLosses:
    return ilql_losses(discount=torch.zeros_like(discount), **rest)


TWINS = {
    "cql_gradient": [mean_penalty, lambda scores, action: 2 * cql_penalty(scores, action)],
    "cql_value": [mean_penalty, lambda scores, action: 0.0 * cql_penalty(scores, action)],
    "expectile": [
        lambda u, level: (level - (u < 0).to(u.dtype)).abs() * u.abs(),  # the quantile
        lambda u, level: u**2,
    ],
    "ilql": [last_dropped, no_future],
}
