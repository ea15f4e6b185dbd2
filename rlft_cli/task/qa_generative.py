"""Generative question answering: the answer in words of its own, which need not stand in the context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from rlft_cli.metrics.measures import ANSWERS, TEXT, Measures
from rlft_cli.model import Codec
from rlft_cli.task import Decisions, Row
from rlft_cli.task.replies import ReplyTask
from rlft_cli.task.sources import SourcePrompt


@dataclass(frozen=True, kw_only=True)
class QaGenerative:
    """Write the answer to a question and its context; token F1 selects the best checkpoint."""

    decisions: ClassVar[Decisions] = "tokens"
    rows: ClassVar[str] = "question_answer"
    primary: ClassVar[str] = "token_f1"

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
        """Exact match and token F1 beside what every written text is scored by."""
        return (ANSWERS, TEXT)

    @property
    def prompts(self) -> SourcePrompt:
        """Instruction and source."""
        return SourcePrompt(settings=self)


__all__ = ["QaGenerative"]
