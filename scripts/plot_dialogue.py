"""Draws what docs/results/dialogue.json holds: reward and ROUGE-L against the KL from where learning from rewards began.

    python scripts/plot_dialogue.py                # docs/results/dialogue_<data set>.png, one figure for each data set

Solid lines are the reward of the replies that were sampled to be learned from. Dots are dev replies, greedy (full) and sampled
(hollow), by ROUGE-L: where a reward goes on rising and the dots fall, the policy has learned to please the reward alone.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from _figures import canvas, plot_results
from _rows import Row, ended
from _tables import NAMES

Points = Sequence[Sequence[float]]


def ways(rows: Sequence[Row], data_set: str) -> dict[str, list[Mapping[str, Points]]]:
    """What each row of a data set went through, run by run; rows that learned from no reward have nothing."""
    found: dict[str, list[Mapping[str, Points]]] = {}
    for row in rows:
        if row["data_set"] == data_set:
            some = [run["way"] for run in row["runs"] if run.get("way", {}).get("dev")]
            if some:
                found[row["title"].removeprefix("then ")] = some
    return found


def draw(found: Mapping[str, Sequence[Mapping[str, Points]]], path: Path, title: str) -> None:
    """Write one figure: rewards on the left, ROUGE-L of dev on the right; RlftError without matplotlib."""
    figure, save = canvas(path)
    left, right = figure.subplots(1, 2, sharex=True)
    for number, (name, runs) in enumerate(found.items()):
        color = f"C{number}"
        for n, way in enumerate(runs):
            label = name if n == 0 else None
            if way.get("reward"):
                left.plot(*_columns(way["reward"], 0, 1), color=color, label=label)
            right.plot(*_columns(way["dev"], 0, 2), color=color, marker="o", label=label)
            right.plot(*_columns(way["dev"], 0, 1), color=color, marker="o", mfc="none", linestyle="--")
    left.set(xlabel="KL from the start, nats a reply", ylabel="reward of sampled training replies", title=title)
    right.set(
        xlabel="KL from the start, nats a reply", ylabel="dev ROUGE-L: greedy (full), sampled (hollow)", xlim=(0, None)
    )
    right.legend(loc="best", fontsize="small")
    save()


def _columns(points: Points, x: int, y: int) -> tuple[list[float], list[float]]:
    return [point[x] for point in points], [point[y] for point in points]


def figures(content: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw them all; returns their paths."""
    made = []
    for data_set in dict.fromkeys(row["data_set"] for row in content["rows"]):
        found = ways(content["rows"], data_set)
        if found:
            path = folder / f"dialogue_{data_set}.png"
            draw(found, path, NAMES.get(data_set, data_set))
            made.append(path)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the results, draw, and say where the figures are."""
    return plot_results(__doc__ or "", "dialogue", figures, arguments)


if __name__ == "__main__":
    sys.exit(ended(main))
