"""A random transformer with a vocabulary of its own, for tests and for trying things out in seconds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from rlft_cli.model.body import EncoderBody
from rlft_cli.model.codec import HFCodec
from rlft_cli.model.tokens import TokenPolicy
from rlft_cli.model.words import load_heads, word_policy

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[EOS]", "[user]", "[assistant]"]
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '[' + m['role'] + ']' + m['content'] + '[EOS]' }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


@dataclass(frozen=True, kw_only=True)
class Tiny:
    """BERT-shaped for tags and classes, Llama-shaped for tokens; random weights."""

    decides: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens")

    width: Annotated[int, "[8, inf)"]
    layers: Annotated[int, "[1, inf)"]
    heads: Annotated[int, "[1, inf)"]
    max_tokens: Annotated[int, "[8, inf)"]
    max_vocabulary: Annotated[int, "[16, inf)"]
    head_width: Annotated[int, "[1, inf)"]
    dropout: Annotated[float, "[0, 1)"]

    def open(self) -> None:
        """Nothing to fetch: the weights are random."""
        return None

    def codec(self, folder: Path | None, corpus: Iterable[str]) -> HFCodec:
        """A WordPiece tokenizer trained on the corpus, or the one in a checkpoint."""
        if folder is not None:
            return HFCodec.load(folder, self.max_tokens)
        return HFCodec(_tokenizer(corpus, self.max_vocabulary), self.max_tokens)

    def policy(self, folder: Path | None, task: Any, reads: frozenset[str]) -> nn.Module:
        """Random weights from torch's global generator, or those of a checkpoint."""
        size = len(task.codec.tokenizer)
        if task.decisions == "tokens":
            body = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32) if folder else LlamaForCausalLM(self._llama(size))
            policy = TokenPolicy(body=body, codec=task.codec, reads=reads)
            if folder is not None:
                load_heads(policy, folder)
            return policy
        encoder = BertModel.from_pretrained(folder, add_pooling_layer=False, dtype=torch.float32) if folder else BertModel(self._bert(size), add_pooling_layer=False)
        return word_policy(EncoderBody(encoder), task, self.head_width, self.dropout, "mean", reads, folder)

    def _bert(self, vocabulary: int) -> BertConfig:
        return BertConfig(
            vocab_size=vocabulary, hidden_size=self.width, num_hidden_layers=self.layers,
            num_attention_heads=self.heads, intermediate_size=2 * self.width, hidden_dropout_prob=self.dropout,
            attention_probs_dropout_prob=self.dropout, max_position_embeddings=self.max_tokens,
        )

    def _llama(self, vocabulary: int) -> LlamaConfig:
        return LlamaConfig(
            vocab_size=vocabulary, hidden_size=self.width, num_hidden_layers=self.layers,
            num_attention_heads=self.heads, num_key_value_heads=self.heads, intermediate_size=2 * self.width,
            max_position_embeddings=self.max_tokens, bos_token_id=None, eos_token_id=None,
        )


def _tokenizer(corpus: Iterable[str], size: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.train_from_iterator(
        corpus, trainers.WordPieceTrainer(vocab_size=size, special_tokens=SPECIAL_TOKENS, show_progress=False)
    )
    cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", sep), ("[CLS]", cls))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        eos_token="[EOS]", additional_special_tokens=["[user]", "[assistant]"],
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast



