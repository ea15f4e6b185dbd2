"""Pays a reply, at its last token, with its METEOR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from rlft_cli.metrics.alignment import at_last_decision
from rlft_cli.metrics.replies import meteor
from rlft_cli.reward import Batch


@dataclass(frozen=True, kw_only=True)
class Meteor:
    """r_T = METEOR in [0, 1] (Banerjee and Lavie 2005; nltk), by words and Porter stems, without synonyms."""

    decisions: ClassVar[tuple[str, ...]] = ("tokens",)
    pays: ClassVar[str] = "episode"
    contract: ClassVar[str] = "reference"

    language: Literal["en", "zh"]

    def __call__(self, action: Tensor, mask: Tensor, batch: Batch) -> Tensor:
        """Reward [N, T] float32 of the replies that the actions [N, T] decode to."""
        pairs = zip(batch.predictions, batch.references, strict=True)
        return at_last_decision([meteor(reply, reference, self.language) for reply, reference in pairs], mask)
