"""Pays a reply, at its last token, with the F1 of its words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from rlft_cli.metrics.alignment import at_last_decision
from rlft_cli.metrics.answers import token_f1
from rlft_cli.reward import Batch


@dataclass(frozen=True, kw_only=True)
class TokenF1:
    """r_T = F1 of the bag of words with that of the reference, in [0, 1] (Rajpurkar et al. 2016); order does not count.

    Words as SQuAD's evaluation has them: punctuation and articles do not count. The metric token_f1 is the same function.
    """

    decisions: ClassVar[tuple[str, ...]] = ("tokens",)
    pays: ClassVar[str] = "episode"
    contract: ClassVar[str] = "reference"

    language: Literal["en", "zh"]

    def __call__(self, action: Tensor, mask: Tensor, batch: Batch) -> Tensor:
        """Reward [N, T] float32 of the replies that the actions [N, T] decode to."""
        pairs = zip(batch.predictions, batch.references, strict=True)
        return at_last_decision([token_f1(reply, reference, self.language) for reply, reference in pairs], mask)
