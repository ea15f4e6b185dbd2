"""Pretrained causal language models (SmolLM2, GPT-2 ...) as policies over tokens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from torch import nn
from transformers import AutoModelForCausalLM

from rlft_cli.model.body import read_language_model
from rlft_cli.model.codec import HFCodec
from rlft_cli.model.comparing import PairPolicy
from rlft_cli.model.head import load_heads
from rlft_cli.model.source import locate
from rlft_cli.model.tokens import TokenPolicy

# The names that configurations of causal language models give to their dropout probabilities.
_DROPOUTS = ("attention_dropout", "attn_pdrop", "embd_pdrop", "hidden_dropout", "resid_pdrop", "dropout")


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """A causal language model from a source in Hub format."""

    decides: ClassVar[tuple[str, ...]] = ("tokens", "pairs")

    sources: list[str]
    dropout: Annotated[float, "[0, 1)"]
    max_tokens: Annotated[int, "[8, inf)"] | None
    chat_template: str | None

    def open(self) -> Path:
        """Folder of the pretrained weights; RlftError where no source can be reached."""
        return locate(self.sources)

    def codec(self, folder: Path | None, corpus: Iterable[str]) -> HFCodec:
        """The tokenizer that lies beside the weights, with its chat template or the configured one."""
        assert folder is not None
        return HFCodec.load(folder, self.max_tokens, self.chat_template)

    def policy(self, folder: Path | None, task: Any, reads: frozenset[str]) -> nn.Module:
        """The language model of a folder in float32, and the heads of a checkpoint; RlftError where unreadable."""
        assert folder is not None
        # were pad eos, that row of the embedding would get no gradient
        body = read_language_model(
            AutoModelForCausalLM, "a causal language model", folder, self.dropout, _DROPOUTS, task.codec.pad_id
        )
        policy: nn.Module
        if task.decisions == "pairs":
            policy = PairPolicy(body=body, reads=reads)
        else:
            policy = TokenPolicy(body=body, codec=task.codec, reads=reads)
        load_heads(policy, folder)
        return policy


__all__ = ["Decoder"]
