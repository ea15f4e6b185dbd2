"""LSTMs from scratch, with a vocabulary of their own: encoder for tags and classes, language model for tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rlft_cli.errors import RlftError
from rlft_cli.model.comparing import PairPolicy
from rlft_cli.model.head import load_heads
from rlft_cli.model.tokens import TokenPolicy
from rlft_cli.model.vocabulary import LstmCodec
from rlft_cli.model.words import word_policy

# -- bodies --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class LstmConfig:
    """Sizes of a body, stored beside its weights."""

    vocab_size: int
    embedding_size: int
    hidden_size: int  # of one direction
    num_layers: int
    bidirectional: bool
    dropout: float


@dataclass(kw_only=True)
class LstmState:
    """What a recurrent language model carries on; the counterpart of a transformer's keys and values."""

    hidden: Tensor  # [layers, N, H]
    cell: Tensor  # [layers, N, H]
    read_tokens: int

    def get_seq_length(self) -> int:
        """Inputs read so far, padding included."""
        return self.read_tokens

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each episode."""
        self.hidden = self.hidden.repeat_interleave(repeats, dim=1)
        self.cell = self.cell.repeat_interleave(repeats, dim=1)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these episodes only."""
        self.hidden, self.cell = self.hidden[:, indices], self.cell[:, indices]


@dataclass(frozen=True, kw_only=True)
class LstmOutput:
    """What TokenPolicy reads of a causal language model's output."""

    logits: Tensor  # [N, keep, V]
    past_key_values: LstmState | None
    hidden_states: tuple[Tensor]  # [N, L, H]


def _lstm(config: LstmConfig) -> nn.LSTM:
    return nn.LSTM(
        config.embedding_size,
        config.hidden_size,
        config.num_layers,
        batch_first=True,
        bidirectional=config.bidirectional,
        dropout=config.dropout if config.num_layers > 1 else 0.0,
    )


def read_lstm(
    lstm: nn.LSTM, inputs: Tensor, mask: Tensor, state: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Hidden states [N, L, H] of inputs [N, L, E] and the state after each row's last real input; padding (mask [N, L]
    False) on either side is not read, and its hidden states are 0."""
    directions = 2 if lstm.bidirectional else 1
    zero = inputs.new_zeros(lstm.num_layers * directions, inputs.shape[0], lstm.hidden_size)
    state = (zero, zero) if state is None else state
    if bool(mask.all()):
        hidden, after = lstm(inputs, state)
        return hidden, after
    order = mask.long().argsort(dim=1, descending=True, stable=True)  # real inputs first, in their order
    compact = inputs.gather(1, order[..., None].expand_as(inputs))
    packed = pack_padded_sequence(compact, mask.sum(1).clamp(min=1).cpu(), batch_first=True, enforce_sorted=False)
    packed_hidden, after = lstm(packed, state)
    hidden, _ = pad_packed_sequence(packed_hidden, batch_first=True, total_length=inputs.shape[1])
    hidden = hidden.gather(1, order.argsort(dim=1)[..., None].expand_as(hidden)) * mask[..., None]
    some = mask.any(1)[None, :, None]  # a row of padding alone counts as length 1 above: its state is put back
    return hidden, (torch.where(some, after[0], state[0]), torch.where(some, after[1], state[1]))


class LstmBody(nn.Module):
    """Embedding and LSTM over a whole text: ids -> hidden states."""

    def __init__(self, config: LstmConfig) -> None:
        super().__init__()
        self.config = config
        self.width = config.hidden_size * (2 if config.bidirectional else 1)
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_size)
        self.dropout = nn.Dropout(config.dropout)
        self.lstm = _lstm(config)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Hidden states [W, L, D] of ids [W, L]; padding where the mask is 0."""
        return read_lstm(self.lstm, self.dropout(self.embedding(input_ids)), attention_mask.bool(), None)[0]

    def save_pretrained(self, folder: Path) -> None:
        """Write config.json and model.safetensors."""
        _save(self, self.config, folder)


class LstmLanguageModel(nn.Module):
    """Embedding, LSTM and tied output, called as transformers calls a causal language model."""

    def __init__(self, config: LstmConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_size)
        self.dropout = nn.Dropout(config.dropout)
        self.lstm = _lstm(config)
        self.project = nn.Linear(config.hidden_size, config.embedding_size)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        # The output reads the embedding too: scores near 0 at the start.
        nn.init.normal_(self.embedding.weight, std=config.embedding_size**-0.5)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        past_key_values: LstmState | None,
        use_cache: bool,
        logits_to_keep: Tensor,
        output_hidden_states: bool,
    ) -> LstmOutput:
        """Logits [N, keep, V] of ids [N, L] with attention_mask [N, past + L]; position_ids are not read.

        Inputs have unit variance: the embedding is scaled by sqrt(E) (Vaswani et al. 2017, section 3.4).
        """
        past = None if past_key_values is None else (past_key_values.hidden, past_key_values.cell)
        inputs = self.dropout(self.embedding(input_ids) * self.config.embedding_size**0.5)
        hidden, (last, cell) = read_lstm(self.lstm, inputs, attention_mask[:, -input_ids.shape[1] :].bool(), past)
        kept = self.dropout(hidden[:, logits_to_keep])
        logits = nn.functional.linear(self.project(kept), self.embedding.weight, self.bias)
        state = LstmState(hidden=last, cell=cell, read_tokens=attention_mask.shape[1]) if use_cache else None
        return LstmOutput(logits=logits, past_key_values=state, hidden_states=(hidden,))

    def save_pretrained(self, folder: Path) -> None:
        """Write config.json and model.safetensors."""
        _save(self, self.config, folder)


def _save(body: nn.Module, config: LstmConfig, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shape = {"model_type": "rlft_lstm", "architectures": [type(body).__name__], **asdict(config)}
    (folder / "config.json").write_text(json.dumps(shape, indent=2) + "\n", encoding="utf-8")
    save_file({name: weight.contiguous() for name, weight in body.state_dict().items()}, folder / "model.safetensors")


def _read_config(folder: Path, body: str) -> LstmConfig:
    try:
        stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if stored.pop("model_type") != "rlft_lstm" or stored.pop("architectures") != [body]:
            raise ValueError(f"it is not the config of a {body}")
        return LstmConfig(**stored)
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise RlftError(
            f"{folder / 'config.json'}: {problem}; give a checkpoint that model=lstm trained for this task"
        ) from problem


def _load(body: nn.Module, folder: Path) -> None:
    try:
        body.load_state_dict(load_file(folder / "model.safetensors"))
    except Exception as problem:  # safetensors and torch raise kinds of their own
        raise RlftError(
            f"{folder / 'model.safetensors'}: cannot read the weights ({problem}); the checkpoint is cut off or of "
            "another task: give another one"
        ) from problem


# -- the component -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Lstm:
    """An LSTM from scratch for every kind of decision."""

    decides: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens", "pairs")

    embedding_width: Annotated[int, "[1, inf)"]
    hidden_width: Annotated[int, "[1, inf)"]
    layers: Annotated[int, "[1, inf)"]
    bidirectional: bool
    dropout: Annotated[float, "[0, 1)"]
    head_width: Annotated[int, "[1, inf)"]
    pooling: Literal["mean", "first"]
    max_vocabulary: Annotated[int, "[6, inf)"]
    min_count: Annotated[int, "[1, inf)"]
    lowercase: bool
    max_tokens: Annotated[int, "[8, inf)"]

    def open(self) -> None:
        """Nothing to fetch: trained from scratch."""
        return

    def codec(self, folder: Path | None, corpus: Iterable[str]) -> LstmCodec:
        """Vocabulary of the corpus (texts, or the words of tagged sentences one by one), or that of a checkpoint."""
        if folder is not None:
            return LstmCodec.load(folder, self.max_tokens)
        return LstmCodec.train(
            corpus,
            max_vocabulary=self.max_vocabulary,
            min_count=self.min_count,
            lowercase=self.lowercase,
            max_tokens=self.max_tokens,
        )

    def policy(self, folder: Path | None, task: Any, reads: frozenset[str]) -> nn.Module:
        """Random weights from torch's global generator, or those of a checkpoint, whose sizes then hold."""
        speaks = task.decisions in ("tokens", "pairs")
        kind = LstmLanguageModel if speaks else LstmBody
        config = self._config(len(task.codec.tokenizer), speaks)
        if folder is not None:
            config = replace(_read_config(folder, kind.__name__), dropout=self.dropout)
        body = kind(config)
        if folder is not None:
            _load(body, folder)
        if not speaks:
            return word_policy(body, task, self.head_width, self.dropout, self.pooling, reads, folder)
        policy: nn.Module
        if task.decisions == "pairs":
            policy = PairPolicy(body=body, reads=reads)
        else:
            policy = TokenPolicy(body=body, codec=task.codec, reads=reads)
        if folder is not None:
            load_heads(policy, folder)
        return policy

    def _config(self, vocabulary: int, speaks: bool) -> LstmConfig:
        return LstmConfig(
            vocab_size=vocabulary,
            embedding_size=self.embedding_width,
            hidden_size=self.hidden_width,
            num_layers=self.layers,
            bidirectional=self.bidirectional and not speaks,
            dropout=self.dropout,
        )


__all__ = ["Lstm", "LstmBody", "LstmConfig", "LstmLanguageModel", "LstmState", "read_lstm"]
