"""Measures of one reply: METEOR, distinct n-grams, repetition and length, for rewards."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

Language = Literal["en", "zh"]
Gram = tuple[str, ...]
_WORDS = {"en": re.compile(r"[^\W_]+"), "zh": re.compile(r"[a-z0-9]+|[^\W_]")}


def words(text: str, language: Language) -> list[str]:
    """Lower-cased words without punctuation; in Chinese every character but runs of Latin letters and digits."""
    return _WORDS[language].findall(text.lower())


def n_grams(tokens: Sequence[str], order: int) -> list[Gram]:
    """All n-grams, in their order; none where there are fewer than n tokens."""
    return [tuple(tokens[n : n + order]) for n in range(len(tokens) - order + 1)]


def distinct(prediction: str, order: int, language: Language) -> float:
    """Different n-grams among all n-grams of a reply, in [0, 1] (Li et al. 2016, section 5.1); 1 where it has none."""
    grams = n_grams(words(prediction, language), order)
    return len(set(grams)) / len(grams) if grams else 1.0


def repeated(prediction: str, before: Sequence[str], order: int, language: Language) -> float:
    """Part of the n-grams of a reply that stand earlier in it or in the texts ``before``, in [0, 1]; 0 where it has none.

    (As rep-n, Welleck et al. 2020, section 6.1, with what was said before counted too.)
    """
    seen = {gram for text in before for gram in n_grams(words(text, language), order)}
    grams = n_grams(words(prediction, language), order)
    again = 0
    for gram in grams:
        again += gram in seen
        seen.add(gram)
    return again / len(grams) if grams else 0.0


def outside_length(prediction: str, least: int, most: int, language: Language) -> float:
    """How far a reply's number of words lies outside [least, most], as a part of the bound that it misses; at most 1."""
    count = len(words(prediction, language))
    if count < least:
        return (least - count) / least
    return min(1.0, (count - most) / most) if count > most else 0.0


def meteor(prediction: str, reference: str, language: Language) -> float:
    """METEOR without synonyms, in [0, 1]: words match as they are or by their Porter stem (Banerjee and Lavie 2005).

    The stage of synonyms is left out, for it needs WordNet, a download of its own. Computed by nltk.
    """
    from nltk.translate.meteor_score import single_meteor_score  # here, since it takes seconds to import

    mine, other = words(prediction, language), words(reference, language)
    return float(single_meteor_score(other, mine, wordnet=_NoSynonyms())) if mine and other else 0.0


class _NoSynonyms:
    """In the place of WordNet: no word has a synonym."""

    def synsets(self, word: str) -> list[str]:
        return []
