"""What tuning is: which weights of a policy are trained."""

from __future__ import annotations

from typing import Protocol

from torch import nn


class Tuning(Protocol):
    """Chooses the trainable weights of a policy."""

    def apply(self, policy: nn.Module) -> nn.Module:
        """Set requires_grad, or add adapters to ``policy.body``; returns the policy."""
        ...
