"""Comparison with numbers from hand arithmetic."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

D = torch.float64


def t64(values: Any) -> Tensor:
    return torch.tensor(values, dtype=D)


def close(one: Tensor, other: Any, tolerance: float = 1e-12) -> None:
    wanted = torch.as_tensor(other, dtype=D)
    assert one.shape == wanted.shape, (one.shape, wanted.shape)
    assert (one.to(D) - wanted).abs().max() < tolerance, (one, other)
