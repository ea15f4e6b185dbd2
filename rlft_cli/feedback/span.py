"""The learner is told of each entity that it marked whether it is right; what it did not mark, nobody looks at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from torch import Tensor

from rlft_cli.episode import Trajectory
from rlft_cli.feedback import Signal, at_once
from rlft_cli.metrics.spans import check_words, spans

if TYPE_CHECKING:
    from rlft_cli.reward import Batch


@dataclass(frozen=True, kw_only=True)
class Span:
    """One bit per predicted entity: 1 where words and type are right, ``rejected`` otherwise (METHODS 1a).

    Every word of the entity carries its bit. All other words are not observed: there is no signal for a miss, so that
    a policy that marks nothing learns nothing. Entities are strict spans (metrics.spans).
    """

    reveals: ClassVar[str] = "rewards"
    decisions: ClassVar[tuple[str, ...]] = ("tags",)
    reads_reward: ClassVar[bool] = False
    fresh: ClassVar[bool] = True
    pays: ClassVar[str] = "decision"

    rejected: Annotated[float, "[-1, 0]"]

    def __call__(self, reward: Tensor, trajectory: Trajectory, batch: Batch, generator: torch.Generator) -> Signal:
        """Accepted or rejected [N, T] at the words of predicted entities; the configured reward is not read."""
        check_words(batch.predictions, batch.references)
        told = torch.zeros(trajectory.mask.shape, dtype=torch.float32)
        observed, reactions = torch.zeros_like(told, dtype=torch.bool), []
        for n, (prediction, reference) in enumerate(zip(batch.predictions, batch.references, strict=True)):
            predicted, right = spans(prediction), spans(reference)
            reactions.append(len(predicted))
            for entity in predicted:
                start, end, _ = entity
                told[n, start:end] = 1.0 if entity in right else self.rejected
                observed[n, start:end] = True
        device = trajectory.mask.device
        return at_once(told.to(device), observed.to(device), torch.tensor(reactions, device=device))
