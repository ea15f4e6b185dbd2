"""Draws what docs/results/feedback.json holds: the dev metric and the regret against the number of reactions.

python scripts/plot_feedback.py                # docs/results/feedback_<data set>.png and feedback_<data set>_regret.png
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from _figures import Curve, draw, plot_results
from _rows import Row, ended
from _tables import METRIC_NAMES, NAMES


def learning(rows: Sequence[Row]) -> dict[str, list[Curve]]:
    """Dev metric against reactions of every row that has them; what took none is a level. Runs of old tables have none."""
    found: dict[str, list[Curve]] = {}
    for row in rows:
        if row["feedback"] == "logged":  # its reactions were not asked for one by one
            continue
        for run in row["runs"]:
            points = judged(run, run.get("curves", {}).get(f"dev.{row['metric']}", []))
            if row["algorithm"] == "supervised" and points:
                points = [[0, max(value for _, value in points)]]
            if points:
                found.setdefault(row["title"], []).append(([x for x, _ in points], [y for _, y in points]))
    return found


def judged(run: Mapping[str, Any], points: Sequence[Sequence[float]]) -> list[list[float]]:
    """[Reactions, value] with reactions as the tables count them: judged answers, where a log counts each number told.

    A sentence has one number for each word, so that both grow alike.
    """
    told = points[-1][0] if points else 0
    return [[x * run["reactions"] / told if told else x, y] for x, y in points]


def regret(rows: Sequence[Row]) -> dict[str, list[Curve]]:
    """Regret against reactions of the rows from reactions alone."""
    found: dict[str, list[Curve]] = {}
    for row in rows:
        for run in row["runs"]:
            points = judged(run, run.get("curves", {}).get("regret", []))
            if points and row["labels"] == 0:
                curve = ([0.0, *(x for x, _ in points)], [0.0, *(y for _, y in points)])
                found.setdefault(row["title"].removeprefix("bandit alone, "), []).append(curve)
    return found


def figures(content: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw them all; returns their paths."""
    made = []
    for data_set in dict.fromkeys(row["data_set"] for row in content["rows"]):
        rows = [row for row in content["rows"] if row["data_set"] == data_set]
        title, metric = NAMES.get(data_set, data_set), METRIC_NAMES[rows[0]["metric"]]
        for end, curves, y in (
            ("", learning(rows), f"dev {metric}"),
            ("_regret", regret(rows), "regret (wrong decisions so far)"),
        ):
            if len(curves) > 1:
                path = folder / f"feedback_{data_set}{end}.png"
                draw(curves, path, x="reactions", y=y, legend="learned from (seeds)", title=title)
                made.append(path)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the results, draw, and say where the figures are."""
    return plot_results(__doc__ or "", "feedback", figures, arguments)


if __name__ == "__main__":
    sys.exit(ended(main))
