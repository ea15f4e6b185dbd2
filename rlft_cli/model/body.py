"""Bodies of policies: a transformers encoder as ids -> hidden states, and how transformers are to compute attention."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlft_cli.model.dropout import PLAIN_ATTENTION, use_in


def attention() -> str:
    """Name of the attention that trains fastest here.

    On a processor torch's fused attention runs its backward pass several times slower than plain matrix products do
    (scripts/bench_training.py tells); on a GPU it is the fastest.
    """
    return "sdpa" if torch.cuda.is_available() else "eager"


def encoder_attention() -> str:
    """The same for encoders, with a faster dropout on a processor."""
    return "sdpa" if torch.cuda.is_available() else PLAIN_ATTENTION


class EncoderBody(nn.Module):
    """A transformers encoder as ids -> hidden states."""

    def __init__(self, encoder: PreTrainedModel) -> None:
        super().__init__()
        self.encoder = encoder
        use_in(self.encoder)
        self.width: int = encoder.config.hidden_size

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Hidden states [W, L, D] of ids [W, L]; padding where the mask is 0."""
        hidden: Tensor = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return hidden

    def save_pretrained(self, folder: Path) -> None:
        """Write config.json and model.safetensors, as transformers' AutoModel loads them."""
        self.encoder.save_pretrained(folder)
