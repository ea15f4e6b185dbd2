"""Takes from a reply, at its last token, for being too short or too long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from torch import Tensor

from rlft_cli.errors import UsageError
from rlft_cli.metrics.alignment import at_last_decision
from rlft_cli.metrics.replies import outside_length
from rlft_cli.reward import Batch


@dataclass(frozen=True, kw_only=True)
class Length:
    """r_T = 0 within [least_words, most_words], down to -1 outside: the distance as a part of the bound that is missed."""

    decisions: ClassVar[tuple[str, ...]] = ("tokens",)
    pays: ClassVar[str] = "episode"
    contract: ClassVar[str] = "alone"

    least_words: Annotated[int, "[1, inf)"]
    most_words: Annotated[int, "[1, inf)"]
    language: Literal["en", "zh"]

    def __post_init__(self) -> None:
        """UsageError where nothing lies between the bounds."""
        if self.least_words > self.most_words:
            raise UsageError(
                f"reward.least_words={self.least_words} is above reward.most_words={self.most_words}; exchange them"
            )

    def __call__(self, action: Tensor, mask: Tensor, batch: Batch) -> Tensor:
        """Reward [N, T] float32 of the replies that the actions [N, T] decode to."""
        least, most = self.least_words, self.most_words
        paid = [-outside_length(reply, least, most, self.language) for reply in batch.predictions]
        return at_last_decision(paid, mask)
