"""Pretrained bidirectional encoders (BERT, RoBERTa, DistilBERT, MiniLM ...) as policies over tags and classes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import nn
from transformers import AutoConfig, AutoModel

from rlft_cli.model.attention import attention
from rlft_cli.model.body import EncoderBody
from rlft_cli.model.codec import HFCodec
from rlft_cli.model.source import locate
from rlft_cli.model.words import word_policy

_DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout")


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """An encoder from a source in Hub format."""

    decides: ClassVar[tuple[str, ...]] = ("tags", "classes")

    sources: list[str]
    pooling: Literal["mean", "first"]
    dropout: Annotated[float, "[0, 1)"]
    head_width: Annotated[int, "[1, inf)"]
    max_tokens: Annotated[int, "[8, inf)"] | None

    def open(self) -> Path:
        """Folder of the pretrained weights; RlftError where no source can be reached."""
        return locate(self.sources)

    def codec(self, folder: Path | None, corpus: Iterable[str]) -> HFCodec:
        """The tokenizer that lies beside the weights."""
        assert folder is not None
        return HFCodec.load(folder, self.max_tokens)

    def policy(self, folder: Path | None, task: Any, reads: frozenset[str]) -> nn.Module:
        """Encoder with the head that the task's decisions need."""
        assert folder is not None
        config = AutoConfig.from_pretrained(folder)
        settings = config.to_dict()
        config.update({name: self.dropout for name in _DROPOUTS if name in settings})
        encoder = AutoModel.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            attn_implementation=attention(),
            **_no_pooler(config.model_type),
        )
        return word_policy(EncoderBody(encoder), task, self.head_width, self.dropout, self.pooling, reads, folder)


def _no_pooler(model_type: str) -> dict[str, bool]:
    """BERT and RoBERTa carry a pooler that no policy reads; leave it out, so that every weight is trained."""
    return {"add_pooling_layer": False} if model_type in ("bert", "roberta") else {}
