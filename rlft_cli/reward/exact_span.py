"""Pays every predicted entity: accepted or rejected, as a person would who sees the highlights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from torch import Tensor

from rlft_cli.metrics.alignment import per_decision
from rlft_cli.metrics.bootstrap import Floats
from rlft_cli.metrics.spans import Span, check_words, spans
from rlft_cli.reward import Batch


@dataclass(frozen=True, kw_only=True)
class ExactSpan:
    """+1 for a predicted entity with the right words and type, -1 for any other, -miss_penalty for a missed one.

    Entities are strict spans (metrics.spans). ``credit`` says at which words an entity's amount is paid:
    close: at its last word, where it closes. That it closes there is known only when the next tag is not its I-, so
    the decision that closed it comes after its reward and is not in that decision's return.
    decided: at the word after its last (at the last where the sentence ends there), whose tag closed it. No reward
    comes before a decision that it depends on, so returns-to-go give the exact policy gradient.
    spread: in equal parts at all its words; with gamma 0 every word of it hears of its fate.
    A missed reference entity is paid in the same way. The sum over a sentence is the same for each of the three:
    right - wrong - miss_penalty * missed. A step is in [-1 - miss_penalty, 1]; twice that for decided at the last
    word, which may settle two entities, the one before it and its own.
    Raises RlftError where an episode has not one decision per word.
    """

    decisions: ClassVar[tuple[str, ...]] = ("tags",)
    contract: ClassVar[str] = "reference"
    miss_penalty: Annotated[float, "[0, 1]"]
    credit: Literal["close", "decided", "spread"]

    def __call__(self, action: Tensor, mask: Tensor, batch: Batch) -> Tensor:
        """Reward [N, T] float32 of the predictions that the actions [N, T] decode to."""
        check_words(batch.predictions, batch.references)
        pairs = zip(batch.predictions, batch.references, strict=True)
        return per_decision([self._row(prediction, reference) for prediction, reference in pairs], mask)

    def _row(self, prediction: list[str], reference: list[str]) -> Floats:
        """Reward [T] of one sentence."""
        reward = np.zeros(len(reference))
        predicted, gold = spans(prediction), spans(reference)
        for span in predicted:
            self._pay(reward, span, 1.0 if span in gold else -1.0)
        for span in gold - predicted:
            self._pay(reward, span, -self.miss_penalty)
        return reward

    def _pay(self, reward: Floats, span: Span, amount: float) -> None:
        start, end, _ = span
        if self.credit == "spread":
            reward[start:end] += amount / (end - start)
        elif self.credit == "decided":
            reward[min(end, len(reward) - 1)] += amount
        else:
            reward[end - 1] += amount
