"""What exploration is: scores turned into an action and the log-probability with which it was taken."""

from __future__ import annotations

from typing import ClassVar, Protocol

import torch
from torch import Tensor


class Explore(Protocol):
    """A behaviour policy over scores; ``on_policy`` says that it samples from the policy that is learned."""

    on_policy: ClassVar[bool]
    decisions: ClassVar[tuple[str, ...]]

    def __call__(
        self, scores: Tensor, legal: Tensor, progress: float, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Choose action [N] int64 and give its exact log_prob [N], from scores [N, A] and legal [N, A].

        ``progress`` is the part of the training budget spent, 0 to 1, for schedules.
        """
        ...

    def warp(self, scores: Tensor) -> Tensor:
        """Scores [..., A] of the distribution that is sampled from (temperature and the like); law 8."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """What must survive a resume (counts); empty for most."""
        ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore ``state_dict``."""
        ...
