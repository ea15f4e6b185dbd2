"""Train the biases of a model alone (BitFit)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from rlft_cli.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Bitfit:
    """Weights stay bit for bit as they were pretrained, biases of the body and the heads train (Ben Zaken et al. 2022).

    Nothing is added to the model, so that peft, which offers biases beside LoRA only, has no part in it.
    """

    adds: ClassVar[bool] = False

    def apply(self, policy: nn.Module) -> nn.Module:
        """Freeze what is no bias of the body; UsageError for a body without biases."""
        body = [(name, weight) for name, weight in policy.named_parameters() if name.startswith("body.")]
        biases = {name for name, _ in body if name.rpartition(".")[2].startswith("bias")}  # an LSTM's are numbered
        if not biases:
            raise UsageError("tuning=bitfit trains biases, and this model has none; type tuning=lora")
        for name, weight in body:
            weight.requires_grad_(name in biases)
        return policy

    def merged(self, policy: nn.Module) -> nn.Module:
        """The body as it is."""
        body = policy.body
        assert isinstance(body, nn.Module)
        return body
