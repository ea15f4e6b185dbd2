"""Takes from a reply, at its last token, for saying again what was said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from torch import Tensor

from rlft_cli.metrics.alignment import at_last_decision, contexts_of, texts_of
from rlft_cli.metrics.replies import repeated
from rlft_cli.reward import Batch


@dataclass(frozen=True, kw_only=True)
class Repetition:
    """r_T = -(part of its n-grams that stand earlier in it or, with ``context``, in the turns before), in [-1, 0]."""

    decisions: ClassVar[tuple[str, ...]] = ("tokens",)
    pays: ClassVar[str] = "episode"
    contract: ClassVar[str] = "alone"

    order: Annotated[int, "[1, 9]"]
    context: bool
    language: Literal["en", "zh"]

    def __call__(self, action: Tensor, mask: Tensor, batch: Batch) -> Tensor:
        """Reward [N, T] float32 of the replies that the actions [N, T] decode to."""
        before = (
            [texts_of(context) for context in contexts_of(batch)] if self.context else [()] * len(batch.predictions)
        )
        pairs = zip(batch.predictions, before, strict=True)
        return at_last_decision([-repeated(reply, said, self.order, self.language) for reply, said in pairs], mask)
