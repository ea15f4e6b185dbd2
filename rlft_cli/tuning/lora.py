"""Train low-rank additions to the weights (LoRA, Hu et al. 2022) through peft."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from peft import LoraConfig
from torch import nn

from rlft_cli.model.additions import add, linear_names, merged_body


@dataclass(frozen=True, kw_only=True)
class Lora:
    """W x + (alpha / rank) B A x with B = 0 at the start, so that training begins at the pretrained model."""

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
            target_modules=self.target_modules or linear_names(policy, "lora"),
        )
        return add(policy, config)

    def merged(self, policy: nn.Module) -> nn.Module:
        """A copy of the body with the additions merged into its weights, in float32."""
        return merged_body(policy)
