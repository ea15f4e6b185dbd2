"""What a policy says, made of plain numbers, for algorithms that read more than scores."""

from __future__ import annotations

import torch
from torch import Tensor

from rlft_cli.algo import Algorithm
from rlft_cli.model import Output
from rlft_cli.model.head import Numbers
from rlft_cli.returns import categorical_mean

TOKENS = 3  # of a reply, where rewards after each token are read


def made(algorithm: Algorithm, numbers: Tensor) -> Output:
    """What a policy says, made of ``numbers`` [N, T, A, 2 + n]: scores, values (of action 0), and what is read beside them."""
    told, scores, heads = Numbers.of(algorithm.reads), numbers[..., 0], None
    if told.quantiles:
        heads = numbers[..., 2:]
        scores = heads.mean(-1)
    elif told.atoms:
        heads = numbers[..., 2:]
        scores = categorical_mean(heads, torch.linspace(told.low, told.high, told.atoms, dtype=torch.float64))
    elif told.heads or "tokens" in algorithm.reads:
        heads = numbers[..., 2:]
    return Output(scores=scores, value=numbers[..., 0, 1] if "value" in algorithm.reads else None, heads=heads)


def width(algorithm: Algorithm) -> int:
    """How many numbers of each action ``made`` reads."""
    told = Numbers.of(algorithm.reads)
    return 2 + max(told.heads, told.quantiles, told.atoms, TOKENS if "tokens" in algorithm.reads else 0)
