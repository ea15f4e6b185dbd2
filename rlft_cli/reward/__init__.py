"""What a reward is: what an episode was worth, decision by decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What a reward may look at besides the actions; it stays on this side of the feedback."""

    references: Sequence[Any]  # [N] task.references, repeated for the samples of one example
    predictions: Sequence[Any]  # [N] task.decode of the actions
    labels: Sequence[str]  # names of the actions; empty for tokens
    whole: bool = False  # whether people judge an episode as a whole, and not each of its decisions
    contexts: Sequence[Any] = ()  # [N] task.contexts: what was answered; none where a log is read


class Reward(Protocol):
    """A pure per-episode function; ``decisions`` names the tasks it can judge.

    ``contract`` says what its check at the start of a run on tokens may ask: "reference" (the reference is worth more than
    another reply), "alone" (it does not look at references) or "none" (a control, which breaks the contract on purpose).
    """

    decisions: ClassVar[tuple[str, ...]]

    @property
    def contract(self) -> str:
        """What may be asked of it: reference, alone or none."""
        ...

    def __call__(self, action: Tensor, mask: Tensor, batch: Batch) -> Tensor:
        """Reward [N, T] of actions [N, T]; zero where the mask is False."""
        ...
