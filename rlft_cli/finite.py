"""What is no number stops a run, with the batch that it happened on."""

from __future__ import annotations

import torch
from torch import Tensor

from rlft_cli.episode import Trajectory, blank
from rlft_cli.errors import RlftError


class NonFiniteError(RlftError):
    """Loss or gradient is not a number; ``batch`` is what it happened on."""

    def __init__(self, message: str, batch: Trajectory) -> None:
        super().__init__(message)
        self.batch = batch


def require_finite(scores: Tensor, observation: dict[str, Tensor], when: str) -> None:
    """NonFiniteError where scores [n, A] of a policy are not all numbers; ``observation`` is what it read."""
    if bool(torch.isfinite(scores).all()):
        return
    nothing = torch.zeros(observation["id"].shape[0], 1, dtype=torch.int64, device=scores.device)
    raise NonFiniteError(
        f"the policy's scores are not numbers {when}; try a lower optim.lr, or hardware.precision=fp32",
        blank(observation, nothing, nothing.bool()),
    )
