"""Pays the same for everything: a control, under which no true metric may improve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from torch import Tensor

from rlft_cli.metrics.alignment import at_last_decision
from rlft_cli.reward import Batch


@dataclass(frozen=True, kw_only=True)
class Constant:
    """r_t = value at every tag and class, and r_T = value at the last token of a reply.

    What a policy gains under it is peakiness and not learning (Choshen et al. 2020); with a leave-one-out or
    self-critical baseline the update is exactly 0.
    """

    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens")
    control: ClassVar[bool] = True
    contract: ClassVar[str] = "none"
    value: Annotated[float, "[-1, 1]"]

    def __call__(self, action: Tensor, mask: Tensor, batch: Batch) -> Tensor:
        """Reward [N, T] float32 of actions [N, T]."""
        if batch.labels:
            return mask.float() * self.value
        return at_last_decision([self.value] * len(mask), mask)  # tokens have no labels
