"""Pays a reply, at its last token, with its chrF."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from torch import Tensor

from rlft_cli.metrics.alignment import at_last_decision
from rlft_cli.metrics.text import sentence_chrf
from rlft_cli.reward import Batch


@dataclass(frozen=True, kw_only=True)
class Chrf:
    """r_T = chrF2 / 100 in [0, 1] (Popovic 2015; sacrebleu, character order 6): smooth, and for any language."""

    decisions: ClassVar[tuple[str, ...]] = ("tokens",)
    pays: ClassVar[str] = "episode"
    contract: ClassVar[str] = "reference"
    word_order: Annotated[int, "[0, 2]"]

    def __call__(self, action: Tensor, mask: Tensor, batch: Batch) -> Tensor:
        """Reward [N, T] float32 of the replies that the actions [N, T] decode to."""
        pairs = zip(batch.predictions, batch.references, strict=True)
        return at_last_decision([sentence_chrf(reply, reference, self.word_order) for reply, reference in pairs], mask)
