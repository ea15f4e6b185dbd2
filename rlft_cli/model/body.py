"""Bodies of policies: how language models are read, and an encoder as ids -> hidden states."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedModel

from rlft_cli.errors import RlftError
from rlft_cli.model.attention import attention
from rlft_cli.model.dropout import use_in


def read_language_model(
    kind: Any, what: str, folder: Path, dropout: float, names: Collection[str], pad_id: int | None
) -> Any:
    """A model from a folder in Hub format, in float32; RlftError where it cannot be read.

    ``kind`` is an Auto class of transformers, ``what`` its name in messages, ``names`` are those that its
    configurations give to dropout probabilities; ``pad_id`` replaces that of the folder unless it is None.
    """
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        own = config.to_dict()
        config.update({name: dropout for name in names if name in own})
        if pad_id is not None:
            config.pad_token_id = pad_id
        return kind.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            attn_implementation=attention(),
            use_safetensors=True,
            local_files_only=True,
        )
    except Exception as problem:  # transformers, safetensors and the operating system raise many kinds
        raise RlftError(
            f"{folder}: cannot read {what} ({type(problem).__name__}: {problem}); expected config.json and "
            "model.safetensors in Hub format: fetch the model again (rlft models fetch NAME), or give another checkpoint"
        ) from problem


def require_cache(body: Any, past: Any, read: int) -> None:
    """RlftError unless ``past`` is the cache of all ``read`` tokens that a causal language model has read."""
    if past is None or past.get_seq_length() != read:
        raise RlftError(
            f"{type(body).__name__} kept no cache of the {read} tokens that it read; replies need one: choose another model "
            "with model=, or switch off what disables the cache (gradient checkpointing)"
        )


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
