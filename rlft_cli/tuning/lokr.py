"""Train Kronecker products that are added to the weights (LoKr, Yeh et al. 2024) through peft."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from peft import LoKrConfig
from torch import nn

from rlft_cli.model.additions import add, linear_names, merged_body


@dataclass(frozen=True, kw_only=True)
class Lokr:
    """W x + (alpha / rank) (C kron (B A)) x, C the smaller factor: its rank is that of C times that of B A.

    One factor is 0 at the start, so that training begins at the pretrained model.
    """

    adds: ClassVar[bool] = True

    rank: Annotated[int, "[1, inf)"]
    alpha: Annotated[float, "(0, inf)"]
    target_modules: list[str] | None

    def apply(self, policy: nn.Module) -> nn.Module:
        """Wrap ``policy.body``; heads stay trainable. UsageError for a body without linear layers."""
        names = self.target_modules or linear_names(policy, "lokr", transposed=False)
        return add(policy, LoKrConfig(r=self.rank, alpha=self.alpha, target_modules=names))  # type: ignore[arg-type]

    def merged(self, policy: nn.Module) -> nn.Module:
        """A copy of the body with the additions merged into its weights, in float32."""
        return merged_body(policy)
