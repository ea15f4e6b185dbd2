"""Pays a reply, at its last token, with its sentence BLEU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from rlft_cli.metrics.alignment import at_last_decision
from rlft_cli.metrics.text import sentence_bleu
from rlft_cli.reward import Batch


@dataclass(frozen=True, kw_only=True)
class Bleu:
    """r_T = sentence BLEU / 100 in [0, 1] (Papineni et al. 2002; sacrebleu, smoothing exp, effective order)."""

    decisions: ClassVar[tuple[str, ...]] = ("tokens",)
    pays: ClassVar[str] = "episode"
    contract: ClassVar[str] = "reference"
    language: Literal["en", "zh"]

    def __call__(self, action: Tensor, mask: Tensor, batch: Batch) -> Tensor:
        """Reward [N, T] float32 of the replies that the actions [N, T] decode to."""
        pairs = zip(batch.predictions, batch.references, strict=True)
        return at_last_decision([sentence_bleu(reply, reference, self.language) for reply, reference in pairs], mask)
