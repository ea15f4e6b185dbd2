"""Train low-rank additions to the weights (LoRA, Hu et al. 2022) through peft."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Annotated, ClassVar

from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers.pytorch_utils import Conv1D

from rlft_cli.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Lora:
    """W x + (alpha / rank) B A x with B = 0 at the start, so that training begins at the pretrained model."""

    adds: ClassVar[bool] = True

    rank: Annotated[int, "[1, inf)"]
    alpha: Annotated[float, "(0, inf)"]
    dropout: Annotated[float, "[0, 1)"]
    target_modules: list[str] | None

    def apply(self, policy: nn.Module) -> nn.Module:
        """Wrap ``policy.body``; heads stay trainable."""
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]  # peft takes a float too
            lora_dropout=self.dropout,
            target_modules=self.target_modules or _linear_names(policy.body),
        )
        policy.body = get_peft_model(policy.body, config)  # type: ignore[arg-type]
        return policy

    def merged(self, policy: nn.Module) -> nn.Module:
        """A copy of the body with the additions merged into its weights, in float32, as any tool can load it."""
        body = copy.deepcopy(policy.body)
        assert isinstance(body, PeftModel)
        merged: nn.Module = body.float().merge_and_unload()  # float32 first: bfloat16 would swallow small additions
        return merged


def _linear_names(body: nn.Module | object) -> list[str]:
    """Last names of the linear layers of the body, without the output layer over the vocabulary."""
    assert isinstance(body, nn.Module)
    linear = (name for name, module in body.named_modules() if isinstance(module, nn.Linear | Conv1D))
    names = sorted({name.rsplit(".", 1)[-1] for name in linear} - {"lm_head"})
    if not names:
        raise UsageError("tuning=lora adapts linear layers, and this model has none inside; type tuning=full")
    return names
