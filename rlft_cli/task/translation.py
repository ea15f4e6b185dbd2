"""Translation: the target text of a source text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from rlft_cli.metrics.bootstrap import Interval
from rlft_cli.metrics.text import compare_text, score_text, signatures
from rlft_cli.model import Codec
from rlft_cli.task import Decisions, Row
from rlft_cli.task.replies import Draft, LeftOut, ReplyTask, Turns, require_room
from rlft_cli.task.sources import SourcePrompt


@dataclass(frozen=True, kw_only=True)
class Translation:
    """Write the target of a source; BLEU selects the best checkpoint."""

    decisions: ClassVar[Decisions] = "tokens"
    rows: ClassVar[str] = "parallel_text"
    primary: ClassVar[str] = "bleu"

    instruction: str
    keep: Literal["begin", "end"]
    max_prompt_tokens: Annotated[int, "[8, inf)"]
    max_reply_tokens: Annotated[int, "[1, inf)"]
    language: Literal["en", "zh"]

    def fit(self, rows: Sequence[Row]) -> list[str]:
        """No labels: the actions are the tokens of the model."""
        return []

    def build(self, labels: list[str], codec: Codec) -> ReplyTask:
        """Bind to a codec; UsageError where prompt and reply are longer than the model reads."""
        require_room(self.max_prompt_tokens, self.max_reply_tokens, codec)
        return ReplyTask(self, codec)

    def drafts(self, rows: Sequence[Row], codec: Codec, left_out: LeftOut) -> list[Draft]:
        """One episode of each row."""
        return self._source().drafts(rows, codec, left_out)

    def prompt(self, row: Row, codec: Codec, left_out: LeftOut) -> list[int]:
        """Ids of instruction and source."""
        return self._source().prompt(row, codec, left_out)

    def turns(self, row: Row) -> Turns:
        """Instruction and source, whole."""
        return self._source().turns(row)

    def score(
        self, predictions: Sequence[str], references: Sequence[str], seed: int, resamples: int
    ) -> dict[str, Interval]:
        """BLEU, chrF, ROUGE-L, distinct-1, distinct-2, repetition and length."""
        return score_text(predictions, references, seed, resamples, self.language)

    def compare(
        self, ours: Sequence[str], theirs: Sequence[str], references: Sequence[str], seed: int, resamples: int
    ) -> dict[str, Interval]:
        """Differences, ours minus theirs, of the metrics of ``score``, with paired 95 % bootstrap intervals."""
        return compare_text(ours, theirs, references, seed, resamples, self.language)

    def signatures(self) -> dict[str, str]:
        """How BLEU, chrF and ROUGE-L were computed, for reports."""
        return signatures(self.language)

    def _source(self) -> SourcePrompt:
        return SourcePrompt(
            instruction=self.instruction,
            keep=self.keep,
            max_prompt_tokens=self.max_prompt_tokens,
            max_reply_tokens=self.max_reply_tokens,
        )


__all__ = ["Translation"]
