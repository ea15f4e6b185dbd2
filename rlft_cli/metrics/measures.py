"""Sets of metrics of written texts, which a task of writing puts together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rlft_cli.metrics import answers, text
from rlft_cli.metrics.bootstrap import Interval
from rlft_cli.metrics.text import Language

_Texts = Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Measures:
    """Scores of texts, paired differences of two systems' texts, and how both are computed."""

    score: Callable[
        [_Texts, _Texts, int, int, Language], dict[str, Interval]
    ]  # predictions, references, seed, resamples
    compare: Callable[
        [_Texts, _Texts, _Texts, int, int, Language], dict[str, Interval]
    ]  # ours, theirs, references, ...
    signatures: Callable[[Language], dict[str, str]]


TEXT = Measures(score=text.score_text, compare=text.compare_text, signatures=text.signatures)
ROUGE = Measures(score=text.score_rouge, compare=text.compare_rouge, signatures=text.rouge_signatures)
ANSWERS = Measures(score=answers.score_answers, compare=answers.compare_answers, signatures=answers.answer_signatures)

__all__ = ["ANSWERS", "ROUGE", "TEXT", "Measures"]
