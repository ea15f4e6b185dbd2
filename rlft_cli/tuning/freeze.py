"""Keep the lower part of a model as it was pretrained."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, ClassVar

from torch import nn

from rlft_cli.errors import UsageError

_EMBEDDINGS = (".wte.", ".wpe.", ".shared.")  # of GPT-2, and of encoder-decoders
_LAYER = re.compile(
    r"\.(?:layers?|h|block|blocks)\.(\d+)\."
)  # BERT and DistilBERT layer, Llama layers, GPT-2 h, T5 block


@dataclass(frozen=True, kw_only=True)
class Freeze:
    """Frozen weights get no gradient and stay bit for bit as they were."""

    adds: ClassVar[bool] = False

    embeddings: bool
    first_layers: Annotated[int, "[0, inf)"]
    all_but_head: bool

    def apply(self, policy: nn.Module) -> nn.Module:
        """Freeze embeddings, the first layers, or the whole body; UsageError for more layers than there are."""
        body = [(name, weight) for name, weight in policy.named_parameters() if name.startswith("body.")]
        layers = {int(found.group(1)) for name, _ in body if (found := _LAYER.search(name))}
        if self.first_layers > len(layers):
            raise UsageError(
                f"tuning.first_layers={self.first_layers}, but the model has {len(layers)} layers; "
                f"type tuning.first_layers={len(layers)} or fewer"
            )
        for name, weight in body:
            found = _LAYER.search(name)
            in_first = found is not None and int(found.group(1)) < self.first_layers
            is_embedding = (found is None and "embed" in name) or any(known in name for known in _EMBEDDINGS)
            if self.all_but_head or in_first or (self.embeddings and is_embedding):
                weight.requires_grad_(False)
        return policy

    def merged(self, policy: nn.Module) -> nn.Module:
        """The body as it is."""
        body = policy.body
        assert isinstance(body, nn.Module)
        return body
