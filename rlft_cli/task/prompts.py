"""What a model reads of a dialogue and what it may write: ids of prompts and of replies, both within their limits."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from rlft_cli.errors import RlftError, UsageError
from rlft_cli.model import Codec
from rlft_cli.task import Row

Turns = list[dict[str, str]]


def require_room(codec: Codec, max_prompt_tokens: int, max_reply_tokens: int) -> None:
    """UsageError where prompt and reply are longer than the model reads."""
    longest = max_prompt_tokens + max_reply_tokens
    if longest > codec.max_tokens:
        raise UsageError(
            f"task.max_prompt_tokens={max_prompt_tokens} and task.max_reply_tokens={max_reply_tokens} "
            f"make {longest} tokens, the model reads {codec.max_tokens}; lower one of them by "
            f"{longest - codec.max_tokens}"
        )


def check_turns(row: Row) -> None:
    """RlftError where a turn of the row holds no visible text, or where there are no turns."""
    for number, turn in enumerate(row["turns"], start=1):
        if not any(letter.isprintable() and not letter.isspace() for letter in turn["content"]):
            raise RlftError(
                f"{row['origin']}: turn {number} ({turn['role']}) has no visible text; every turn of a dialogue "
                "needs some: write it, or remove the turn or the dialogue"
            )
    if not row["turns"]:
        raise RlftError(f"{row['origin']}: the dialogue has no turns; expected at least one of the user")


class Prompts:
    """Turns to ids, in the model's chat template; the counters say what had to be left out."""

    def __init__(self, codec: Codec, context_turns: int, max_tokens: int) -> None:
        self._codec, self._context_turns, self._max_tokens = codec, context_turns, max_tokens
        self.dropped_turns = 0  # context turns left out, so that a prompt fits max_tokens
        self.cut = 0  # prompts of one turn that lost its beginning

    def ids(self, turns: Turns, origin: str) -> list[int]:
        """Ids of the last turns that fit: whole turns, or the end of the last one."""
        limit = self._max_tokens
        kept = turns[-self._context_turns :]
        prompt = self._codec.chat_ids(kept)
        while len(prompt) > limit and len(kept) > 1:
            self.dropped_turns += 1
            kept = kept[1:]
            prompt = self._codec.chat_ids(kept)
        if len(prompt) > limit:
            self.cut += 1
            prompt = self._end_of_turn(kept[-1], limit, origin)
        return prompt

    def _end_of_turn(self, turn: dict[str, str], limit: int, origin: str) -> list[int]:
        """Prompt of the longest end of a turn that fits; text is cut and not ids, so that the template stays whole."""
        text, best = turn["content"], None
        low, high = 1, len(text)  # letters kept
        while low <= high:
            middle = (low + high) // 2
            prompt = self._codec.chat_ids([{**turn, "content": text[-middle:].lstrip() or text[-1:]}])
            if len(prompt) <= limit:
                best, low = prompt, middle + 1
            else:
                high = middle - 1
        if best is None:
            raise UsageError(
                f"{origin}: task.max_prompt_tokens={limit} does not hold one letter, for the chat template of the "
                f"model alone takes {len(self._codec.chat_ids([{**turn, 'content': text[-1:]}])) - 1} tokens; raise it"
            )
        return best


class Replies:
    """Ids of replies as decisions, and back: what no policy may produce is left out, an end mark is put at the end.

    A stop string ends a reply too, in place of the mark, and is not part of its text.
    """

    def __init__(self, codec: Codec, max_tokens: int, stop: Sequence[str]) -> None:
        if "" in stop:
            raise UsageError("task.stop holds an empty text, which would end every reply at once; leave it out")
        self._codec, self._max_tokens = codec, max_tokens
        self._stop = re.compile("|".join(map(re.escape, stop))) if stop else None
        # A token holds at least one byte, and the first of those looked back at may be cut in the middle of a letter.
        self.look_back = max((len(text.encode()) + 1 for text in stop), default=0)
        self.cut = 0  # replies longer than max_tokens: without their end
        self.unknown_tokens = 0  # tokens that the tokenizer cannot write; left out
        # Of a tokenizer without marks for them pad and unk are ordinary words (GPT-2), and have a text.
        self._never = {n for n in (codec.pad_id, codec.unk_id) if not codec.text([n])} | {codec.eos_id}

    def learned(self, reply: str) -> str:
        """The part of a written reply that an episode can hold: up to the end of the first stop string."""
        end = self._stop.search(reply) if self._stop else None
        return reply[: end.end()] if end else reply

    def ids(self, reply: Sequence[int]) -> list[int]:
        """Reply ids and eos (no eos after a stop string), cut at the horizon."""
        known = [token for token in reply if token not in self._never]
        self.unknown_tokens += len(reply) - len(known)
        action = known if self._holds_stop(known) else [*known, self._codec.eos_id]
        self.cut += len(action) > self._max_tokens
        return action[: self._max_tokens]

    def text(self, ids: Sequence[int]) -> str:
        """Text of reply ids up to eos or the first stop string."""
        said = list(ids)
        text = self._codec.text(said[: said.index(self._codec.eos_id)] if self._codec.eos_id in said else said)
        end = self._stop.search(text) if self._stop else None
        return text[: end.start()] if end else text

    def stopped(self, action: Tensor, mask: Tensor) -> Tensor:
        """Which rows [N] of tokens [N, T] hold a stop string where the mask [N, T] is True."""
        if self._stop is None:
            return torch.zeros(len(action), dtype=torch.bool, device=action.device)
        rows = zip(action.tolist(), mask.tolist(), strict=True)
        found = [self._holds_stop([id_ for id_, real in zip(*row, strict=True) if real]) for row in rows]
        return torch.tensor(found, device=action.device)

    def _holds_stop(self, ids: Sequence[int]) -> bool:
        return self._stop is not None and self._stop.search(self._codec.text(ids)) is not None


__all__ = ["Prompts", "Replies", "Turns", "check_turns", "require_room"]
