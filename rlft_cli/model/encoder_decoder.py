"""Pretrained encoder-decoders (T5, FLAN-T5, BART ...) as policies over tokens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from torch import nn
from transformers import AutoModelForSeq2SeqLM

from rlft_cli.errors import RlftError
from rlft_cli.model.body import read_language_model
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
        body = read_language_model(AutoModelForSeq2SeqLM, "an encoder-decoder", folder, self.dropout, _DROPOUTS, None)
        policy = Seq2SeqPolicy(body=body, codec=task.codec, reads=reads)
        load_heads(policy, folder)
        return policy


__all__ = ["EncoderDecoder"]
