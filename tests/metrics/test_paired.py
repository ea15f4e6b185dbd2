"""Paired comparisons: golden values by hand, and that they are differences of the metrics that are reported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rlft_cli.errors import RlftError
from rlft_cli.metrics.bootstrap import Floats, ratio
from rlft_cli.metrics.classification import compare_classes, score_classes
from rlft_cli.metrics.paired import paired_bootstrap, win_rate
from rlft_cli.metrics.spans import compare_spans, score_spans
from rlft_cli.metrics.text import compare_text, score_text

REPLIES = (
    ["a latte to go please", "two of them", "no thanks", "hot", "that is all"],
    ["a latte please", "two", "no thank you", "cold", "that is all"],
    ["a latte to go", "two of them", "no thanks", "hot please", "that is it"],
)
TAGS = (
    [["B-PER", "O"], ["B-LOC", "I-LOC", "O"], ["O"], ["B-PER"]],
    [["O", "O"], ["B-LOC", "O", "O"], ["B-ORG"], ["B-PER"]],
    [["B-PER", "O"], ["B-LOC", "I-LOC", "O"], ["B-ORG"], ["O"]],
)
CLASSES = (["x", "y", "x", "z", "x"], ["x", "x", "x", "z", "y"], ["x", "y", "z", "z", "x"])


def share(totals: Floats) -> dict[str, Floats]:
    return {"share": ratio(totals[:, 0], totals[:, 1])}


def test_both_systems_are_drawn_together() -> None:
    # Two examples: ours is right of 1 on the first only, theirs on the second only. The resamples are (2, 0), (1, 1) and
    # (0, 2) with chances 1/4, 1/2, 1/4; differences of the shares: 1 - 0, 1/2 - 1/2, 0 - 1.
    ours, theirs = np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([[0.0, 1.0], [1.0, 1.0]])
    found = paired_bootstrap(ours, theirs, share, seed=1, resamples=400)["share"]
    assert found == {"value": 0.0, "low": -1.0, "high": 1.0}
    # The same examples right: whatever is drawn, there is no difference.
    assert paired_bootstrap(ours, ours, share, seed=1, resamples=400)["share"] == {"value": 0, "low": 0, "high": 0}


def test_sums_are_taken_before_the_ratio() -> None:
    # Shares of sums: (1 + 3) / (2 + 4) - (1 + 1) / (2 + 2) = 2/3 - 1/2
    ours, theirs = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 2.0], [1.0, 2.0]])
    assert paired_bootstrap(ours, theirs, share, 1, 50)["share"]["value"] == pytest.approx(2 / 3 - 1 / 2, abs=1e-12)


def test_a_tie_is_half_a_win() -> None:
    # one win, two ties, one loss: (1 + 2/2) / 4
    assert win_rate([1.0, 2.0, 3.0, 0.0], [0.0, 2.0, 4.0, 0.0], 1, 100)["value"] == 0.5
    assert win_rate([1.0, 1.0], [0.0, 0.0], 1, 100) == {"value": 1.0, "low": 1.0, "high": 1.0}
    # 400 examples, 300 won: .75 -+ 1.96 sqrt(.75 * .25 / 400) = .0424
    rate = win_rate([1.0] * 300 + [0.0] * 100, [0.5] * 400, 1, 4000)
    assert (rate["low"], rate["high"]) == (pytest.approx(0.75 - 0.0424, abs=4e-3), pytest.approx(0.7924, abs=4e-3))


@pytest.mark.parametrize(
    ("compare", "score", "given"),
    [
        (compare_text, score_text, REPLIES),
        (compare_spans, score_spans, TAGS),
        (compare_classes, score_classes, CLASSES),
    ],
    ids=["text", "spans", "classes"],
)
def test_a_difference_is_that_of_the_reported_metrics(
    compare: Callable[..., Any], score: Callable[..., Any], given: tuple[list[Any], list[Any], list[Any]]
) -> None:
    ours, theirs, references = given
    found = compare(ours, theirs, references, 1, 200)
    mine, other = score(ours, references, 1, 200), score(theirs, references, 1, 200)
    whole = {name for name in mine.keys() & other.keys() if "." not in name}
    left_out = {name for name in whole if name.startswith(("support", "reference_"))}
    assert {name for name in found if "." not in name} == whole - left_out
    for name in whole - left_out:
        assert found[name]["value"] == pytest.approx(mine[name]["value"] - other[name]["value"], abs=1e-9), name
        assert found[name]["low"] <= found[name]["value"] <= found[name]["high"], name
    same = compare(ours, ours, references, 1, 200)
    assert all(number == 0 for gap in same.values() for number in gap.values())
    turned = compare(theirs, ours, references, 1, 200)
    for name, gap in found.items():
        assert (turned[name]["low"], turned[name]["high"]) == (pytest.approx(-gap["high"]), pytest.approx(-gap["low"]))


def test_a_system_that_is_never_worse_has_an_interval_above_zero() -> None:
    # right wherever theirs is, and on 6 of 20 more: of each resample's examples about 30 % differ, none to our loss
    references = ["x"] * 20
    theirs = ["x"] * 10 + ["y"] * 10
    ours = ["x"] * 16 + ["y"] * 4
    gap = compare_classes(ours, theirs, references, 1, 1000)["accuracy"]
    assert gap["value"] == pytest.approx(0.3) and gap["low"] > 0


def test_bad_input_is_refused() -> None:
    with pytest.raises(RlftError, match="shape"):
        paired_bootstrap(np.ones((3, 2)), np.ones((2, 2)), share, 1, 10)
    with pytest.raises(RlftError, match="2 and 1 scores"):
        win_rate([1.0, 2.0], [1.0], 1, 10)
    with pytest.raises(RlftError, match="1 and 2 replies"):
        compare_text(["a"], ["a", "b"], ["a"], 1, 10)
    with pytest.raises(RlftError, match="0 references"):
        compare_classes([], [], [], 1, 10)
