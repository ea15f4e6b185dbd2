"""Pays every word by itself: right tag or not, right O perhaps for less."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from rlft_cli.metrics.alignment import label_ids, tag_ids
from rlft_cli.reward import Batch


@dataclass(frozen=True, kw_only=True)
class TokenAccuracy:
    """r_t = 1[a_t = y_t] w(y_t), w(O) = outside_weight, else 1; in [0, 1].

    Decomposes over words, so that gamma 0 is optimal up to the legality of tags. A reference tag that the model has
    no action for pays 0 whatever is chosen. Raises RlftError where an episode has not one decision per word.
    """

    decisions: ClassVar[tuple[str, ...]] = ("tags",)
    contract: ClassVar[str] = "reference"
    outside_weight: Annotated[float, "[0, 1]"]

    def __call__(self, action: Tensor, mask: Tensor, batch: Batch) -> Tensor:
        """Reward [N, T] float32 of actions [N, T]."""
        target = tag_ids(batch.references, batch.labels, mask)
        outside = int(label_ids(["O"], batch.labels))
        weight = torch.where(target == outside, self.outside_weight, 1.0)
        return torch.where(mask & (action == target), weight, 0.0).float()
