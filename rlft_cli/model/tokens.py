"""The policy over tokens: any causal language model as scores of the next token, acting with a cache or in one pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from rlft_cli.episode import ILLEGAL_SCORE
from rlft_cli.errors import RlftError
from rlft_cli.model import Codec, Output
from rlft_cli.model.body import require_cache
from rlft_cli.model.head import Numbers
from rlft_cli.task import State


class SpeakingCodec(Codec, Protocol):
    """A codec whose tokenizer says which ids are text and which are marks."""

    tokenizer: PreTrainedTokenizerBase


# Finished replies leave the batch when they are this part of it: leaving costs a copy of the cache, staying a row of each step.
_FINISHED_PART = 0.25


@dataclass(frozen=True, kw_only=True)
class TokenCache:
    """What was read so far in the M of N episodes that go on; used up by ``step``, which may change it in place."""

    past: Any  # keys and values (transformers.Cache), or the state of a recurrent body, of M rows
    mask: Tensor  # [M, P + t] bool: which inputs are real
    rows: Tensor  # [M] int64: which of the N episodes they are
    scores: Tensor  # [N, V] of the first decision
    value: Tensor | None  # [N] of it, where the algorithm reads values


def illegal_tokens(codec: SpeakingCodec, vocabulary: int) -> Tensor:
    """Ids that no reply may hold, bool [vocabulary]: special tokens but the end of a reply, and ids without a token.

    The pad id is among them only where it is a special token; a tokenizer without one (GPT-2) pads with a word.
    """
    illegal = torch.zeros(vocabulary, dtype=torch.bool)
    marks = {n for n, token in codec.tokenizer.added_tokens_decoder.items() if token.special}
    marks |= set(codec.tokenizer.all_special_ids)
    illegal[[n for n in marks if 0 <= n < vocabulary]] = True
    illegal[len(codec.tokenizer) :] = True  # rows that only round the embedding up
    illegal[codec.eos_id] = False
    return illegal


class TokenPolicy(nn.Module):
    """Scores of the next token given prompt and reply so far.

    ``body`` is called as transformers calls a causal language model, so that LoRA may wrap it; a recurrent body takes
    the same arguments. ``body.config`` tells ``hidden_size`` and ``vocab_size`` while the policy is built.

    The observation holds "prompt_ids" [B, P] int64, padded on the left, and "prompt_mask" [B, P] bool. Positions and
    masks come from "prompt_mask" and never from the ids, so that the pad id may be any id, even one that the model
    does not have.
    """

    def __init__(self, *, body: Any, codec: SpeakingCodec, reads: frozenset[str]) -> None:
        super().__init__()
        self.body = body
        self.vocabulary: int = body.config.vocab_size
        self.actions, self.width = self.vocabulary, 0
        if not 0 <= codec.eos_id < self.vocabulary:
            raise RlftError(
                f"the tokenizer ends replies with id {codec.eos_id}, the model knows ids 0 to {self.vocabulary - 1}; "
                "tokenizer and weights are of different models, choose another one with model="
            )
        self.stored_low = False  # whether the body's own weights are held in the precision of the forward pass
        self.illegal: Tensor
        self.register_buffer("illegal", illegal_tokens(codec, self.vocabulary), persistent=False)
        self.prompt: nn.Parameter | None  # [S, D] vectors that are read before every prompt (tuning=prompt)
        self.register_parameter("prompt", None)
        self.value = nn.Linear(body.config.hidden_size, 1) if "value" in reads else None
        if self.value is not None:
            nn.init.zeros_(self.value.weight)
            nn.init.zeros_(self.value.bias)
        count = Numbers.of(reads).heads
        self.heads = nn.Linear(body.config.hidden_size, self.vocabulary * count) if count else None
        if self.heads is not None:
            nn.init.normal_(self.heads.weight, std=0.02)
            nn.init.zeros_(self.heads.bias)

    def store_low(self, dtype: torch.dtype) -> None:
        """Hold the frozen weights of the body in the precision of the forward pass; for bodies that train additions only.

        Autocast would convert every frozen weight again for every generated token. So whatever needs no gradient runs
        outside it, all in ``dtype``, as language models are deployed; what is trained stays in float32.
        """
        for weight in self.body.parameters():
            if not weight.requires_grad and weight.is_floating_point():
                weight.data = weight.data.to(dtype)
        self.stored_low = True

    def forward(self, observation: dict[str, Tensor], action: Tensor) -> Output:
        """Score known replies: action [N, T] -> scores [N, T, V] float32 (value [N, T], heads [N, T, V, n]), N = B * k.

        One pass over prompt and reply; the last action needs no input. With k > 1 the prompts are read once for all
        their samples (the last prompt token excepted, which gives the first scores) and the k replies go on from there.
        Ids after the end of a reply may be anything: attention is causal, and unknown ids are read as 0.
        """
        ids, mask = self._prompt(observation)
        samples = action.shape[0] // ids.shape[0]
        past = None
        if samples > 1 and ids.shape[1] > 1:
            past = _repeat(self._run(ids[:, :-1], mask[:, :-1], None, keep=1, cached=True)[2], samples)
            ids = ids[:, -1:]
        ids = torch.cat([ids.repeat_interleave(samples, dim=0), self._known(action[:, :-1])], dim=1)
        mask = mask.repeat_interleave(samples, dim=0)
        mask = torch.cat([mask, mask.new_ones(action.shape[0], action.shape[1] - 1)], dim=1)
        scores, hidden, _ = self._run(ids, mask, past, keep=action.shape[1], cached=past is not None)
        return Output(scores=scores, value=self._value(hidden), heads=self._heads(hidden))

    def begin(self, observation: dict[str, Tensor], samples: int) -> TokenCache:
        """Read the prompts once, B rows, and give each of the N = B * samples episodes its copy of the cache."""
        ids, mask = self._prompt(observation)
        scores, hidden, past = self._run(ids, mask, None, keep=1, cached=True)
        value = self._value(hidden)
        return TokenCache(
            past=_repeat(past, samples),
            mask=mask.repeat_interleave(samples, dim=0),
            rows=torch.arange(len(mask) * samples, device=mask.device),
            scores=scores[:, 0].repeat_interleave(samples, dim=0),
            value=None if value is None else value[:, 0].repeat_interleave(samples, dim=0),
        )

    def step(self, cache: TokenCache, state: State) -> tuple[Output, TokenCache]:
        """Output of token ``state.t``, after reading ``state.previous`` [N], in which finished rows may hold any id.

        Finished rows get zeros once they have left the batch (docs/decisions/0019).
        """
        if state.t == 0:
            return Output(scores=cache.scores, value=cache.value), cache
        past, rows, mask = _without_finished(cache, state.done)
        mask = torch.cat([mask, mask.new_ones(mask.shape[0], 1)], dim=1)
        scores, hidden, past = self._run(self._known(state.previous[rows, None]), mask, past, keep=1, cached=True)
        value = self._value(hidden)
        episodes = len(state.done)
        output = Output(
            scores=_spread(scores[:, 0], rows, episodes),
            value=None if value is None else _spread(value[:, 0], rows, episodes),
        )
        return output, TokenCache(past=past, mask=mask, rows=rows, scores=cache.scores, value=cache.value)

    def table(self, cache: TokenCache) -> Tensor:
        """RlftError: what comes after a token depends on all tokens before it."""
        raise RlftError("a policy over tokens has no table of scores: its state is the whole text so far")

    def _prompt(self, observation: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        mask = observation["prompt_mask"].bool()
        return self._known(observation["prompt_ids"]).masked_fill(~mask, 0), mask

    def _known(self, ids: Tensor) -> Tensor:
        return ids.masked_fill((ids < 0) | (ids >= self.vocabulary), 0)

    def _run(
        self, ids: Tensor, mask: Tensor, past: Any, *, keep: int, cached: bool
    ) -> tuple[Tensor, Tensor | None, Any]:
        """Read ids [N, L] after ``past``, mask [N, past + L]; scores [N, keep, V], hidden [N, keep, D], the cache."""
        given, mask, read = self._inputs(ids, mask, past)
        position = (mask.long().cumsum(1) - 1).clamp(min=0)[:, -read:]
        kind = ids.device.type
        low = self.stored_low and not torch.is_grad_enabled()
        # Places and not their number: a slice is not contiguous, for which torch copies the output layer for every row.
        places = torch.arange(read - keep, read, device=ids.device)
        with torch.autocast(kind, enabled=torch.is_autocast_enabled(kind) and not low):
            output = self.body(
                **given,
                attention_mask=mask.long(),
                position_ids=position,
                past_key_values=past,
                use_cache=cached,
                logits_to_keep=places,
                output_hidden_states=self._reads_hidden(),
            )
        past = output.past_key_values
        if cached:
            require_cache(self.body, past, mask.shape[1])
        # In place: [N, keep, V] is the largest tensor of a step, and the backward pass of lm_head does not read it.
        scores = output.logits.float().masked_fill_(self.illegal, ILLEGAL_SCORE)
        return scores, output.hidden_states[-1][:, -keep:] if self._reads_hidden() else None, past

    def _reads_hidden(self) -> bool:
        return self.value is not None or self.heads is not None

    def _heads(self, hidden: Tensor | None) -> Tensor | None:
        """More numbers of every token [N, T, V, n], where the algorithm reads such; acting does not ask for them."""
        if self.heads is None or hidden is None:
            return None
        heads: Tensor = self.heads(hidden).float().unflatten(-1, (self.vocabulary, -1))
        return heads

    def _inputs(self, ids: Tensor, mask: Tensor, past: Any) -> tuple[dict[str, Tensor], Tensor, int]:
        """What the body reads of ids [N, L], the mask [N, S + past + L] with the soft prompt, and how many inputs that is."""
        if self.prompt is None:
            return {"input_ids": ids}, mask, ids.shape[1]
        soft, limit = len(self.prompt), self.body.config.max_position_embeddings
        mask = torch.cat([mask.new_ones(len(mask), soft), mask], dim=1)
        if mask.shape[1] > limit:
            raise RlftError(
                f"the soft prompt of {soft} tokens, prompt and reply make {mask.shape[1]} tokens, the model reads {limit}; "
                "lower tuning.length_tokens, task.max_prompt_tokens or task.max_reply_tokens"
            )
        if past is not None:
            return {"input_ids": ids}, mask, ids.shape[1]
        vectors = self.body.get_input_embeddings()(ids)
        begin = self.prompt.to(vectors.dtype).expand(len(ids), -1, -1)
        return {"inputs_embeds": torch.cat([begin, vectors], dim=1)}, mask, soft + ids.shape[1]

    def _value(self, hidden: Tensor | None) -> Tensor | None:
        if self.value is None or hidden is None:
            return None
        with torch.autocast(hidden.device.type, enabled=False):
            value: Tensor = self.value(hidden.float()).squeeze(-1)
        return value


def _without_finished(cache: TokenCache, done: Tensor) -> tuple[Any, Tensor, Tensor]:
    """Cache, rows [M] and mask [M, P + t] of the episodes that go on, once enough of them are done [N] to be worth a copy."""
    kept = (~done[cache.rows]).nonzero().squeeze(-1)
    if not 0 < len(kept) <= (1 - _FINISHED_PART) * len(cache.rows):
        return cache.past, cache.rows, cache.mask
    cache.past.batch_select_indices(kept)
    return cache.past, cache.rows[kept], cache.mask[kept]


def _spread(part: Tensor, rows: Tensor, episodes: int) -> Tensor:
    """Numbers [M, ...] of some episodes among those of all [N, ...], the others zero."""
    if len(rows) == episodes:
        return part
    return part.new_zeros(episodes, *part.shape[1:]).index_copy(0, rows, part)


def _repeat(past: Any, samples: int) -> Any:
    if samples > 1:
        past.batch_repeat_interleave(samples)
    return past


__all__ = ["SpeakingCodec", "TokenCache", "TokenPolicy", "illegal_tokens"]
