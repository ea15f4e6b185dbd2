"""How goal-oriented dialogues went: success, turns, ways to fail, and the gain over other dialogues with the same users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlft_cli.metrics.bootstrap import Floats, Interval, bootstrap, ratio
from rlft_cli.metrics.paired import paired_bootstrap

Outcome = Mapping[str, Any]  # "success": bool, "turns": int, "ended": closed, gave_up or too_long


def score_goals(
    outcomes: Sequence[Outcome], references: Sequence[Outcome], seed: int, resamples: int
) -> dict[str, Interval]:
    """Means over S dialogues with 95 % bootstrap intervals, and their paired differences to ``references`` [S].

    ``turns_of_successes`` is a ratio of two sums, and 0 where no dialogue succeeded.
    """
    columns = np.stack([*_columns(outcomes), *_columns(references)[:2], np.ones(len(outcomes))], axis=1)
    return bootstrap(columns, _statistics, seed, resamples)


def compare_goals(ours: Sequence[Outcome], theirs: Sequence[Outcome], seed: int, resamples: int) -> dict[str, Interval]:
    """Differences, ours minus theirs, of success, turns and ways to fail with paired 95 % bootstrap intervals."""
    mine, other = (np.stack([*_columns(each), np.ones(len(each))], axis=1) for each in (ours, theirs))
    return paired_bootstrap(mine, other, _means, seed, resamples)


def _means(totals: Floats) -> dict[str, Floats]:
    """Metrics [R] of one policy from sums [R, 6]."""
    success, turns, wrong, gave_up, turns_won, count = totals.T
    return {
        "success": success / count,
        "turns": turns / count,
        "turns_of_successes": ratio(turns_won, success),
        "booked_wrong": wrong / count,
        "gave_up": gave_up / count,
    }


def _columns(outcomes: Sequence[Outcome]) -> list[Floats]:
    success = np.array([float(one["success"]) for one in outcomes])
    turns = np.array([float(one["turns"]) for one in outcomes])
    ended = [one["ended"] for one in outcomes]
    wrong = np.array([float(how == "closed") for how in ended]) - success
    return [success, turns, wrong, np.array([float(how == "gave_up") for how in ended]), success * turns]


def _statistics(totals: Floats) -> dict[str, Floats]:
    """Metrics [R] from sums [R, 8]."""
    success, turns, success_before, turns_before, count = totals[:, [0, 1, 5, 6, 7]].T
    return {
        **_means(totals[:, [0, 1, 2, 3, 4, 7]]),
        "success_gain": (success - success_before) / count,
        "extra_turns": (turns - turns_before) / count,
    }
