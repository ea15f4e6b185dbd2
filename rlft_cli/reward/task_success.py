"""Pays a goal-oriented dialogue: its end by success or failure, and every turn by what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from rlft_cli.metrics.alignment import at_last_decision
from rlft_cli.reward import Batch


@dataclass(frozen=True, kw_only=True)
class TaskSuccess:
    """r_t = -turn_cost, and success or failure on top at the last decision (Li et al. 2017, section 3.3: 2L, -L and 1).

    A dialogue succeeds where something was booked that has all the user wants by then, and all requests were answered.
    """

    decisions: ClassVar[tuple[str, ...]] = ("acts",)
    contract: ClassVar[str] = "alone"
    pays: ClassVar[str] = "episode"  # what turns cost needs no credit: it is known before they are taken

    success: Annotated[float, "(-inf, inf)"]
    failure: Annotated[float, "(-inf, inf)"]
    turn_cost: Annotated[float, "[0, inf)"]

    def __call__(self, action: Tensor, mask: Tensor, batch: Batch) -> Tensor:
        """Reward [N, T] float32 of acts [N, T] that led to the outcomes in ``batch.predictions``."""
        ends = [self.success if outcome["success"] else self.failure for outcome in batch.predictions]
        cost = torch.where(mask, self.turn_cost, 0.0)
        return at_last_decision(ends, mask) - cost
