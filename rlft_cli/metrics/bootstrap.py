"""How sure a metric is: percentile bootstrap intervals from a seeded generator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from rlft_cli.errors import RlftError

Floats = NDArray[np.float64]
Interval = dict[str, float]  # {"value":, "low":, "high":}, plain floats, low and high bound 95 %
Statistic = Callable[[Floats], dict[str, Floats]]  # totals [R, C] -> {name: [R]}

_CHUNK = 1 << 20  # drawn indices held at a time


def interval(value: float, drawn: Floats) -> Interval:
    """Make the 95 % percentile interval of a statistic from its resampled values [R].

    Equation: [q_.025, q_.975] of the resampled values (Efron & Tibshirani 1993, section 13.3).
    """
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"value": float(value), "low": float(low), "high": float(high)}


def weights(examples: int, seed: int, resamples: int) -> Iterator[Floats]:
    """Yield, in chunks [r, S], how often each of S examples is in each resample; each row sums to S.

    The same (examples, seed, resamples) gives the same weights, so all metrics of one evaluation share resamples.
    Raises RlftError without examples or without resamples.
    """
    if examples < 1:
        raise RlftError("nothing to score: 0 examples were given, at least 1 was expected; is the split empty?")
    if resamples < 1:
        raise RlftError(f"{resamples} bootstrap resamples were asked for, at least 1 was expected (1000 is usual)")
    generator = np.random.default_rng(seed)
    rows = max(1, _CHUNK // examples)
    for first in range(0, resamples, rows):
        count = min(rows, resamples - first)
        chosen = generator.integers(examples, size=(count, examples))
        chosen += np.arange(count)[:, None] * examples  # one bincount for the whole chunk
        counts = np.bincount(chosen.reshape(-1), minlength=count * examples)
        yield counts.reshape(count, examples).astype(np.float64)


def resampled_totals(counts: Floats, seed: int, resamples: int) -> Floats:
    """Sum per-example sufficient statistics [S, C] over each resample of the examples: [R, C]."""
    return np.concatenate([chunk @ counts for chunk in weights(len(counts), seed, resamples)])


def bootstrap(counts: Floats, statistic: Statistic, seed: int, resamples: int) -> dict[str, Interval]:
    """Intervals of statistics that depend on the examples through sums of ``counts`` [S, C] alone."""
    drawn = statistic(resampled_totals(counts, seed, resamples))
    observed = statistic(counts.sum(axis=0, keepdims=True))
    return {name: interval(float(observed[name][0]), drawn[name]) for name in observed}


def bootstrap_mean(values: Sequence[float] | Floats, seed: int, resamples: int) -> Interval:
    """Mean of per-example scores [S] with its interval."""
    scores = np.asarray(values, dtype=np.float64)
    drawn = resampled_totals(scores[:, None], seed, resamples)[:, 0] / len(scores)
    return interval(float(scores.mean()), drawn)


def clustered_mean(values: Sequence[float] | Floats, cluster: Sequence[int], seed: int, resamples: int) -> Interval:
    """Mean of scores [S] with an interval from resampling whole clusters: ``cluster`` [S] says which scores hang together.

    Scores of one cluster (several replies to one prompt) are not independent, and resampling them one by one makes
    intervals too narrow (Field and Welsh 2007, "cluster bootstrap"). RlftError unless there is one cluster for each score.
    """
    if len(values) != len(cluster):
        raise RlftError(f"{len(cluster)} clusters were given for {len(values)} scores; expected one for each")
    _, place = np.unique(np.asarray(cluster), return_inverse=True)
    totals = np.zeros((int(place.max(initial=-1)) + 1, 2))
    np.add.at(totals, place, np.stack([np.asarray(values, dtype=np.float64), np.ones(len(values))], axis=1))
    return bootstrap(totals, lambda t: {"mean": ratio(t[:, 0], t[:, 1])}, seed, resamples)["mean"]


def paired_difference(a: Sequence[float] | Floats, b: Sequence[float] | Floats, seed: int, resamples: int) -> Interval:
    """Mean of a - b over the same examples, each resample drawn for both (Koehn 2004, section 4).

    The interval leaves out 0 where the two systems differ at the 5 % level.
    Raises RlftError unless ``a`` and ``b`` hold scores of the same number of examples.
    """
    if len(a) != len(b):
        raise RlftError(
            f"a paired difference was asked for {len(a)} and {len(b)} scores; "
            "expected one score of each system for each example, in the same order"
        )
    return bootstrap_mean(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64), seed, resamples)


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Divide element by element, with 0 where the denominator is 0 (the convention of conlleval and scikit-learn)."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    return np.divide(numerator, denominator, out=np.zeros(denominator.shape), where=denominator != 0)
