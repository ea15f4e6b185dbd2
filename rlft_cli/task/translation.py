"""Translation: the target text of a source text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from rlft_cli.metrics.measures import TEXT, Measures
from rlft_cli.model import Codec
from rlft_cli.task import Decisions, Row
from rlft_cli.task.replies import ReplyTask
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
        return ReplyTask(self, codec)

    @property
    def measures(self) -> tuple[Measures, ...]:
        """BLEU, chrF, ROUGE-L, distinct-1, distinct-2, repetition and length."""
        return (TEXT,)

    @property
    def prompts(self) -> SourcePrompt:
        """Instruction and source."""
        return SourcePrompt(settings=self)


__all__ = ["Translation"]
