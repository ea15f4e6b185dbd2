"""Charges each confusion of two classes what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from rlft_cli.errors import UsageError
from rlft_cli.metrics.alignment import check_episodes
from rlft_cli.reward import Batch


@dataclass(frozen=True, kw_only=True)
class CostMatrix:
    """r = -C[y][a]: ``costs[reference][chosen]`` where named, else 0 if right and default_cost if wrong.

    Raises UsageError for a cost outside [-1, 1] (a negative cost is a gain) and for a label that the task lacks.
    """

    decisions: ClassVar[tuple[str, ...]] = ("classes",)
    contract: ClassVar[str] = "reference"
    costs: dict[str, dict[str, float]]
    default_cost: Annotated[float, "[0, 1]"]
    _table: dict[str, dict[str, float]] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        for reference, row in self.costs.items():
            if not isinstance(row, Mapping):
                raise UsageError(
                    f"reward.costs.{reference} is {row!r}; expected a mapping from chosen label to cost: "
                    f"reward.costs.{reference}={{other_label: 0.5}}"
                )
            for chosen, cost in row.items():
                if isinstance(cost, bool) or not isinstance(cost, int | float) or not -1 <= cost <= 1:
                    raise UsageError(f"reward.costs.{reference}.{chosen} is {cost!r}; expected a number in [-1, 1]")
            self._table[str(reference)] = {str(chosen): float(cost) for chosen, cost in row.items()}

    def __call__(self, action: Tensor, mask: Tensor, batch: Batch) -> Tensor:
        """Reward [N, T] float32 of actions [N, T]; T is 1."""
        self._check(batch.labels)
        check_episodes(len(batch.references), mask)
        # The row of each reference is gathered at the actions: [N, K] -> [N, T].
        rows = [self._costs_of(reference, batch.labels) for reference in batch.references]
        cost = torch.tensor(rows, dtype=torch.float32, device=action.device).reshape(len(rows), len(batch.labels))
        return torch.where(mask, -cost.gather(1, action.masked_fill(~mask, 0)), 0.0)

    def _costs_of(self, reference: str, labels: Sequence[str]) -> list[float]:
        """Cost of choosing each label when ``reference`` is right: [K]."""
        named = self._table.get(reference, {})
        return [named.get(label, 0.0 if label == reference else self.default_cost) for label in labels]

    def _check(self, labels: Sequence[str]) -> None:
        named = {*self._table, *(chosen for row in self._table.values() for chosen in row)}
        unknown = sorted(named.difference(labels))
        if unknown:
            raise UsageError(
                f"reward.costs names the label '{unknown[0]}', which the task lacks; "
                f"its labels are: {', '.join(list(labels)[:20])}{', ...' if len(labels) > 20 else ''}"
            )
