"""Draws the regret of runs against the reactions that they used, from their metrics.jsonl, as a PNG.

python scripts/plot_regret.py regret.png runs/classification/dqn/*     # one line per exploration strategy

Runs of one strategy (other seeds) are averaged, with the range between the lowest and the highest of them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
from _figures import Curve, draw

from rlft_cli.errors import RlftError, UsageError


def curve(run: Path) -> tuple[str, Curve]:
    """Exploration strategy and regret curve of a run; UsageError where it has none."""
    log, config = run / "metrics.jsonl", run / "config.yaml"
    if not (log.is_file() and config.is_file()):
        raise UsageError(f"{run} is not a run folder (it has no metrics.jsonl and config.yaml); give one of rlft train")
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    found = [(row["reactions"], row["regret"]) for row in rows if "regret" in row]
    if not found:
        raise UsageError(f"{run} logged no regret: it did not act, or its decisions are tokens; leave it out")
    name = str(yaml.safe_load(config.read_text(encoding="utf-8"))["options"]["explore"])
    return name, ([0.0, *(float(x) for x, _ in found)], [0.0, *(float(y) for _, y in found)])


def main(words: Sequence[str] | None = None) -> int:
    """Read the runs, draw, and say where the figure is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="PNG to write")
    parser.add_argument("run", type=Path, nargs="+", help="run folders of rlft train")
    given = parser.parse_args(words)
    try:
        curves: dict[str, list[Curve]] = {}
        for run in given.run:
            name, found = curve(run)
            curves.setdefault(name, []).append(found)
        some = dict(sorted(curves.items()))
        draw(some, given.output, x="reactions", y="regret (wrong decisions so far)", legend="explore (runs)")
    except RlftError as error:
        print(f"plot_regret: error: {error}", file=sys.stderr)
        return error.exit_status
    print(given.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
