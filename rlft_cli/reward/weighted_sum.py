"""Adds up several rewards, each with its weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rlft_cli.errors import UsageError
from rlft_cli.reward import Batch, Reward


@dataclass(frozen=True, kw_only=True)
class WeightedSum:
    """r_t = sum_i weights[i] * terms[i]_t; in [-1, 1] where the terms are and the weights' sizes sum to at most 1.

    Raises UsageError unless there is one weight per term and one kind of decision that all terms judge.
    """

    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens")
    terms: list[Reward]
    weights: list[float]

    def __post_init__(self) -> None:
        if not self.terms or len(self.terms) != len(self.weights):
            raise UsageError(
                f"reward.terms has {len(self.terms)} rewards and reward.weights {len(self.weights)} numbers; "
                "expected at least one reward and one weight for each: reward.weights=[0.5,0.5] for two"
            )
        common = set(self.decisions).intersection(*(term.decisions for term in self.terms))
        if not common:
            judged = "; ".join(f"{type(term).__name__} judges {' and '.join(term.decisions)}" for term in self.terms)
            raise UsageError(
                f"the rewards in reward.terms have no task in common: {judged}; expected terms of one kind"
            )

    @property
    def contract(self) -> str:
        """What all terms together may be asked: "reference" where each compares with it and none is a penalty."""
        asked = {term.contract for term in self.terms}
        if asked == {"reference"} and min(self.weights) >= 0:
            return "reference"
        return "none" if "none" in asked else "alone"

    def __call__(self, action: Tensor, mask: Tensor, batch: Batch) -> Tensor:
        """Reward [N, T] float32 of actions [N, T]."""
        total = torch.zeros(mask.shape, dtype=torch.float32, device=mask.device)
        for weight, term in zip(self.weights, self.terms, strict=True):
            total = total + weight * term(action, mask, batch)
        return total
