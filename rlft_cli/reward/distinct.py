"""Pays a reply, at its last token, for not repeating itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from torch import Tensor

from rlft_cli.metrics.alignment import at_last_decision
from rlft_cli.metrics.replies import distinct
from rlft_cli.reward import Batch


@dataclass(frozen=True, kw_only=True)
class Distinct:
    """r_T = different n-grams / n-grams of the reply, in [0, 1] (Li et al. 2016); 1 for a reply too short to have one."""

    decisions: ClassVar[tuple[str, ...]] = ("tokens",)
    pays: ClassVar[str] = "episode"
    contract: ClassVar[str] = "alone"

    order: Annotated[int, "[1, 9]"]
    language: Literal["en", "zh"]

    def __call__(self, action: Tensor, mask: Tensor, batch: Batch) -> Tensor:
        """Reward [N, T] float32 of the replies that the actions [N, T] decode to."""
        return at_last_decision([distinct(reply, self.order, self.language) for reply in batch.predictions], mask)
