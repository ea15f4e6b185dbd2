"""Pays the right class, or the right one of two replies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rlft_cli.metrics.alignment import check_episodes, label_ids
from rlft_cli.reward import Batch


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """r = 1[a = y]; a reference label that the model has no action for pays 0 whatever is chosen."""

    decisions: ClassVar[tuple[str, ...]] = ("classes", "pairs")
    contract: ClassVar[str] = "reference"

    def __call__(self, action: Tensor, mask: Tensor, batch: Batch) -> Tensor:
        """Reward [N, T] float32 of actions [N, T]; T is 1."""
        check_episodes(len(batch.references), mask)
        target = label_ids(batch.references, batch.labels).to(action.device)
        return (mask & (action == target[:, None])).float()
