"""Curves as PNG files, for the scripts that draw."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _rows import REPOSITORY, read_json

from rlft_cli.errors import RlftError

COLORS = 10  # of the cycle C0, C1, ...
Curve = tuple[Sequence[float], Sequence[float]]  # x and y of the points


def together(curves: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray]:
    """Points [x] that all curves reach, and the value of each there [n, x]."""
    begin, end = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    points = np.linspace(begin, end, 200)
    return points, np.stack([np.interp(points, x, y) for x, y in curves])


def canvas(path: Path) -> tuple[Any, Callable[[], None]]:
    """An empty figure, and what writes it to ``path``; RlftError without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise RlftError('figures need matplotlib; type: pip install "rlft[plot]"') from error
    figure = Figure(figsize=(10.0, 4.5), layout="constrained")
    return figure, lambda: FigureCanvasAgg(figure).print_png(str(path))


def draw(curves: Mapping[str, Sequence[Curve]], path: Path, *, x: str, y: str, legend: str, title: str = "") -> None:
    """Write a figure with one line for each name: the mean of its curves, and their range; RlftError without matplotlib."""
    figure, save = canvas(path)
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter  # once it is known to be there

    axes = figure.subplots()
    ends = []
    for n, (name, some) in enumerate(curves.items()):
        points, values = together(some)
        label = f"{name} ({len(some)})" if len(some) > 1 else name
        if points[0] == points[-1]:  # a level that took no reaction
            axes.axhline(values.mean(), label=label, linestyle=":", color=f"C{n}")
            continue
        ends.append(points[-1])
        style = ("-", "--", "-.")[n // COLORS % 3]  # colours come again
        axes.plot(points, values.mean(0), label=label, color=f"C{n}", linestyle=style)
        axes.fill_between(points, values.min(0), values.max(0), alpha=0.2, color=f"C{n}")
    axes.set(xlabel=x, ylabel=y, title=title)
    if ends and max(ends) > 8 * min(ends):  # short ones would be a stroke at the edge
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(0, None)
    axes.legend(title=legend, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save()


def plot_results(
    doc: str,
    name: str,
    figures: Callable[[Mapping[str, Any], Path], Sequence[Path]],
    arguments: Sequence[str] | None = None,
) -> int:
    """The command line of a script that draws docs/results/<name>.json: read, draw with ``figures``, say where."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    results = REPOSITORY / "docs/results"
    parser.add_argument("--results", type=Path, default=results / f"{name}.json", help="default: %(default)s")
    parser.add_argument("--output", metavar="DIR", type=Path, default=results, help="default: %(default)s")
    options = parser.parse_args(arguments)
    made = figures(read_json(options.results), options.output)
    if not made:
        raise RlftError(f"{options.results} has no curves yet; make rows with scripts/reproduce_{name}_table.py")
    print("\n".join(str(path) for path in made))
    return 0
