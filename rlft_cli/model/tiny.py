"""Random transformers with a vocabulary of their own, for tests and for trying things out in seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from rlft_cli.model.body import EncoderBody
from rlft_cli.model.codec import HFCodec
from rlft_cli.model.comparing import PairPolicy
from rlft_cli.model.head import load_heads
from rlft_cli.model.seq2seq import Seq2SeqPolicy
from rlft_cli.model.tokens import TokenPolicy
from rlft_cli.model.words import word_policy

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[EOS]", "[user]", "[assistant]"]
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '[' + m['role'] + ']' + m['content'] + '[EOS]' }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


@dataclass(frozen=True, kw_only=True)
class Tiny:
    """BERT-shaped for tags and classes, Llama-shaped for tokens and pairs of replies; random weights."""

    decides: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens", "pairs")

    width: Annotated[int, "[8, inf)"]
    layers: Annotated[int, "[1, inf)"]
    heads: Annotated[int, "[1, inf)"]
    max_tokens: Annotated[int, "[8, inf)"]
    max_vocabulary: Annotated[int, "[16, inf)"]
    head_width: Annotated[int, "[1, inf)"]
    dropout: Annotated[float, "[0, 1)"]

    def open(self) -> None:
        """Nothing to fetch: the weights are random."""

    def codec(self, folder: Path | None, corpus: Iterable[str]) -> HFCodec:
        """A WordPiece tokenizer trained on the corpus, or the one in a checkpoint."""
        if folder is not None:
            return HFCodec.load(folder, self.max_tokens)
        return HFCodec(_tokenizer(corpus, self.max_vocabulary), self.max_tokens)

    def policy(self, folder: Path | None, task: Any, reads: frozenset[str]) -> nn.Module:
        """Random weights from torch's global generator, or those of a checkpoint."""
        size = len(task.codec.tokenizer)
        if task.decisions in ("tokens", "pairs"):
            body: Any
            if folder is None:
                body = LlamaForCausalLM(self._llama(size))
            else:
                body = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
            policy: nn.Module
            if task.decisions == "pairs":
                policy = PairPolicy(body=body, reads=reads)
            else:
                policy = TokenPolicy(body=body, codec=task.codec, reads=reads)
            if folder is not None:
                load_heads(policy, folder)
            return policy
        if folder is None:
            encoder = BertModel(self._bert(size), add_pooling_layer=False)
        else:
            encoder = BertModel.from_pretrained(folder, add_pooling_layer=False, dtype=torch.float32)
        return word_policy(EncoderBody(encoder), task, self.head_width, self.dropout, "mean", reads, folder)

    def _bert(self, vocabulary: int) -> BertConfig:
        return BertConfig(
            vocab_size=vocabulary,
            hidden_size=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=2 * self.width,
            hidden_dropout_prob=self.dropout,
            attention_probs_dropout_prob=self.dropout,
            max_position_embeddings=self.max_tokens,
        )

    def _llama(self, vocabulary: int) -> LlamaConfig:
        return LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.heads,
            intermediate_size=2 * self.width,
            max_position_embeddings=self.max_tokens,
            bos_token_id=None,
            eos_token_id=None,
        )


@dataclass(frozen=True, kw_only=True)
class TinyT5:
    """T5-shaped, for tokens only; random weights."""

    decides: ClassVar[tuple[str, ...]] = ("tokens",)

    width: Annotated[int, "[8, inf)"]
    layers: Annotated[int, "[1, inf)"]
    heads: Annotated[int, "[1, inf)"]
    max_tokens: Annotated[int, "[8, inf)"]
    max_vocabulary: Annotated[int, "[16, inf)"]
    dropout: Annotated[float, "[0, 1)"]

    def open(self) -> None:
        """Nothing to fetch: the weights are random."""

    def codec(self, folder: Path | None, corpus: Iterable[str]) -> HFCodec:
        """A WordPiece tokenizer counted from the corpus, or the one in a checkpoint."""
        if folder is not None:
            return HFCodec.load(folder, self.max_tokens)
        return HFCodec(_tokenizer(corpus, self.max_vocabulary), self.max_tokens)

    def policy(self, folder: Path | None, task: Any, reads: frozenset[str]) -> nn.Module:
        """Random weights from torch's global generator, or those of a checkpoint."""
        if folder is None:
            body = T5ForConditionalGeneration(self._config(len(task.codec.tokenizer), task.codec.pad_id))
            return Seq2SeqPolicy(body=body, codec=task.codec, reads=reads)
        body = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32)
        policy = Seq2SeqPolicy(body=body, codec=task.codec, reads=reads)
        load_heads(policy, folder)
        return policy

    def _config(self, vocabulary: int, pad_id: int) -> T5Config:
        return T5Config(  # type: ignore[call-arg]  # a key of every encoder-decoder, which the class takes
            vocab_size=vocabulary,
            d_model=self.width,
            d_kv=self.width // self.heads,
            d_ff=2 * self.width,
            num_layers=self.layers,
            num_heads=self.heads,
            dropout_rate=self.dropout,
            pad_token_id=pad_id,
            decoder_start_token_id=pad_id,
            eos_token_id=None,
        )


def _tokenizer(corpus: Iterable[str], size: int) -> PreTrainedTokenizerFast:
    normalizer, words = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    pieces = Counter(piece for text in corpus for piece, _ in words.pre_tokenize_str(normalizer.normalize_str(text)))
    tokenizer = Tokenizer(models.WordPiece(vocab=_vocabulary(pieces, size), unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, words
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(SPECIAL_TOKENS)
    number = tokenizer.get_vocab()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", number["[SEP]"]), ("[CLS]", number["[CLS]"]))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        eos_token="[EOS]",
        additional_special_tokens=["[user]", "[assistant]"],
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def _vocabulary(words: Counter[str], size: int) -> dict[str, int]:
    """Special tokens, letters (alone and inside a word) and whole words, the most frequent first, ties by the alphabet.

    Not trained: the trainers of tokenizers break ties by chance, and a resumed run must find the same ids (law 3).
    """
    letters: Counter[str] = Counter()
    for word, count in words.items():
        for letter in word:
            letters[letter] += count
    alphabet = [form for letter in _ranked(letters) for form in (letter, f"##{letter}")]
    entries = dict.fromkeys([*SPECIAL_TOKENS, *alphabet, *_ranked(words)])
    return {entry: number for number, entry in enumerate(list(entries)[:size])}


def _ranked(counts: Counter[str]) -> list[str]:
    return sorted(counts, key=lambda entry: (-counts[entry], entry))
