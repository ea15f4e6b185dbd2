"""Pays every word with the change in sentence F1 that its tag makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from rlft_cli.metrics.alignment import per_decision
from rlft_cli.metrics.bootstrap import Floats, ratio
from rlft_cli.metrics.spans import check_words, spans
from rlft_cli.reward import Batch


def potentials(prediction: Sequence[str], reference: Sequence[str]) -> Floats:
    """Phi_t = F1(first t predicted tags + O...O, reference) for t = 0..T: [T + 1] float64.

    An entity that is open after t tags counts as ended there. 1 where prefix and reference are both empty.
    """
    gold = spans(reference)
    predicted, matched = np.zeros(len(reference) + 1), np.zeros(len(reference) + 1)
    for start, end, kind in spans(prediction):
        predicted[start + 1 :] += 1
        for stop in range(start + 1, end):
            matched[stop] += (start, stop, kind) in gold
        matched[end:] += (start, end, kind) in gold
    total = predicted + len(gold)
    return np.where(total == 0, 1.0, ratio(2 * matched, total))


@dataclass(frozen=True, kw_only=True)
class F1Delta:
    """r_t = Phi_t - Phi_{t-1}, Phi as in ``potentials``; in [-1, 1]; sums to the sentence's F1 - Phi_0.

    Potential-based shaping (Ng, Harada & Russell 1999) of the terminal sentence F1: with gamma 1 the optimal policy
    is the same, and every word hears at once what it did. Phi_0 is 1 for a sentence without entities, else 0.
    """

    decisions: ClassVar[tuple[str, ...]] = ("tags",)
    contract: ClassVar[str] = "reference"

    def __call__(self, action: Tensor, mask: Tensor, batch: Batch) -> Tensor:
        """Reward [N, T] float32 of the predictions that the actions [N, T] decode to."""
        check_words(batch.predictions, batch.references)
        pairs = zip(batch.predictions, batch.references, strict=True)
        return per_decision([np.diff(potentials(prediction, reference)) for prediction, reference in pairs], mask)
