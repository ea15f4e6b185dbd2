"""What tuning is: which weights of a policy are trained."""

from __future__ import annotations

from typing import ClassVar, Protocol

from torch import nn


class Tuning(Protocol):
    """Chooses the trainable weights of a policy; ``adds`` says that the body's own stay frozen and additions train."""

    adds: ClassVar[bool]

    def apply(self, policy: nn.Module) -> nn.Module:
        """Set requires_grad, or add adapters to ``policy.body``; returns the policy."""
        ...

    def merged(self, policy: nn.Module) -> nn.Module:
        """The body with any adapters merged, to be saved; a copy where merging changes it."""
        ...
