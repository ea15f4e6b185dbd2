"""The tag chains of the oracles as sentences and a reward: a small MDP whose optimum is enumerated."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from rlft_cli.oracles.toys.chain import LENGTHS, TAGS, K, chain
from rlft_cli.reward import Batch

ROWS: list[dict[str, Any]] = [
    {"words": [f"w{s}{t}" for t in range(length)], "tags": ["O"] * length, "origin": f"chain:{s + 1}"}
    for s, length in enumerate(LENGTHS)
]


class ChainReward:
    """r(sentence, word, previous tag, tag) of the chains; the sentences are told apart by their lengths."""

    decisions: ClassVar[tuple[str, ...]] = ("tags",)

    def __call__(self, action: Tensor, mask: Tensor, batch: Batch) -> Tensor:
        sentence = (mask.sum(1, keepdim=True) == LENGTHS[1]).long().expand_as(action)
        previous = torch.cat([torch.full_like(action[:, :1], K), action[:, :-1]], 1)
        word = torch.arange(action.shape[1])[None, :].expand_as(action)
        return torch.where(mask, chain().reward[sentence, word, previous, action], 0.0).float()


def optimum() -> list[float]:
    """The largest sum of rewards over all legal paths, for each sentence."""
    total = chain().data.reward.sum(1)
    return [float(total[chain().sentence == s].max()) for s in range(len(LENGTHS))]


def myopic() -> list[float]:
    """What the largest reward now, at every word, earns: where that is the optimum, nothing is proven."""
    found = []
    for s, length in enumerate(LENGTHS):
        previous, total = K, 0.0
        for t in range(length):
            reward = chain().reward[s, t, previous].masked_fill(~chain().legal[previous], -np.inf)
            total, previous = total + float(reward.max()), int(reward.argmax())
        found.append(total)
    return found


__all__ = ["ROWS", "TAGS", "ChainReward", "myopic", "optimum"]
