"""Train every weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn


@dataclass(frozen=True, kw_only=True)
class Full:
    """Nothing is frozen."""

    adds: ClassVar[bool] = False

    def apply(self, policy: nn.Module) -> nn.Module:
        """Leave the policy as it is."""
        return policy

    def merged(self, policy: nn.Module) -> nn.Module:
        """The body as it is."""
        body = policy.body
        assert isinstance(body, nn.Module)
        return body
