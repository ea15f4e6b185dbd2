"""The policy of encoder-decoders: a prompt is encoded once, the decoder scores replies, step by step or in one pass."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from rlft_cli.episode import ILLEGAL_SCORE
from rlft_cli.errors import RlftError, UsageError
from rlft_cli.model import Output
from rlft_cli.model.head import Numbers
from rlft_cli.model.tokens import SpeakingCodec, illegal_tokens
from rlft_cli.task import State

# Finished replies leave the batch when they are this part of it: leaving costs a copy of the cache, staying a row of each step.
_FINISHED_PART = 0.25


@dataclass(frozen=True, kw_only=True)
class Seq2SeqCache:
    """What the M of N replies that go on read: encoded prompts and, used up by ``step``, what the decoder keeps."""

    encoded: Tensor  # [M, P, D]
    mask: Tensor  # [M, P] bool: which of it is real
    past: Any  # transformers' EncoderDecoderCache, of M rows
    rows: Tensor  # [M] int64: which of the N episodes they are
    scores: Tensor  # [N, V] of the first decision
    value: Tensor | None  # [N] of it, where the algorithm reads values


class Seq2SeqPolicy(nn.Module):
    """Scores of the next token given prompt and reply so far, the prompt being read by an encoder of its own.

    ``body`` is called as transformers calls an encoder-decoder (T5, BART ...), so that LoRA may wrap it. The observation is
    that of every policy over tokens: "prompt_ids" [B, P] int64, padded on the left, and "prompt_mask" [B, P] bool. Encoders
    may count positions from the first input, padding included (BART), so prompts are moved to the left edge before they
    are read; the ids of padding do not matter.
    """

    def __init__(self, *, body: Any, codec: SpeakingCodec, reads: frozenset[str]) -> None:
        super().__init__()
        self.body = body
        self.vocabulary: int = body.config.vocab_size
        self.actions, self.width = self.vocabulary, 0
        start = body.config.decoder_start_token_id
        if not 0 <= codec.eos_id < self.vocabulary or start is None:
            raise RlftError(
                f"the tokenizer ends replies with id {codec.eos_id} and the decoder begins with id {start}, the model knows "
                f"ids 0 to {self.vocabulary - 1}; tokenizer and weights do not belong together, choose another model with "
                "model="
            )
        if Numbers.of(reads).heads:
            raise UsageError(
                "an encoder-decoder has no Q heads over the vocabulary, which this algorithm reads; type a decoder "
                "(model=smollm2) or another algo="
            )
        self.start_id = int(start)
        self.stored_low = False  # whether the body's own weights are held in the precision of the forward pass
        self.illegal: Tensor
        self.register_buffer("illegal", illegal_tokens(codec, self.vocabulary), persistent=False)
        self.value = nn.Linear(body.config.d_model, 1) if "value" in reads else None
        if self.value is not None:
            nn.init.zeros_(self.value.weight)
            nn.init.zeros_(self.value.bias)

    def store_low(self, dtype: torch.dtype) -> None:
        """Hold the frozen weights of the body in the precision of the forward pass (docs/decisions/0014)."""
        for weight in self.body.parameters():
            if not weight.requires_grad and weight.is_floating_point():
                weight.data = weight.data.to(dtype)
        self.stored_low = True

    def forward(self, observation: dict[str, Tensor], action: Tensor) -> Output:
        """Score known replies: action [N, T] -> scores [N, T, V] float32 (value [N, T]), N = B * k.

        Prompts are encoded once for all their samples. Ids after the end of a reply may be anything: attention is causal.
        """
        encoded, mask = self._encode(observation)
        samples = action.shape[0] // mask.shape[0]
        encoded, mask = encoded.repeat_interleave(samples, dim=0), mask.repeat_interleave(samples, dim=0)
        start = torch.full_like(action[:, :1], self.start_id)
        scores, hidden, _ = self._decode(
            torch.cat([start, self._known(action[:, :-1])], dim=1), encoded, mask, None, False
        )
        return Output(scores=scores, value=self._value(hidden))

    def begin(self, observation: dict[str, Tensor], samples: int) -> Seq2SeqCache:
        """Encode the prompts and begin a reply to each, B rows; each of the N = B * samples episodes gets a copy of the cache."""
        encoded, mask = self._encode(observation)
        start = torch.full((mask.shape[0], 1), self.start_id, dtype=torch.int64, device=mask.device)
        scores, hidden, past = self._decode(start, encoded, mask, None, True)
        value = self._value(hidden)
        if samples > 1:
            past.batch_repeat_interleave(samples)
        return Seq2SeqCache(
            encoded=encoded.repeat_interleave(samples, dim=0),
            mask=mask.repeat_interleave(samples, dim=0),
            past=past,
            rows=torch.arange(len(mask) * samples, device=mask.device),
            scores=scores[:, 0].repeat_interleave(samples, dim=0),
            value=None if value is None else value[:, 0].repeat_interleave(samples, dim=0),
        )

    def step(self, cache: Seq2SeqCache, state: State) -> tuple[Output, Seq2SeqCache]:
        """Output of token ``state.t``, after reading ``state.previous`` [N], in which finished rows may hold any id.

        Finished rows get zeros once they have left the batch.
        """
        if state.t == 0:
            return Output(scores=cache.scores, value=cache.value), cache
        kept = _going_on(cache, state.done)
        ids = self._known(state.previous[kept.rows, None])
        scores, hidden, past = self._decode(ids, kept.encoded, kept.mask, kept.past, True)
        value = self._value(hidden)
        episodes = len(state.done)
        output = Output(
            scores=_spread(scores[:, 0], kept.rows, episodes),
            value=None if value is None else _spread(value[:, 0], kept.rows, episodes),
        )
        return output, replace(kept, past=past)

    def table(self, cache: Seq2SeqCache) -> Tensor:
        """RlftError: what comes after a token depends on all tokens before it."""
        raise RlftError("a policy over tokens has no table of scores: its state is the whole text so far")

    def _known(self, ids: Tensor) -> Tensor:
        return ids.masked_fill((ids < 0) | (ids >= self.vocabulary), 0)

    def _precision(self, kind: str) -> torch.autocast:
        """Frozen weights that are held in low precision are not converted again for every token."""
        low = self.stored_low and not torch.is_grad_enabled()
        return torch.autocast(kind, enabled=torch.is_autocast_enabled(kind) and not low)

    def _encode(self, observation: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Hidden states [B, P, D] of the prompts, moved to the left edge, and which of them are real."""
        mask = observation["prompt_mask"].bool()
        order = mask.long().argsort(dim=1, descending=True, stable=True)  # real inputs first, in their order
        mask = mask.gather(1, order)
        ids = self._known(observation["prompt_ids"]).gather(1, order).masked_fill(~mask, 0)
        with self._precision(ids.device.type):
            encoder = self.body.get_encoder()
            encoded: Tensor = encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return encoded, mask

    def _decode(
        self, ids: Tensor, encoded: Tensor, mask: Tensor, past: Any, cached: bool
    ) -> tuple[Tensor, Tensor | None, Any]:
        """Read ids [N, L] after ``past``; scores [N, L, V], hidden [N, L, D], and what the decoder keeps."""
        with self._precision(ids.device.type):
            output = self.body(
                encoder_outputs=BaseModelOutput(last_hidden_state=encoded),
                attention_mask=mask.long(),
                decoder_input_ids=ids,
                past_key_values=past,
                use_cache=cached,
                output_hidden_states=self.value is not None,
            )
        if cached and output.past_key_values is None:
            raise RlftError(
                f"{type(self.body).__name__} kept no cache of the tokens that it wrote; choose another model with model="
            )
        # In place: [N, L, V] is the largest tensor of a step, and the backward pass of lm_head does not read it.
        scores = output.logits.float().masked_fill_(self.illegal, ILLEGAL_SCORE)
        return scores, output.decoder_hidden_states[-1] if self.value is not None else None, output.past_key_values

    def _value(self, hidden: Tensor | None) -> Tensor | None:
        if self.value is None or hidden is None:
            return None
        with torch.autocast(hidden.device.type, enabled=False):
            value: Tensor = self.value(hidden.float()).squeeze(-1)
        return value


def _going_on(cache: Seq2SeqCache, done: Tensor) -> Seq2SeqCache:
    """The cache without the episodes that are done [N], once they are enough to be worth a copy."""
    kept = (~done[cache.rows]).nonzero().squeeze(-1)
    if not 0 < len(kept) <= (1 - _FINISHED_PART) * len(cache.rows):
        return cache
    cache.past.batch_select_indices(kept)
    return replace(cache, encoded=cache.encoded[kept], mask=cache.mask[kept], rows=cache.rows[kept])


def _spread(part: Tensor, rows: Tensor, episodes: int) -> Tensor:
    """Numbers [M, ...] of some episodes among those of all [N, ...], the others zero."""
    if len(rows) == episodes:
        return part
    return part.new_zeros(episodes, *part.shape[1:]).index_copy(0, rows, part)


__all__ = ["Seq2SeqCache", "Seq2SeqPolicy"]
