"""The policy over pairs: a reward for each of two replies, by any causal language model; it prefers the higher one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rlft_cli.episode import ILLEGAL_SCORE
from rlft_cli.errors import RlftError
from rlft_cli.model import Output
from rlft_cli.model.body import require_cache
from rlft_cli.task import State


@dataclass(frozen=True, kw_only=True)
class PairCache:
    """Both rewards of every comparison, read once."""

    scores: Tensor  # [N, 2]


class PairPolicy(nn.Module):
    """r(x, y): a linear function of the last hidden state of prompt x and reply y, its end mark included.

    ``body`` is called as transformers calls a causal language model; its output layer is not computed. The observation
    holds "prompt_ids", "prompt_mask" [B, P] padded on the left and "reply_ids", "reply_mask" [B, 2, R] padded on the
    right; a reply that is not there has reward 0. Where ``reads`` holds "tokens", Output.heads [N, 1, 2, R] are the rewards
    after each token from where the replies part on, that of the last token held to the end of the longer one;
    ILLEGAL_SCORE elsewhere.
    """

    def __init__(self, *, body: Any, reads: frozenset[str]) -> None:
        super().__init__()
        self.body = body
        self.vocabulary: int = body.config.vocab_size
        self.actions, self.width = 2, 0
        self.by_token = "tokens" in reads
        self.reward = nn.Linear(body.config.hidden_size, 1)
        nn.init.normal_(self.reward.weight, std=0.02)
        nn.init.zeros_(self.reward.bias)

    def forward(self, observation: dict[str, Tensor], action: Tensor) -> Output:
        """Rewards as scores [N, 1, 2] of action [N, 1], N = B * k."""
        each = self._each_token(observation)  # [B, 2, R]
        there = observation["reply_mask"]
        last = (there.sum(-1, keepdim=True) - 1).clamp(min=0)  # [B, 2, 1]
        some = there.any(-1)
        scores = torch.where(some, each.gather(-1, last).squeeze(-1), 0.0)
        samples = action.shape[0] // scores.shape[0]
        heads = None
        if self.by_token:
            place = torch.minimum(torch.arange(each.shape[-1], device=each.device).expand_as(each), last)
            held = torch.where(some[..., None], each.gather(-1, place), 0.0)
            parted = _parted(observation["reply_ids"], there)
            heads = torch.where(parted[:, None], held, ILLEGAL_SCORE)[:, None].repeat_interleave(samples, dim=0)
        return Output(scores=scores[:, None].repeat_interleave(samples, dim=0), value=None, heads=heads)

    def _each_token(self, observation: dict[str, Tensor]) -> Tensor:
        """Rewards [B, 2, R] float32 after each token of the replies; 0 where a reply is not there.

        The prompts are read once, and the replies that are there go on from their cache.
        """
        replies, there = observation["reply_ids"], observation["reply_mask"]
        prompt, read = observation["prompt_ids"], observation["prompt_mask"].bool()
        past = self._run(prompt, read, read, None).past_key_values
        require_cache(self.body, past, prompt.shape[1])
        some = there.any(-1).flatten().nonzero().squeeze(-1)  # [M] of the 2 B replies
        past.batch_select_indices(some // 2)
        ids, mask = (part.flatten(0, 1)[some] for part in (replies, there))
        output = self._run(ids, mask, torch.cat([read[some // 2], mask], dim=1), past)
        hidden = output.hidden_states[-1]
        with torch.autocast(hidden.device.type, enabled=False):
            found: Tensor = self.reward(hidden.float()).squeeze(-1)
        rewards = found.new_zeros(there.shape).flatten(0, 1).index_copy(0, some, found)
        return rewards.view(there.shape)

    def _run(self, ids: Tensor, real: Tensor, mask: Tensor, past: Any) -> Any:
        """Read ids [M, L], of which ``real`` are some, after ``past``, with the mask [M, past + L] of all."""
        return self.body(
            input_ids=ids.masked_fill(~real | (ids < 0) | (ids >= self.vocabulary), 0),
            attention_mask=mask.long(),
            position_ids=(mask.long().cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :],
            past_key_values=past,
            use_cache=True,
            logits_to_keep=ids.new_empty(0),  # of no place: scores of tokens are not read
            output_hidden_states=True,
        )

    def begin(self, observation: dict[str, Tensor], samples: int) -> PairCache:
        """Read the comparisons once for ``samples`` episodes each."""
        action = torch.zeros(
            observation["id"].shape[0] * samples, 1, dtype=torch.int64, device=observation["id"].device
        )
        return PairCache(scores=self.forward(observation, action).scores[:, 0])

    def step(self, cache: PairCache, state: State) -> tuple[Output, PairCache]:
        """Scores [N, 2] of the one decision."""
        return Output(scores=cache.scores, value=None), cache

    def table(self, cache: PairCache) -> Tensor:
        """RlftError: there is nothing to search in one comparison."""
        raise RlftError("a policy over pairs has no table of scores; choose another exploration: explore=greedy")


def _parted(ids: Tensor, mask: Tensor) -> Tensor:
    """Tokens [B, R] from the first one on in which two replies [B, 2, R] differ, to the end of the longer one."""
    differ = (ids[:, 0] != ids[:, 1]) | (mask[:, 0] != mask[:, 1])
    return (differ.cumsum(1) > 0) & mask.any(1)


__all__ = ["PairCache", "PairPolicy"]
