"""Pays a sentence once, at its last word, with its entity F1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rlft_cli.metrics.alignment import at_last_decision
from rlft_cli.metrics.spans import check_words, span_f1, spans
from rlft_cli.reward import Batch


@dataclass(frozen=True, kw_only=True)
class SentenceF1:
    """r_T = F1 of the strict spans, in [0, 1]; 1 where prediction and reference are both empty (METHODS 1a)."""

    decisions: ClassVar[tuple[str, ...]] = ("tags",)
    pays: ClassVar[str] = "episode"
    contract: ClassVar[str] = "reference"

    def __call__(self, action: Tensor, mask: Tensor, batch: Batch) -> Tensor:
        """Reward [N, T] float32 of the predictions that the actions [N, T] decode to."""
        check_words(batch.predictions, batch.references)
        pairs = zip(batch.predictions, batch.references, strict=True)
        return at_last_decision([span_f1(spans(prediction), spans(reference)) for prediction, reference in pairs], mask)
