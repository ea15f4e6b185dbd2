"""data=sample: all samples load clean, do not overlap, and can be cut to a fixed part."""

from __future__ import annotations

import pytest

from rlft_cli.data.checks import ROWS
from rlft_cli.data.survey import contradictions, overlaps, repeats, rows_of
from rlft_cli.errors import RlftError


@pytest.mark.parametrize("kind", ROWS)
def test_the_packaged_sample_is_clean(sample, kind: str) -> None:
    splits = sample().load(kind)
    rows = rows_of(splits)
    assert splits.messages == []
    assert min(map(len, rows.values())) >= 5
    assert [shared.count for shared in overlaps(kind, rows)] == [0, 0, 0]
    assert repeats(kind, rows["train"])[0] == 0
    assert kind not in ("tagged_words", "labelled_text") or contradictions(kind, rows) == {}


def test_a_label_that_the_cut_removed_is_refused_or_dropped(sample) -> None:
    with pytest.raises(RlftError, match=r"a larger data\.max_train, or data\.unseen_labels=drop"):
        sample(max_train=3).load("labelled_text")
    splits = sample(max_train=3, unseen_labels="drop").load("labelled_text")
    assert set(splits.test["label"]) <= set(splits.train["label"])


def test_it_can_be_cut(sample) -> None:
    splits = sample(max_train=8, max_dev=4, max_test=2).load("dialogue")
    assert (len(splits.train), len(splits.dev), len(splits.test)) == (8, 4, 2)
