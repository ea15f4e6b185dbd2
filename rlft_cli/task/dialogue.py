"""Dialogue as episodes: one episode is one reply, one decision one token; it ends at eos or at the horizon."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor

from rlft_cli.errors import RlftError, UsageError
from rlft_cli.metrics.text import score_text, signatures
from rlft_cli.model import Codec
from rlft_cli.task import Decisions, Row, State

SAMPLES = 10  # replies that a result shows
Turns = list[dict[str, str]]


@dataclass(frozen=True, kw_only=True)
class _Episode:
    prompt: list[int]  # ids up to where the reply begins
    action: list[int]  # ids of the reference reply, eos included unless it was cut
    reference: str  # the reply as written, never cut


@dataclass(frozen=True, kw_only=True)
class Dialogue:
    """Answer the turns so far; ``build`` binds it to the tokenizer of a model."""

    decisions: ClassVar[Decisions] = "tokens"
    rows: ClassVar[str] = "dialogue"

    context_turns: Annotated[int, "[1, inf)"]
    max_prompt_tokens: Annotated[int, "[8, inf)"]
    max_reply_tokens: Annotated[int, "[1, inf)"]
    replies: Literal["all", "last"]
    language: Literal["en", "zh"]

    def fit(self, rows: Sequence[Row]) -> list[str]:
        """No labels: the actions are the tokens of the model."""
        return []

    def build(self, labels: list[str], codec: Codec) -> DialogueTask:
        """Bind to a codec; UsageError where prompt and reply are longer than the model reads."""
        longest = self.max_prompt_tokens + self.max_reply_tokens
        if longest > codec.max_tokens:
            raise UsageError(
                f"task.max_prompt_tokens={self.max_prompt_tokens} and task.max_reply_tokens={self.max_reply_tokens} "
                f"make {longest} tokens, the model reads {codec.max_tokens}; lower one of them by "
                f"{longest - codec.max_tokens}"
            )
        return DialogueTask(self, codec)


class DialogueTask:
    """Replies of one model's tokenizer; the counters say what ``add`` had to leave out of what the model reads."""

    decisions: ClassVar[Decisions] = "tokens"
    rows: ClassVar[str] = "dialogue"
    primary = "rouge_l"

    def __init__(self, settings: Dialogue, codec: Codec) -> None:
        self.settings = settings
        self.codec = codec
        self.labels: list[str] = []
        self.dropped_turns = 0  # context turns left out, so that a prompt fits max_prompt_tokens
        self.cut_prompts = 0  # prompts of one turn that lost its beginning
        self.cut_replies = 0  # replies longer than max_reply_tokens: learned without their end
        self.unknown_tokens = 0  # reply tokens that the tokenizer cannot write; left out of the actions
        self._episodes: list[_Episode] = []
        # Ids that no policy may produce, so that they cannot be demonstrated either. Of a tokenizer without such marks
        # pad and unk are ordinary words (GPT-2), and have a text.
        self._never = {n for n in (codec.pad_id, codec.unk_id) if not codec.text([n])} | {codec.eos_id}

    def add(self, rows: Sequence[Row]) -> list[int]:
        """Make an episode of each assistant turn that answers something, or of the last one; return their ids.

        A row may give several episodes, or none (no assistant turn after another turn). RlftError names the row whose
        turns hold no text.
        """
        found: list[tuple[str, Turns, str]] = []
        for row in rows:
            self._check(row)
            ends = [n for n, turn in enumerate(row["turns"]) if n and turn["role"] == "assistant"]
            for n in ends if self.settings.replies == "all" else ends[-1:]:
                found.append((row["origin"], row["turns"][:n], row["turns"][n]["content"].strip()))
        replies = self.codec.text_ids([reply for _, _, reply in found]) if found else []
        return [
            self._store(self._prompt(turns, origin), self._action(ids), reply)
            for (origin, turns, reply), ids in zip(found, replies, strict=True)
        ]

    def ask(self, rows: Sequence[Row]) -> list[int]:
        """Make one episode of each row, to be answered after its last turn; its reference is empty."""
        for row in rows:
            self._check(row)
        return [self._store(self._prompt(row["turns"], row["origin"]), self._action([]), "") for row in rows]

    def cost(self, ids: Sequence[int]) -> list[int]:
        """Tokens of prompt and reference reply."""
        return [len(self._episodes[n].prompt) + len(self._episodes[n].action) for n in ids]

    def collate(self, ids: Sequence[int]) -> dict[str, Tensor]:
        """Prompts, padded on the left: "id" [B], "prompt_ids" [B, P] int64, "prompt_mask" [B, P] bool."""
        prompts = [self._episodes[n].prompt for n in ids]
        width = max(map(len, prompts))
        padded = [[self.codec.pad_id] * (width - len(prompt)) + prompt for prompt in prompts]
        length = torch.tensor([len(prompt) for prompt in prompts])
        return {
            "id": torch.tensor(list(ids), dtype=torch.int64),
            "prompt_ids": torch.tensor(padded, dtype=torch.int64),
            "prompt_mask": torch.arange(width)[None, :] >= width - length[:, None],
        }

    def reset(self, observation: dict[str, Tensor], samples: int) -> State:
        """Begin ``samples`` replies to each prompt."""
        like = observation["id"].repeat_interleave(samples)
        return State(
            t=0,
            previous=torch.full_like(like, -1),
            length=torch.full_like(like, self.settings.max_reply_tokens),
            done=torch.zeros_like(like, dtype=torch.bool),
        )

    def step(self, state: State, action: Tensor) -> State:
        """Append a token to each reply [N]; eos and the horizon end it."""
        t = state.t + 1
        done = state.done | (action == self.codec.eos_id) | (t >= state.length)
        return State(t=t, previous=action, length=state.length, done=done)

    def truncated(self, action: Tensor, mask: Tensor) -> Tensor:
        """Which replies [N] the horizon stopped: the last decision of ``action`` [N, T] is not eos."""
        return ~((action == self.codec.eos_id) & mask).any(1)

    def demonstration(self, ids: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Reference replies [B, T] int64 and their mask [B, T]; a cut reply has no eos: no end is taught there."""
        actions = [self._episodes[n].action for n in ids]
        width = max(map(len, actions))
        padded = [action + [self.codec.pad_id] * (width - len(action)) for action in actions]
        length = torch.tensor([len(action) for action in actions])
        return torch.tensor(padded, dtype=torch.int64), torch.arange(width)[None, :] < length[:, None]

    def references(self, ids: Sequence[int]) -> list[str]:
        """Replies as they were written, however long."""
        return [self._episodes[n].reference for n in ids]

    def decode(self, action: Tensor, mask: Tensor, ids: Sequence[int]) -> list[str]:
        """Text of each reply of ``action`` [len(ids), T] up to its eos."""
        texts = []
        for row, real in zip(action.tolist(), mask.tolist(), strict=True):
            reply = [token for token, exists in zip(row, real, strict=True) if exists]
            if self.codec.eos_id in reply:
                reply = reply[: reply.index(self.codec.eos_id)]
            texts.append(self.codec.text(reply).strip())
        return texts

    def score(
        self, predictions: Sequence[Any], references: Sequence[Any], seed: int, resamples: int
    ) -> dict[str, dict[str, float]]:
        """BLEU, ROUGE-L, chrF, distinct-1, distinct-2 and length, with 95 % bootstrap intervals."""
        return score_text(predictions, references, seed, resamples, self.settings.language)

    def details(self, predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, Any]:
        """The first replies beside their references."""
        pairs = zip(predictions[:SAMPLES], references[:SAMPLES], strict=True)
        return {"samples": [{"reply": reply, "reference": reference} for reply, reference in pairs]}

    def signatures(self) -> dict[str, str]:
        """How BLEU, chrF and ROUGE-L were computed, for reports."""
        return signatures(self.settings.language)

    def _check(self, row: Row) -> None:
        for number, turn in enumerate(row["turns"], start=1):
            if not any(letter.isprintable() and not letter.isspace() for letter in turn["content"]):
                raise RlftError(
                    f"{row['origin']}: turn {number} ({turn['role']}) has no visible text; every turn of a dialogue "
                    "needs some: write it, or remove the turn or the dialogue"
                )
        if not row["turns"]:
            raise RlftError(f"{row['origin']}: the dialogue has no turns; expected at least one of the user")

    def _prompt(self, turns: Turns, origin: str) -> list[int]:
        """Ids of the last turns that fit max_prompt_tokens: whole turns, or the end of the last one."""
        limit = self.settings.max_prompt_tokens
        kept = turns[-self.settings.context_turns :]
        prompt = self.codec.chat_ids(kept)
        while len(prompt) > limit and len(kept) > 1:
            self.dropped_turns += 1
            kept = kept[1:]
            prompt = self.codec.chat_ids(kept)
        if len(prompt) > limit:
            self.cut_prompts += 1
            prompt = self._end_of_turn(kept[-1], limit, origin)
        return prompt

    def _end_of_turn(self, turn: dict[str, str], limit: int, origin: str) -> list[int]:
        """Prompt of the longest end of a turn that fits; text is cut and not ids, so that the template stays whole."""
        text, best = turn["content"], None
        low, high = 1, len(text)  # letters kept
        while low <= high:
            middle = (low + high) // 2
            prompt = self.codec.chat_ids([{**turn, "content": text[-middle:].lstrip() or text[-1:]}])
            if len(prompt) <= limit:
                best, low = prompt, middle + 1
            else:
                high = middle - 1
        if best is None:
            raise UsageError(
                f"{origin}: task.max_prompt_tokens={limit} does not hold one letter, for the chat template of the "
                f"model alone takes {len(self.codec.chat_ids([{**turn, 'content': text[-1:]}])) - 1} tokens; raise it"
            )
        return best

    def _action(self, reply: list[int]) -> list[int]:
        """Reply ids and eos, cut at the horizon."""
        known = [token for token in reply if token not in self._never]
        self.unknown_tokens += len(reply) - len(known)
        action = [*known, self.codec.eos_id]
        self.cut_replies += len(action) > self.settings.max_reply_tokens
        return action[: self.settings.max_reply_tokens]

    def _store(self, prompt: list[int], action: list[int], reference: str) -> int:
        self._episodes.append(_Episode(prompt=prompt, action=action, reference=reference))
        return len(self._episodes) - 1


__all__ = ["Dialogue", "DialogueTask"]
