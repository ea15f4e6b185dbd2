"""The bootstrap: weights, width, pairing and seeds."""

from __future__ import annotations

import numpy as np
import pytest

from rlft_cli.errors import RlftError
from rlft_cli.metrics import bootstrap
from rlft_cli.metrics.bootstrap import (
    bootstrap_mean,
    clustered_mean,
    paired_difference,
    ratio,
    resampled_totals,
    weights,
)


def test_weights_are_drawn_with_replacement() -> None:
    drawn = np.concatenate(list(weights(20, seed=0, resamples=3000)))
    assert drawn.shape == (3000, 20)
    assert (drawn.sum(axis=1) == 20).all()
    # multinomial: mean 1, variance n p (1 - p) = 20 * .05 * .95 = .95 of each; 60,000 draws, so about +-.02
    assert drawn.mean() == 1.0
    assert drawn.var() == pytest.approx(0.95, abs=0.03)


def test_totals_are_those_of_the_drawn_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = np.random.default_rng(0).integers(0, 9, size=(7, 3)).astype(np.float64)
    monkeypatch.setattr(bootstrap, "_CHUNK", 20)  # 2 rows a chunk
    drawn = np.concatenate(list(weights(7, seed=4, resamples=5)))
    assert (resampled_totals(counts, seed=4, resamples=5) == drawn @ counts).all()
    assert len(list(weights(7, seed=4, resamples=5))) == 3


def test_mean_interval_is_as_wide_as_the_normal_one() -> None:
    # 900 values of standard deviation 1: standard error 1/30, so 95 % is the mean -+ 1.96/30 = .0653
    values = np.random.default_rng(0).normal(size=900)
    values = (values - values.mean()) / values.std() + 5
    metric = bootstrap_mean(values, seed=1, resamples=4000)
    assert metric["value"] == pytest.approx(5.0)
    assert metric["high"] - metric["low"] == pytest.approx(2 * 0.0653, rel=0.06)
    assert all(type(number) is float for number in metric.values())


def test_pairing_sees_what_separate_intervals_do_not() -> None:
    # b is a plus .1 everywhere: the difference is certain however much the examples vary
    a = np.random.default_rng(0).normal(size=50)
    difference = paired_difference(a + 0.1, a, seed=0, resamples=500)
    assert [difference["low"], difference["high"]] == pytest.approx([0.1, 0.1])
    apart = bootstrap_mean(a, seed=0, resamples=500)
    assert apart["high"] - apart["low"] > 0.3


def test_scores_that_hang_together_are_resampled_together() -> None:
    # 60 clusters of 9 equal scores: as sure as 60 scores are; of 60 sizes, the mean is still that of all scores
    scores = np.random.default_rng(0).normal(size=60)
    cluster = np.random.default_rng(1).permutation(np.repeat(np.arange(60) + 7, 9)).tolist()
    many = [scores[n - 7] for n in cluster]
    width = {name: found["high"] - found["low"] for name, found in (
        ("clusters", clustered_mean(many, cluster, 1, 2000)),
        ("sixty", bootstrap_mean(scores, 1, 2000)),
        ("alone", bootstrap_mean(many, 1, 2000)),
    )}  # fmt: skip
    assert width["clusters"] == pytest.approx(width["sixty"], rel=0.01)
    assert width["alone"] == pytest.approx(width["sixty"] / 3, rel=0.1), "the twin: one by one"
    assert clustered_mean([1.0, 0.0, 0.0], [4, 2, 4], 1, 50)["value"] == pytest.approx(1 / 3)
    one_each = clustered_mean(scores, range(60), 1, 300)
    assert one_each == pytest.approx(bootstrap_mean(scores, 1, 300))


def test_seeds_decide() -> None:
    values = [0.0, 1.0, 1.0, 0.5, 0.25]
    assert bootstrap_mean(values, 1, 100) == bootstrap_mean(values, 1, 100)
    assert bootstrap_mean(values, 1, 100) != bootstrap_mean(values, 2, 100)


def test_anything_over_zero_is_zero() -> None:
    assert ratio(np.array([1.0, 3.0]), np.array([0.0, 2.0])).tolist() == [0.0, 1.5]


def test_bad_input_is_refused() -> None:
    with pytest.raises(RlftError, match="1 clusters were given for 2 scores"):
        clustered_mean([1.0, 0.0], [0], 1, 10)
    with pytest.raises(RlftError, match="0 examples"):
        resampled_totals(np.zeros((0, 1)), 0, 10)
    with pytest.raises(RlftError, match="0 bootstrap resamples"):
        bootstrap_mean([1.0], 0, 0)
    with pytest.raises(RlftError, match="2 and 1 scores"):
        paired_difference([1.0, 2.0], [1.0], 0, 10)
