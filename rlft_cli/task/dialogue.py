"""Dialogue: the assistant's next reply to the turns so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from rlft_cli.errors import RlftError
from rlft_cli.metrics.measures import TEXT, Measures
from rlft_cli.model import Codec
from rlft_cli.task import Decisions, Row
from rlft_cli.task.prompts import TurnsPrompt, check_turns
from rlft_cli.task.replies import Draft, LeftOut, ReplyTask, Turns, reply_action
from rlft_cli.task.stops import Stops


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
    stop: list[str]

    def fit(self, rows: Sequence[Row]) -> list[str]:
        """No labels: the actions are the tokens of the model."""
        return []

    def build(self, labels: list[str], codec: Codec) -> ReplyTask:
        """Bind to a codec; UsageError where prompt and reply are longer than the model reads."""
        return ReplyTask(self, codec, self.stop)

    def drafts(self, rows: Sequence[Row], codec: Codec, left_out: LeftOut) -> list[Draft]:
        """An episode of each assistant turn that answers something, or of the last one; a row may have none.

        Of a preference (a row with a "rejected" reply) only the preferred reply is one.
        """
        found: list[tuple[str, Turns, str, str | None]] = []
        for row in map(_spoken, rows):
            check_turns(row)
            rejected = row.get("rejected")
            ends = [n for n, turn in enumerate(row["turns"]) if _answers(row["turns"], n)]
            for n in ends if self.replies == "all" and rejected is None else ends[-1:]:
                found.append((row["origin"], row["turns"][:n], row["turns"][n]["content"].strip(), rejected))
        stops = Stops(self.stop, codec)
        texts = [stops.learned(reply) for _, _, *pair in found for reply in pair if reply is not None]
        ids = iter(codec.text_ids(texts) if texts else [])

        def action() -> list[int]:
            return reply_action(codec, next(ids), self.max_reply_tokens, left_out, stops)

        return [
            Draft(
                prompt=self._prompt(turns, origin, codec, left_out),
                turns=turns,
                action=action(),
                reference=reply,
                rejected=None if rejected is None else action(),
                origin=origin,
            )
            for origin, turns, reply, rejected in found
        ]

    def prompt(self, row: Row, codec: Codec, left_out: LeftOut) -> list[int]:
        """The turns of a row, to be answered after the last one."""
        check_turns(row)
        return self._prompt(row["turns"], row["origin"], codec, left_out)

    def turns(self, row: Row) -> Turns:
        """The turns of a row."""
        turns: Turns = row["turns"]
        return turns

    @property
    def prompts(self) -> Dialogue:
        """These settings."""
        return self

    @property
    def measures(self) -> tuple[Measures, ...]:
        """BLEU, ROUGE-L, chrF, distinct-1, distinct-2, repetition and length."""
        return (TEXT,)

    def _prompt(self, turns: Turns, origin: str, codec: Codec, left_out: LeftOut) -> list[int]:
        prompt = TurnsPrompt(context_turns=self.context_turns, max_prompt_tokens=self.max_prompt_tokens)
        return prompt.ids(turns, origin, codec, left_out)


def _answers(turns: Turns, n: int) -> bool:
    """Whether turn n is a reply of the assistant to something that was said."""
    return turns[n]["role"] == "assistant" and any(turn["role"] != "system" for turn in turns[:n])


def _spoken(row: Row) -> Row:
    """A comparison of two replies as a dialogue that ends with the preferred one; other rows as they are."""
    if "chosen" not in row:
        return row
    if row["chosen"] is None:
        raise RlftError(
            f"{row['origin']}: has one reply, judged to be wrong, and nothing to learn; leave such rows out"
        )
    return {**row, "turns": [*row["turns"], {"role": "assistant", "content": row["chosen"]}]}


__all__ = ["Dialogue"]
