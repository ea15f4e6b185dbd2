"""Dialogue: the assistant's next reply to the turns so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from rlft_cli.errors import RlftError, UsageError
from rlft_cli.metrics.bootstrap import Interval
from rlft_cli.metrics.text import score_text, signatures
from rlft_cli.model import Codec
from rlft_cli.task import Decisions, Row
from rlft_cli.task.replies import Draft, LeftOut, ReplyTask, longest_part, reply_action, require_room, require_visible

Turns = list[dict[str, str]]


@dataclass(frozen=True, kw_only=True)
class Dialogue:
    """Answer the turns so far; ``build`` binds it to the tokenizer of a model."""

    decisions: ClassVar[Decisions] = "tokens"
    rows: ClassVar[str] = "dialogue"
    primary: ClassVar[str] = "rouge_l"

    context_turns: Annotated[int, "[1, inf)"]
    max_prompt_tokens: Annotated[int, "[8, inf)"]
    max_reply_tokens: Annotated[int, "[1, inf)"]
    replies: Literal["all", "last"]
    language: Literal["en", "zh"]

    def fit(self, rows: Sequence[Row]) -> list[str]:
        """No labels: the actions are the tokens of the model."""
        return []

    def build(self, labels: list[str], codec: Codec) -> ReplyTask:
        """Bind to a codec; UsageError where prompt and reply are longer than the model reads."""
        require_room(self.max_prompt_tokens, self.max_reply_tokens, codec)
        return ReplyTask(self, codec)

    def drafts(self, rows: Sequence[Row], codec: Codec, left_out: LeftOut) -> list[Draft]:
        """An episode of each assistant turn that answers something, or of the last one; a row may have none."""
        found: list[tuple[Row, Turns, str]] = []
        for row in rows:
            _check(row)
            ends = [n for n, turn in enumerate(row["turns"]) if _answers(row["turns"], n)]
            for n in ends if self.replies == "all" else ends[-1:]:
                found.append((row, row["turns"][:n], row["turns"][n]["content"].strip()))
        replies = codec.text_ids([reply for _, _, reply in found]) if found else []
        return [
            Draft(
                prompt=self._prompt(turns, row["origin"], codec, left_out),
                action=reply_action(codec, ids, self.max_reply_tokens, left_out),
                reference=reply,
            )
            for (row, turns, reply), ids in zip(found, replies, strict=True)
        ]

    def prompt(self, row: Row, codec: Codec, left_out: LeftOut) -> list[int]:
        """The turns of a row, to be answered after the last one."""
        _check(row)
        return self._prompt(row["turns"], row["origin"], codec, left_out)

    def score(
        self, predictions: Sequence[str], references: Sequence[str], seed: int, resamples: int
    ) -> dict[str, Interval]:
        """BLEU, ROUGE-L, chrF, distinct-1, distinct-2, repetition and length."""
        return score_text(predictions, references, seed, resamples, self.language)

    def signatures(self) -> dict[str, str]:
        """How BLEU, chrF and ROUGE-L were computed, for reports."""
        return signatures(self.language)

    def _prompt(self, turns: Turns, origin: str, codec: Codec, left_out: LeftOut) -> list[int]:
        """Ids of the last turns that fit max_prompt_tokens: whole turns, or the end of the last one.

        A system turn is what the others are read by: it stays, whatever is dropped, and is no turn of context.
        """
        system, said = (turns[:1], turns[1:]) if turns[0]["role"] == "system" else ([], turns)
        kept = said[-self.context_turns :]
        prompt = _ids(codec, [*system, *kept], origin)
        while len(kept) > 1 and (prompt is None or len(prompt) > self.max_prompt_tokens):
            left_out.dropped_turns += 1
            kept = kept[1:]
            prompt = _ids(codec, [*system, *kept], origin)
        if prompt is not None and len(prompt) <= self.max_prompt_tokens:
            return prompt
        left_out.cut_prompts += 1
        return self._end_of_turn(system, (kept or system)[-1], origin, codec)

    def _end_of_turn(self, system: Turns, turn: dict[str, str], origin: str, codec: Codec) -> list[int]:
        """Prompt of the longest end of a turn that fits."""
        before = [] if turn in system else system

        def ids(content: str) -> list[int]:
            return codec.chat_ids([*before, {**turn, "content": content}])

        found = longest_part(ids, turn["content"], self.max_prompt_tokens, "end")
        if found is None:
            raise UsageError(
                f"{origin}: task.max_prompt_tokens={self.max_prompt_tokens} does not hold one letter, for "
                f"{'the system turn and ' if before else ''}the chat template of the model alone takes "
                f"{len(ids(turn['content'][-1:])) - 1} tokens; raise it"
            )
        return found


def _answers(turns: Turns, n: int) -> bool:
    """Whether turn n is a reply of the assistant to something that was said."""
    return turns[n]["role"] == "assistant" and any(turn["role"] != "system" for turn in turns[:n])


def _check(row: Row) -> None:
    for number, turn in enumerate(row["turns"], start=1):
        require_visible(row["origin"], f"turn {number} ({turn['role']})", turn["content"])
    if not row["turns"]:
        raise RlftError(f"{row['origin']}: the dialogue has no turns; expected at least one of the user")


def _ids(codec: Codec, turns: Turns, origin: str) -> list[int] | None:
    """The turns in the model's chat template; None where it might take them without the assistant's turn at the front.

    Turns that were cut off on the left may begin with the assistant's, and some templates want the user's first.
    """
    said = [turn for turn in turns if turn["role"] != "system"]
    try:
        return codec.chat_ids(turns)
    except RlftError as problem:
        if len(said) > 1 and said[0]["role"] == "assistant":
            return None
        raise RlftError(f"{origin}: {problem}") from problem


__all__ = ["Dialogue"]
