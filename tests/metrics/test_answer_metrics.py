"""Exact match and token F1 by hand, and where either side says nothing."""

from __future__ import annotations

from typing import Any

import pytest

from rlft_cli.errors import RlftError
from rlft_cli.metrics.answers import exact_match, score_answers, token_f1
from rlft_cli.metrics.text import repetition


@pytest.mark.parametrize(
    ("prediction", "reference", "language", "match", "f1"),
    [
        ("The Eiffel Tower!", "eiffel tower", "en", 1.0, 1.0),
        ("in the year 1990", "1990", "en", 0.0, 0.5),  # 2 x 1 / (3 + 1): in, year, 1990
        ("a a b b", "b b b c", "en", 0.0, 2 * 2 / (2 + 4)),  # "a" is an article: b b, and b b b c
        ("Tower Eiffel", "Eiffel Tower", "en", 0.0, 1.0),
        ("", "Paris", "en", 0.0, 0.0),
        ("the", "", "en", 1.0, 1.0),  # neither has a token
        ("北京市。", "北京", "zh", 0.0, 2 * 2 / (3 + 2)),
        ("1990年", "1990 年", "zh", 1.0, 1.0),
    ],
)
def test_answers_by_hand(prediction: str, reference: str, language: Any, match: float, f1: float) -> None:
    assert exact_match(prediction, reference, language) == match
    assert token_f1(prediction, reference, language) == pytest.approx(f1)
    assert token_f1(reference, prediction, language) == pytest.approx(f1)  # precision and recall change places


def test_lists_of_unequal_length_and_none_are_refused() -> None:
    with pytest.raises(RlftError, match="1 predicted replies for 2 reference replies"):
        score_answers(["a"], ["a", "b"], 0, 5, "en")
    with pytest.raises(RlftError, match="nothing to score"):
        score_answers([], [], 0, 5, "en")


def test_repetition_is_the_share_of_4_grams_that_were_there_before() -> None:
    assert repetition("a b c d e".split()) == 0
    assert repetition("a b c".split()) == 0  # no 4-gram
    assert repetition("x x x x x x".split()) == pytest.approx(2 / 3)  # 3 of one kind
    assert repetition("a b c d a b c d".split()) == pytest.approx(1 / 5)  # abcd bcda cdab dabc abcd
