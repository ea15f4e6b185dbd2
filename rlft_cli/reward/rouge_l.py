"""Pays a reply, at its last token, with its ROUGE-L."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from rlft_cli.metrics.alignment import at_last_decision
from rlft_cli.metrics.text import sentence_rouge_l
from rlft_cli.reward import Batch


@dataclass(frozen=True, kw_only=True)
class RougeL:
    """r_T = F-measure of the longest common subsequence in [0, 1] (Lin 2004; rouge-score, no stemming)."""

    decisions: ClassVar[tuple[str, ...]] = ("tokens",)
    pays: ClassVar[str] = "episode"
    contract: ClassVar[str] = "reference"
    language: Literal["en", "zh"]

    def __call__(self, action: Tensor, mask: Tensor, batch: Batch) -> Tensor:
        """Reward [N, T] float32 of the replies that the actions [N, T] decode to."""
        pairs = zip(batch.predictions, batch.references, strict=True)
        return at_last_decision([sentence_rouge_l(reply, reference, self.language) for reply, reference in pairs], mask)
