"""Language modelling and continuation: a text as blocks, each written after the text before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from rlft_cli.errors import RlftError
from rlft_cli.metrics.measures import TEXT, Measures
from rlft_cli.model import Codec
from rlft_cli.task import Decisions, Row
from rlft_cli.task.replies import Draft, LeftOut, ReplyTask, Turns, require_visible, writable


@dataclass(frozen=True, kw_only=True)
class LanguageModeling:
    """Go on with a text; the likelihood of the references selects the best checkpoint.

    The tokens of a text after the first ``given_tokens`` are cut into blocks of ``max_reply_tokens``. An episode is a
    block, the last one with the end of the text if there is room; its prompt is as much of the text before it as fits.
    So every token is decided on exactly once, and the perplexity of all blocks is that of the texts.
    """

    decisions: ClassVar[Decisions] = "tokens"
    rows: ClassVar[str] = "plain_text"
    primary: ClassVar[str] = "log_likelihood"

    given_tokens: Annotated[int, "[0, inf)"]
    blocks: Literal["all", "first"]
    max_prompt_tokens: Annotated[int, "[8, inf)"]
    max_reply_tokens: Annotated[int, "[1, inf)"]
    language: Literal["en", "zh"]

    def fit(self, rows: Sequence[Row]) -> list[str]:
        """No labels: the actions are the tokens of the model."""
        return []

    def build(self, labels: list[str], codec: Codec) -> ReplyTask:
        """Bind to a codec; UsageError where prompt and block are longer than the model reads."""
        return ReplyTask(self, codec)

    def drafts(self, rows: Sequence[Row], codec: Codec, left_out: LeftOut) -> list[Draft]:
        """The blocks of each text; RlftError where all texts are too short to leave any."""
        for row in rows:
            require_visible(row["origin"], "the text", row["text"])
        texts = codec.text_ids([row["text"].strip() for row in rows]) if rows else []
        found = [
            draft
            for row, ids in zip(rows, texts, strict=True)
            for draft in self._blocks(writable(codec, ids, left_out), row["origin"], codec, left_out)
        ]
        if rows and not found:
            raise RlftError(
                f"{rows[0]['origin']}: none of the {len(rows)} texts has more than task.given_tokens={self.given_tokens} "
                "tokens, so that nothing is left to write; lower it"
            )
        return found

    def prompt(self, row: Row, codec: Codec, left_out: LeftOut) -> list[int]:
        """The text so far, of which the end that fits is read."""
        require_visible(row["origin"], "the text", row["text"])
        ids = writable(codec, codec.text_ids([row["text"].strip()])[0], left_out)
        left_out.cut_prompts += len(codec.prefix or [codec.eos_id]) + len(ids) > self.max_prompt_tokens
        return self._before(ids, codec)

    def turns(self, row: Row) -> Turns:
        """The text so far."""
        return [{"role": "user", "content": row["text"].strip()}]

    @property
    def prompts(self) -> LanguageModeling:
        """These settings."""
        return self

    @property
    def measures(self) -> tuple[Measures, ...]:
        """What every written text is scored by; likelihood and perplexity are added by the evaluation."""
        return (TEXT,)

    def _blocks(self, ids: list[int], origin: str, codec: Codec, left_out: LeftOut) -> list[Draft]:
        """Blocks of one text and its end; none where it has no token beyond those that are given."""
        if len(ids) <= self.given_tokens:
            left_out.short_texts += 1
            return []
        size = self.max_reply_tokens
        starts = list(range(self.given_tokens, len(ids), size))
        found = []
        for start in starts if self.blocks == "all" else starts[:1]:
            block = ids[start : start + size]
            end = [codec.eos_id] if len(block) < size else []
            found.append(
                Draft(
                    prompt=self._before(ids[:start], codec),
                    turns=[{"role": "user", "content": codec.text(ids[:start]).strip()}],
                    action=[*block, *end],
                    reference=codec.text(block).strip(),
                    origin=origin,
                )
            )
        return found

    def _before(self, ids: list[int], codec: Codec) -> list[int]:
        """Prompt of the ids before a block: the model's own prefix, or eos at the beginning of a text, and the last ids."""
        begin = codec.prefix or ([codec.eos_id] if len(ids) < self.max_prompt_tokens else [])
        return [*begin, *ids[max(0, len(ids) - (self.max_prompt_tokens - len(begin))) :]]


__all__ = ["LanguageModeling"]
