"""How good short answers are: exact match and token F1, as question answering is scored."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from rlft_cli.metrics.bootstrap import Interval, bootstrap_mean, paired_difference
from rlft_cli.metrics.text import Language, chinese_tokens, require_pairs

_ARTICLE = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def answer_tokens(text: str, language: Language) -> list[str]:
    """Tokens by which answers are compared.

    For "en" as SQuAD's evaluation (Rajpurkar et al. 2016): lower case, ASCII punctuation and articles left out, split at
    blanks. For "zh" each character, Latin words and numbers whole, punctuation left out.
    """
    if language == "zh":
        return chinese_tokens(text)
    return _ARTICLE.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split()


def exact_match(prediction: str, reference: str, language: Language) -> float:
    """1 where both have the same tokens in the same order, else 0."""
    return float(answer_tokens(prediction, language) == answer_tokens(reference, language))


def token_f1(prediction: str, reference: str, language: Language) -> float:
    """F1 in [0, 1] of the tokens that both have, counted as often as in both: 2 common / (predicted + reference).

    Where one side has no token: 1 if neither has (SQuAD 2.0's evaluation, Rajpurkar et al. 2018), else 0.
    """
    mine, other = Counter(answer_tokens(prediction, language)), Counter(answer_tokens(reference, language))
    if not mine or not other:
        return float(mine == other)
    return 2 * (mine & other).total() / (mine.total() + other.total())


def score_answers(
    predictions: Sequence[str], references: Sequence[str], seed: int, resamples: int, language: Language
) -> dict[str, Interval]:
    """exact_match and token_f1: means over the answers in [0, 1], with 95 % bootstrap intervals; one reference each.

    Raises RlftError for unequal lengths and without examples.
    """
    require_pairs(predictions, references)
    pairs = list(zip(predictions, references, strict=True))
    return {
        "exact_match": bootstrap_mean([exact_match(p, r, language) for p, r in pairs], seed, resamples),
        "token_f1": bootstrap_mean([token_f1(p, r, language) for p, r in pairs], seed, resamples),
    }


def compare_answers(
    ours: Sequence[str], theirs: Sequence[str], references: Sequence[str], seed: int, resamples: int, language: Language
) -> dict[str, Interval]:
    """Differences, ours minus theirs, of the metrics of ``score_answers`` with paired 95 % bootstrap intervals."""
    require_pairs(ours, references)
    require_pairs(theirs, references)
    found = {}
    for name, measure in (("exact_match", exact_match), ("token_f1", token_f1)):
        mine, other = (
            [measure(text, reference, language) for text, reference in zip(texts, references, strict=True)]
            for texts in (ours, theirs)
        )
        found[name] = paired_difference(mine, other, seed, resamples)
    return found


def answer_signatures(language: Language) -> dict[str, str]:
    """Say how exact_match and token_f1 are computed, in one line each, to stand beside every report."""
    how = "char|punct:no" if language == "zh" else "lower|punct:no|articles:no"
    return {"exact_match": f"em|refs:1|tok:{how}", "token_f1": f"f1|refs:1|tok:{how}"}


__all__ = ["answer_signatures", "answer_tokens", "compare_answers", "exact_match", "score_answers", "token_f1"]
