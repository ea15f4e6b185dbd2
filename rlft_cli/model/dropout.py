"""Dropout that does not take a sixth of a training step on a processor (docs/decisions/0016)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def dropout(x: Tensor, p: float) -> Tensor:
    """x with each number set to 0 with probability p, the others divided by 1 - p (Srivastava et al. 2014); any shape.

    On a processor four draws share one random number of 64 bits, so that p is rounded to a multiple of 1 / 32768; torch
    draws each from a number of its own, one after the other.
    """
    return F.dropout(x, p) if x.device.type != "cpu" else _Thin.apply(x, p)  # type: ignore[no-untyped-call]


class _Thin(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        count, cut = x.numel(), round(p * 32768)
        bits = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[:count]
        dropped = bits.bitwise_and_(32767).sub_(cut).bitwise_right_shift_(15)  # -1 where the draw was below, else 0
        kept = dropped.to(x.dtype).add_(1).view(x.shape)  # arithmetic: a product with bools takes ten times as long
        ctx.save_for_backward(kept)
        ctx.scale = 32768 / (32768 - cut)
        return (x * kept).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return (gradients[0] * kept).mul_(ctx.scale), None


class Dropout(nn.Dropout):
    """As torch's, by ``dropout``."""

    def forward(self, input: Tensor) -> Tensor:
        """The input, thinned out while training."""
        return dropout(input, self.p) if self.training and self.p > 0 else input


def use_in(module: nn.Module) -> None:
    """Replace every dropout layer in a module, which hold no weights."""
    for name, child in module.named_children():
        if type(child) is nn.Dropout:
            setattr(module, name, Dropout(child.p))
        else:
            use_in(child)
