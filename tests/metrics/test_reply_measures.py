"""Measures of one reply, by hand."""

from __future__ import annotations

import pytest

from rlft_cli.errors import UsageError
from rlft_cli.metrics.replies import distinct, meteor, outside_length, repeated, words
from rlft_cli.reward.length import Length


def test_words() -> None:
    assert words("It's 5 o'clock, Anna!", "en") == ["it", "s", "5", "o", "clock", "anna"]
    assert words("我要2杯 Latte。", "zh") == ["我", "要", "2", "杯", "latte"]


def test_distinct() -> None:
    assert distinct("a b a b a", 2, "en") == 2 / 4  # ab ba ab ba
    assert distinct("a b c", 2, "en") == 1.0
    assert distinct("a", 2, "en") == distinct("", 1, "en") == 1.0  # nothing that could repeat


def test_repeated() -> None:
    assert repeated("a b a b a", [], 2, "en") == 2 / 4
    assert repeated("a b c", ["x a b", "b c"], 2, "en") == 1.0
    assert repeated("a b c", ["x a b"], 2, "en") == 1 / 2
    assert repeated("a", ["a"], 2, "en") == 0.0


@pytest.mark.parametrize(("count", "value"), [(0, 1.0), (1, 0.5), (2, 0.0), (4, 0.0), (5, 0.25), (9, 1.0)])
def test_outside_length(count: int, value: float) -> None:
    assert outside_length(" ".join(["a"] * count), 2, 4, "en") == value


def test_bounds_of_a_length_in_the_wrong_order() -> None:
    with pytest.raises(UsageError, match=r"reward\.least_words=5 is above reward\.most_words=4"):
        Length(least_words=5, most_words=4, language="en")


def test_meteor() -> None:
    # the, cat(s), sat: P 3/4, R 1, F = 10 P R / (R + 9 P) = 7.5 / 7.75; one chunk of three: 1 - .5 / 27
    assert meteor("the cats sat on", "The cat sat.", "en") == pytest.approx(7.5 / 7.75 * (1 - 0.5 / 27))
    # sat the cat: three matches, chunks "sat" and "the cat": 1 - .5 (2/3)^3
    assert meteor("sat the cat", "the cat sat", "en") == pytest.approx(1 - 0.5 * (2 / 3) ** 3)
    assert meteor("", "a", "en") == meteor("b", "a", "en") == meteor("a", "", "en") == 0.0
