"""Train size and direction of the weights apart (DoRA, Liu et al. 2024) through peft."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from peft import LoraConfig
from torch import nn

from rlft_cli.model.additions import add, linear_names, merged_body


@dataclass(frozen=True, kw_only=True)
class Dora:
    """m (W + (alpha / rank) B A) x / |W + (alpha / rank) B A|, norms and m for each output (eq. 5).

    B = 0 and m = |W| at the start, so that training begins at the pretrained model. The norm gets no gradient (section 4.3).
    """

    adds: ClassVar[bool] = True

    rank: Annotated[int, "[1, inf)"]
    alpha: Annotated[float, "(0, inf)"]
    dropout: Annotated[float, "[0, 1)"]
    target_modules: list[str] | None

    def apply(self, policy: nn.Module) -> nn.Module:
        """Wrap ``policy.body``; heads stay trainable. UsageError for a body without linear layers."""
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]  # peft takes a float too
            lora_dropout=self.dropout,
            target_modules=self.target_modules or linear_names(policy, "dora"),
            use_dora=True,
        )
        return add(policy, config)

    def merged(self, policy: nn.Module) -> nn.Module:
        """A copy of the body with the new weights in place of its own, in float32."""
        return merged_body(policy)
