"""What the tunings through peft share: which layers get additions, and the body with the additions merged in."""

from __future__ import annotations

import copy
import warnings

from peft import PeftConfig, PeftModel, get_peft_model
from torch import nn
from transformers.pytorch_utils import Conv1D

from rlft_cli.errors import UsageError


def add(policy: nn.Module, config: PeftConfig) -> nn.Module:
    """Wrap ``policy.body``, whose own weights are frozen then; heads stay trainable."""
    with warnings.catch_warnings():  # peft reads a property that transformers has renamed; no user can act on that
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing", category=FutureWarning)
        policy.body = get_peft_model(policy.body, config)  # type: ignore[arg-type]
    return policy


def linear_names(policy: nn.Module, tuning: str, *, transposed: bool = True) -> list[str]:
    """Last names of the linear layers of the body, without the output layer over the vocabulary.

    ``transposed``: those that hold their weight the other way round (Conv1D of GPT-2) are among them. UsageError for a body
    with none.
    """
    body = policy.body
    assert isinstance(body, nn.Module)
    kinds = (nn.Linear, Conv1D) if transposed else (nn.Linear,)
    linear = (name for name, module in body.named_modules() if isinstance(module, kinds))
    names = sorted({name.rsplit(".", 1)[-1] for name in linear} - {"lm_head"})
    if not names:
        raise UsageError(f"tuning={tuning} adapts linear layers, and this model has none inside; type tuning=full")
    return names


def merged_body(policy: nn.Module) -> nn.Module:
    """A copy of the body with the additions merged into its weights, in float32, as any tool can load it."""
    body = copy.deepcopy(policy.body)
    assert isinstance(body, PeftModel)
    merged: nn.Module = body.float().merge_and_unload()  # float32 first: bfloat16 would swallow small additions
    return merged


__all__ = ["add", "linear_names", "merged_body"]
