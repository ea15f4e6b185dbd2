"""How transformers' models attend: torch's fused attention on a GPU, plain matrix products on a processor."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from rlft_cli.model import dropout as thin

PLAIN_ATTENTION = "plain"
# What transformers passes that changes nothing here: a window, as everything else that is left out, is in the mask.
_OF_NO_EFFECT = frozenset(
    {"cache_position", "encoder_hidden_states", "is_causal", "output_attentions", "output_hidden_states"}
    | {"output_router_logits", "position_ids", "sliding_window", "use_cache"}
)


def attention() -> str:
    """Name of the attention that trains fastest here.

    On a processor torch's fused attention runs its backward pass several times slower than plain matrix products do
    (scripts/bench_training.py tells); on a GPU it is the fastest.
    """
    return "sdpa" if torch.cuda.is_available() else PLAIN_ATTENTION


def plain_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **further: Any,
) -> tuple[Tensor, Tensor | None]:
    """softmax(q k' scaling + mask) v of query [N, heads, L, d] as [N, L, heads, e], and the weights (Vaswani et al. 2017, eq. 1).

    Key [N, groups, T, d] and value [N, groups, T, e] may have fewer heads (Ainslie et al. 2023): the queries of a group are
    multiplied by them together, where transformers copies them for every query head (docs/decisions/0024). Where a model asks
    for more (a cap of the scores, sinks, a bias of positions), its own function answers.
    """
    if any(value is not None for name, value in further.items() if name not in _OF_NO_EFFECT):
        own: Callable[..., tuple[Tensor, Tensor | None]] = sys.modules[type(module).__module__].eager_attention_forward
        return own(module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **further)
    batch, heads, length, width = query.shape
    groups, scale = key.shape[1], query.shape[-1] ** -0.5 if scaling is None else scaling
    grouped = query.reshape(batch, groups, heads // groups * length, width)
    scores = (grouped @ key.transpose(2, 3) * scale).view(batch, heads, length, -1)
    weights = torch.softmax(scores if attention_mask is None else scores + attention_mask, dim=-1)
    if module.training and dropout > 0:
        weights = thin.dropout(weights, dropout)
    mixed = weights.view(batch, groups, heads // groups * length, -1) @ value
    return mixed.view(batch, heads, length, -1).transpose(1, 2).contiguous(), weights


AttentionInterface.register(PLAIN_ATTENTION, plain_attention)
AttentionMaskInterface.register(PLAIN_ATTENTION, eager_mask)

__all__ = ["PLAIN_ATTENTION", "attention", "plain_attention"]
