"""What tasks with one source text share: an instruction, as much of the source as fits, and the target as the reply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rlft_cli.errors import RlftError, UsageError
from rlft_cli.model import Codec
from rlft_cli.task import Row
from rlft_cli.task.replies import Draft, Keep, LeftOut, Turns, longest_part, reply_action, require_visible


class SourceSettings(Protocol):
    """What tasks with one source text let a user choose."""

    @property
    def instruction(self) -> str:
        """Stands before the source; empty for none."""
        ...

    @property
    def keep(self) -> Keep:
        """Which end of a source that is too long is read."""
        ...

    @property
    def max_prompt_tokens(self) -> int:
        """Most tokens of a prompt."""
        ...

    @property
    def max_reply_tokens(self) -> int:
        """The horizon of an episode."""
        ...


@dataclass(frozen=True, kw_only=True)
class SourcePrompt:
    """How a source is put to a model: as what a user says, after the instruction."""

    settings: SourceSettings

    def drafts(self, rows: Sequence[Row], codec: Codec, left_out: LeftOut) -> list[Draft]:
        """One episode of each row {"source", "target", "origin"}; RlftError names a row without visible text."""
        for row in rows:
            require_visible(row["origin"], "the target", row["target"])
        targets = [row["target"].strip() for row in rows]
        replies = codec.text_ids(targets) if rows else []
        return [
            Draft(
                prompt=self.prompt(row, codec, left_out),
                turns=self.turns(row),
                action=reply_action(codec, ids, self.settings.max_reply_tokens, left_out, None),
                reference=target,
                origin=row["origin"],
            )
            for row, target, ids in zip(rows, targets, replies, strict=True)
        ]

    def prompt(self, row: Row, codec: Codec, left_out: LeftOut) -> list[int]:
        """Ids of instruction and source; a source that is too long loses its end, or its beginning where ``keep`` is end."""
        require_visible(row["origin"], "the source", row["source"])
        source, most = row["source"].strip(), self.settings.max_prompt_tokens

        def ids(part: str) -> list[int]:
            return codec.chat_ids(self._asked(part))

        try:
            prompt: list[int] | None = ids(source)
        except RlftError as problem:
            raise RlftError(f"{row['origin']}: {problem}") from problem
        if prompt is not None and len(prompt) > most:
            left_out.cut_prompts += 1
            prompt = longest_part(ids, source, most, self.settings.keep)
        if prompt is None:
            raise UsageError(
                f"{row['origin']}: task.max_prompt_tokens={most} does not hold one letter of the source, for "
                f"task.instruction and the chat template alone take {len(ids(source[:1])) - 1} tokens; raise it"
            )
        return prompt

    def turns(self, row: Row) -> Turns:
        """Instruction and whole source, as what a user says."""
        return self._asked(row["source"].strip())

    def _asked(self, source: str) -> Turns:
        return [
            {
                "role": "user",
                "content": f"{self.settings.instruction} {source}" if self.settings.instruction else source,
            }
        ]


__all__ = ["SourcePrompt", "SourceSettings"]
