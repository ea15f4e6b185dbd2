"""What a model reads of a dialogue and what it may write: ids of prompts and of replies, both within their limits."""

from __future__ import annotations

from collections.abc import Sequence

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
    """Ids of replies as decisions: what no policy may produce is left out, an end mark is put at the end."""

    def __init__(self, codec: Codec, max_tokens: int) -> None:
        self._codec, self._max_tokens = codec, max_tokens
        self.cut = 0  # replies longer than max_tokens: without their end
        self.unknown_tokens = 0  # tokens that the tokenizer cannot write; left out
        # Of a tokenizer without marks for them pad and unk are ordinary words (GPT-2), and have a text.
        self._never = {n for n in (codec.pad_id, codec.unk_id) if not codec.text([n])} | {codec.eos_id}

    def ids(self, reply: Sequence[int]) -> list[int]:
        """Reply ids and eos, cut at the horizon."""
        known = [token for token in reply if token not in self._never]
        self.unknown_tokens += len(reply) - len(known)
        action = [*known, self._codec.eos_id]
        self.cut += len(action) > self._max_tokens
        return action[: self._max_tokens]


__all__ = ["Prompts", "Replies", "Turns", "check_turns", "require_room"]
