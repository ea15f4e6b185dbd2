"""Pays rare classes more than frequent ones, for right and for wrong decisions alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from rlft_cli.errors import UsageError
from rlft_cli.metrics.alignment import check_episodes, label_ids
from rlft_cli.reward import Batch


@dataclass(frozen=True, kw_only=True)
class Imbalanced:
    """r = +w_y where a = y, else -w_y: w is ``weights[y]``, or ``default_weight`` where y is not named.

    1 for the minority and rho = minority count / majority count for the majority is Lin, Chen and Qi 2019, eq. 8; 1/n_k over
    the largest such number for several classes: Yang et al. 2022. The weights are constants of the configuration: counted
    on labels that the learner must not see they would tell it about them. Raises UsageError for labels that the task lacks.
    """

    decisions: ClassVar[tuple[str, ...]] = ("classes",)
    contract: ClassVar[str] = "reference"
    weights: dict[str, float]
    default_weight: Annotated[float, "(0, 1]"]

    def __post_init__(self) -> None:
        for label, weight in self.weights.items():
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= 1:
                raise UsageError(f"reward.weights.{label} is {weight!r}; expected a number in (0, 1]")

    def __call__(self, action: Tensor, mask: Tensor, batch: Batch) -> Tensor:
        """Reward [N, T] float32 of actions [N, T]; T is 1."""
        check_episodes(len(batch.references), mask)
        named: Mapping[str, float] = {str(label): float(weight) for label, weight in self.weights.items()}
        unknown = sorted(set(named).difference(batch.labels))
        if unknown:
            raise UsageError(
                f"reward.weights names the label '{unknown[0]}', which the task lacks; "
                f"its labels are: {', '.join(list(batch.labels)[:20])}{', ...' if len(batch.labels) > 20 else ''}"
            )
        target = label_ids(batch.references, batch.labels).to(action.device)
        size = [named.get(reference, self.default_weight) for reference in batch.references]
        weight = torch.tensor(size, dtype=torch.float32, device=action.device)[:, None]
        return torch.where(mask, torch.where(action == target[:, None], weight, -weight), 0.0)
