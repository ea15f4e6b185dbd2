"""Pretrained encoder-decoders (T5, FLAN-T5, BART ...) as policies over tokens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from rlft_cli.errors import RlftError
from rlft_cli.model.body import attention
from rlft_cli.model.codec import HFCodec
from rlft_cli.model.head import load_heads
from rlft_cli.model.seq2seq import Seq2SeqPolicy
from rlft_cli.model.source import locate

# The names that configurations of encoder-decoders give to their dropout probabilities.
_DROPOUTS = ("dropout_rate", "dropout", "attention_dropout", "activation_dropout")


@dataclass(frozen=True, kw_only=True)
class EncoderDecoder:
    """An encoder-decoder from a source in Hub format."""

    decides: ClassVar[tuple[str, ...]] = ("tokens",)

    sources: list[str]
    dropout: Annotated[float, "[0, 1)"]
    max_tokens: Annotated[int, "[8, inf)"] | None
    chat_template: str

    def open(self) -> Path:
        """Folder of the pretrained weights; RlftError where no source can be reached."""
        return locate(self.sources)

    def codec(self, folder: Path | None, corpus: Iterable[str]) -> HFCodec:
        """The tokenizer that lies beside the weights; its eos, which closes every input, ends a reply too."""
        assert folder is not None
        codec = HFCodec.load(folder, self.max_tokens, self.chat_template)
        eos = codec.tokenizer.eos_token_id
        if not isinstance(eos, int):
            raise RlftError(
                f"{folder}: the tokenizer has no eos token, with which a reply could end; give another model"
            )
        codec.eos_id = eos
        return codec

    def policy(self, folder: Path | None, task: Any, reads: frozenset[str]) -> nn.Module:
        """The model of a folder in float32, and the heads of a checkpoint; RlftError where unreadable."""
        assert folder is not None
        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            own = config.to_dict()
            config.update({name: self.dropout for name in _DROPOUTS if name in own})
            body = AutoModelForSeq2SeqLM.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                attn_implementation=attention(),
                use_safetensors=True,
                local_files_only=True,
            )
        except Exception as problem:  # transformers, safetensors and the operating system raise many kinds
            raise RlftError(
                f"{folder}: cannot read an encoder-decoder ({type(problem).__name__}: {problem}); expected config.json and "
                "model.safetensors in Hub format: fetch the model again (rlft models fetch NAME), or give another "
                "checkpoint"
            ) from problem
        policy = Seq2SeqPolicy(body=body, codec=task.codec, reads=reads)
        load_heads(policy, folder)
        return policy


__all__ = ["EncoderDecoder"]
