"""Dialogue as episodes: one episode is one reply, one decision one token; it ends at eos or at the horizon."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor

from rlft_cli.errors import RlftError
from rlft_cli.metrics.text import compare_text, score_text, signatures
from rlft_cli.model import Codec
from rlft_cli.task import Decisions, Row, State
from rlft_cli.task.prompts import Prompts, Replies, Turns, check_turns, require_room

SAMPLES = 10  # replies that a result shows


@dataclass(frozen=True, kw_only=True)
class _Episode:
    prompt: list[int]  # ids up to where the reply begins
    action: list[int]  # ids of the reference reply, eos included unless it was cut
    reference: str  # the reply as written, never cut
    turns: Turns  # before the reply
    rejected: list[int] | None  # ids of a reply to which the reference was preferred
    origin: str


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
    stop: list[str]

    def fit(self, rows: Sequence[Row]) -> list[str]:
        """No labels: the actions are the tokens of the model."""
        return []

    def build(self, labels: list[str], codec: Codec) -> DialogueTask:
        """Bind to a codec; UsageError where prompt and reply are longer than the model reads."""
        require_room(codec, self.max_prompt_tokens, self.max_reply_tokens)
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
        self.prompts = Prompts(codec, settings.context_turns, settings.max_prompt_tokens)
        self.replies = Replies(codec, settings.max_reply_tokens, settings.stop)
        self._episodes: list[_Episode] = []

    def add(self, rows: Sequence[Row]) -> list[int]:
        """Make an episode of each assistant turn that answers something, or of the last one; return their ids.

        Of a preference (a row with a "rejected" reply) only the preferred one is. A row may give several episodes, or none
        (no assistant turn after another turn). RlftError names the row whose turns hold no text.
        """
        found: list[tuple[str, Turns, str, str | None]] = []
        for row in map(_spoken, rows):
            check_turns(row)
            rejected = row.get("rejected")
            ends = [n for n, turn in enumerate(row["turns"]) if n and turn["role"] == "assistant"]
            for n in ends if self.settings.replies == "all" and rejected is None else ends[-1:]:
                found.append((row["origin"], row["turns"][:n], row["turns"][n]["content"].strip(), rejected))
        ids = iter(
            self.codec.text_ids(
                [self.replies.learned(reply) for _, _, *pair in found for reply in pair if reply is not None]
            )
        )
        return [
            self._store(turns, origin, next(ids), reply, None if rejected is None else next(ids))
            for origin, turns, reply, rejected in found
        ]

    def ask(self, rows: Sequence[Row]) -> list[int]:
        """Make one episode of each row, to be answered after its last turn; its reference is empty."""
        for row in rows:
            check_turns(row)
        return [self._store(row["turns"], row["origin"], [], "") for row in rows]

    def cost(self, ids: Sequence[int]) -> list[int]:
        """Tokens of prompt and reference reply; of a pair, those of the other reply too."""
        some = [self._episodes[n] for n in ids]
        return [len(one.prompt) + len(one.action) + len(one.rejected or ()) for one in some]

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
            recent=like[:, None].new_full((len(like), self.replies.look_back), -1) if self.settings.stop else None,
        )

    def step(self, state: State, action: Tensor) -> State:
        """Append a token to each reply [N]; eos, a stop string and the horizon end it."""
        t = state.t + 1
        done = state.done | (action == self.codec.eos_id) | (t >= state.length)
        recent = state.recent
        if recent is not None:
            recent = torch.cat([recent[:, 1:], action[:, None]], dim=1)
            done = done | self.replies.stopped(recent, (recent >= 0) & ~done[:, None])
        return State(t=t, previous=action, length=state.length, done=done, recent=recent)

    def truncated(self, action: Tensor, mask: Tensor) -> Tensor:
        """Which replies [N] the horizon stopped: ``action`` [N, T] holds neither eos nor a stop string."""
        ended = ((action == self.codec.eos_id) & mask).any(1)
        return ~(ended | self.replies.stopped(action, mask & ~ended[:, None]))

    def demonstration(self, ids: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Reference replies [B, T] int64 and their mask [B, T]; a cut reply has no eos: no end is taught there."""
        return self._padded([self._episodes[n].action for n in ids])

    def _padded(self, actions: list[list[int]]) -> tuple[Tensor, Tensor]:
        width = max(map(len, actions))
        padded = [action + [self.codec.pad_id] * (width - len(action)) for action in actions]
        length = torch.tensor([len(action) for action in actions])
        return torch.tensor(padded, dtype=torch.int64), torch.arange(width)[None, :] < length[:, None]

    def preferred(self, ids: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Pairs of replies [2 B, T] int64 and their mask, the preferred and the other one of each prompt side by side.

        RlftError names an episode that has one reply only.
        """
        pairs = [self._episodes[n] for n in ids]
        rows: list[list[int]] = []
        for pair in pairs:
            if pair.rejected is None:
                raise RlftError(
                    f"{pair.origin}: has no rejected reply, and this algorithm learns from pairs; give data with prompt, "
                    "chosen and rejected, or choose algo=supervised"
                )
            rows += [pair.action, pair.rejected]
        return self._padded(rows)

    def contexts(self, ids: Sequence[int]) -> list[Turns]:
        """All turns before each reply."""
        return [self._episodes[n].turns for n in ids]

    def references(self, ids: Sequence[int]) -> list[str]:
        """Replies as they were written, however long."""
        return [self._episodes[n].reference for n in ids]

    def decode(self, action: Tensor, mask: Tensor, ids: Sequence[int]) -> list[str]:
        """Text of each reply of ``action`` [len(ids), T] up to its eos or the first stop string."""
        rows = zip(action.tolist(), mask.tolist(), strict=True)
        return [self.replies.text([token for token, real in zip(*row, strict=True) if real]).strip() for row in rows]

    def score(
        self, predictions: Sequence[Any], references: Sequence[Any], seed: int, resamples: int
    ) -> dict[str, dict[str, float]]:
        """BLEU, ROUGE-L, chrF, distinct-1, distinct-2 and length, with 95 % bootstrap intervals."""
        return score_text(predictions, references, seed, resamples, self.settings.language)

    def compare(
        self, ours: Sequence[Any], theirs: Sequence[Any], references: Sequence[Any], seed: int, resamples: int
    ) -> dict[str, dict[str, float]]:
        """Differences, ours minus theirs, of the metrics of ``score``, with paired 95 % bootstrap intervals."""
        return compare_text(ours, theirs, references, seed, resamples, self.settings.language)

    def details(self, predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, Any]:
        """The first replies beside their references."""
        pairs = zip(predictions[:SAMPLES], references[:SAMPLES], strict=True)
        return {"samples": [{"reply": reply, "reference": reference} for reply, reference in pairs]}

    def signatures(self) -> dict[str, str]:
        """How BLEU, chrF and ROUGE-L were computed, for reports."""
        return signatures(self.settings.language)

    def _store(
        self, turns: Turns, origin: str, reply: list[int], reference: str, rejected: list[int] | None = None
    ) -> int:
        self._episodes.append(
            _Episode(
                prompt=self.prompts.ids(turns, origin),
                action=self.replies.ids(reply),
                reference=reference,
                turns=turns,
                rejected=None if rejected is None else self.replies.ids(rejected),
                origin=origin,
            )
        )
        return len(self._episodes) - 1


def _spoken(row: Row) -> Row:
    """A comparison of two replies as a dialogue that ends with the preferred one; other rows as they are."""
    if "chosen" not in row:
        return row
    if row["chosen"] is None:
        raise RlftError(
            f"{row['origin']}: has one reply, judged to be wrong, and nothing to learn; leave such rows out"
        )
    return {**row, "turns": [*row["turns"], {"role": "assistant", "content": row["chosen"]}]}


__all__ = ["Dialogue", "DialogueTask"]
