"""Which of two systems is better on the same examples: paired bootstrap differences and win rates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlft_cli.errors import RlftError
from rlft_cli.metrics.bootstrap import Floats, Interval, Statistic, bootstrap, bootstrap_mean


def paired_bootstrap(
    ours: Floats, theirs: Floats, statistic: Statistic, seed: int, resamples: int
) -> dict[str, Interval]:
    """Difference f(ours) - f(theirs) of statistics that depend on the examples through sums of counts [S, C] alone.

    Each resample is drawn once and taken for both systems (Koehn 2004, section 4), so that examples that are hard for both
    do not widen the interval. RlftError unless both count the same examples.
    """
    if ours.shape != theirs.shape:
        raise RlftError(f"a paired difference was asked for counts of shape {ours.shape} and {theirs.shape}")
    width = ours.shape[1]

    def difference(totals: Floats) -> dict[str, Floats]:
        mine, other = statistic(totals[:, :width]), statistic(totals[:, width:])
        return {name: mine[name] - other[name] for name in mine}

    return bootstrap(np.concatenate([ours, theirs], axis=1), difference, seed, resamples)


def win_rate(ours: Sequence[float] | Floats, theirs: Sequence[float] | Floats, seed: int, resamples: int) -> Interval:
    """Share of examples on which our score is the higher one, a tie counting half: P(X > Y) + P(X = Y) / 2, in [0, 1].

    One half is "no difference". Scores [S] of the same examples in the same order; RlftError for unequal numbers.
    """
    if len(ours) != len(theirs):
        raise RlftError(
            f"a win rate was asked for {len(ours)} and {len(theirs)} scores; expected one a system and example"
        )
    mine, other = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    return bootstrap_mean((mine > other) + 0.5 * (mine == other), seed, resamples)
