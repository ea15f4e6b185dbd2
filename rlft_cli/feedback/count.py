"""The learner is told how many entities of each type a sentence has, and not which words they are."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from rlft_cli.episode import Trajectory
from rlft_cli.feedback import Signal, at_once
from rlft_cli.metrics.alignment import per_decision
from rlft_cli.metrics.bootstrap import Floats
from rlft_cli.metrics.spans import check_words, spans

if TYPE_CHECKING:
    from rlft_cli.reward import Batch

NEUTRAL = 0.5  # of a word that the counts say nothing of


@dataclass(frozen=True, kw_only=True)
class Count:
    """What the number g_k of entities of each type k says of the p_k that were predicted, at most.

    The first word of a predicted entity of type k is paid min(1, g_k / p_k): no more than so many of them can be right.
    Every other word is paid NEUTRAL, whatever was missed: to begin an entity is worth more than that as long as at least
    half of those marked can be right, and less beyond, so that by comparison with other samples the policy marks as many
    as there are, where it thinks them likeliest. (Paid for what it leaves out, of which most is right, a policy learns to
    mark nothing; paid for every word of an entity, to mark all words as one.) The counts do not say where: a signal for a
    policy that has seen some labels, not one to begin with. One reaction a sentence: the counts.
    """

    reveals: ClassVar[str] = "rewards"
    decisions: ClassVar[tuple[str, ...]] = ("tags",)
    reads_reward: ClassVar[bool] = False
    fresh: ClassVar[bool] = True
    pays: ClassVar[str] = "decision"

    def __call__(self, reward: Tensor, trajectory: Trajectory, batch: Batch, generator: torch.Generator) -> Signal:
        """What the counts say of every word [N, T], in [0, 1]; the configured reward is not read."""
        check_words(batch.predictions, batch.references)
        rows = []
        for prediction, reference in zip(batch.predictions, batch.references, strict=True):
            rows.append(_paid(prediction, Counter(kind for _, _, kind in spans(reference))))
        mask = trajectory.mask
        return at_once(per_decision(rows, mask), mask, mask.any(1).long())


def _paid(prediction: list[str], count: Counter[str]) -> Floats:
    """Reward [T] of predicted tags, from the counts alone."""
    predicted = spans(prediction)
    mine = Counter(kind for _, _, kind in predicted)
    reward = np.full(len(prediction), NEUTRAL)
    for start, _, kind in predicted:
        reward[start] = min(1.0, count[kind] / mine[kind])
    return reward
