"""Pays a reply, at its last token, with the probability that a classifier gives to a wanted class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from rlft_cli.metrics.alignment import at_last_decision, one_number_each
from rlft_cli.reward import Batch


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """r_T = P(label | reply) in [0, 1], by the checkpoint's softmax; 0 for an empty reply."""

    decisions: ClassVar[tuple[str, ...]] = ("tokens",)
    pays: ClassVar[str] = "episode"
    contract: ClassVar[str] = "alone"

    checkpoint: str
    label: str
    # Probabilities of replies; the pipeline puts it here, since a checkpoint is opened there.
    scorer: list[Callable[[Sequence[str]], list[float]]] = field(init=False, default_factory=list)

    def __call__(self, action: Tensor, mask: Tensor, batch: Batch) -> Tensor:
        """Reward [N, T] float32 of the replies that the actions [N, T] decode to."""
        scores = one_number_each(self.scorer[0](batch.predictions), len(mask), f"the classifier {self.checkpoint}")
        return at_last_decision(scores, mask)
