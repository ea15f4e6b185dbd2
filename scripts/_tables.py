"""What the tables of results share: how they are printed, how they become Markdown, and the scripts' command line."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _rows import REPOSITORY, Row, Spec, Table, chosen, data_folder, done_seeds, duration, interval, make, number

from rlft_cli.console import Console
from rlft_cli.errors import UsageError

NAMES = {
    "wnut17": "WNUT-17",
    "wnut17_part": "WNUT-17, a part",
    "btc_twitter": "Broad Twitter Corpus",
    "btc_part": "Broad Twitter Corpus, a part",
    "trec6": "TREC-6",
    "trec6_part": "TREC-6, a part",
    "sst2": "SST-2",
    "clinc150": "CLINC150",
    "clinc150_part": "CLINC150, a part",
    "taskmaster4_coffee": "Taskmaster-4 coffee",
    "dailydialog": "DailyDialog",
    "dailydialog_pp_pref": "DailyDialog++ preferences",
    "sgd": "Schema-Guided Dialogue",
    "kdconv_zh": "KdConv (Chinese)",
    "goals": "simulated users",
    "sample": "packaged sample",
}
METRIC_NAMES = {
    "f1": "strict span F1",
    "f1_conlleval": "conlleval F1",
    "accuracy": "accuracy",
    "rouge_l": "ROUGE-L",
    "bleu": "BLEU",
    "chrf": "chrF",
    "success": "success rate",
}


# -- showing ------------------------------------------------------------------------------------------------------


def reference(row: Row, rows: Sequence[Row]) -> Row | None:
    """The supervised row that a row is measured by."""
    same = [r for r in rows if (r["data_set"], r["task"]) == (row["data_set"], row["task"])]
    return next((r for r in same if r["algorithm"] == "supervised" and r is not row), None)


def share_of(row: Row, rows: Sequence[Row]) -> float | None:
    """A row's value as a share of the supervised one's."""
    other = reference(row, rows)
    return row["value"] / other["value"] if other is not None and other["value"] > 0 else None


def used(row: Row) -> str:
    """``170 labels + 81,456 reactions``."""
    parts = [f"{row[what]:,.0f} {what}" for what in ("labels", "reactions") if row[what]]
    return " + ".join(parts) or "no labels"


def show(console: Console, title: str, rows: Sequence[Row]) -> None:
    """Print rows as a table."""
    columns = ("row", "metric", "value", "of supervised", "also", "train", "used", "seeds", "size")
    cells = []
    for row in rows:
        share = share_of(row, rows)
        also = ", ".join(f"{name} {number(found['value'])}" for name, found in row["also"].items())
        cells.append(
            (
                row["name"],
                row["metric"],
                interval(row),
                None if share is None else f"{share:.0%}",
                also or None,
                duration(row["seconds"]),
                used(row),
                len(row["seeds"]),
                row["note"],
            )
        )
    console.table(f"{title} (test split)", columns, cells)
    wall = sum(row["wall_seconds"] for row in rows)
    text = f"{len(rows)} rows, {wall:.0f} seconds altogether ({wall / 60:.0f} minutes)"
    console.line(text, wall_seconds=round(wall, 1))


def legend(content: Mapping[str, Any], rows: Sequence[Row], shares: bool) -> list[str]:
    """What the numbers are, in sentences."""
    facts, several = content["machine"], any(len(row["seeds"]) > 1 for row in rows)
    notes = dict.fromkeys((NAMES.get(row["data_set"], row["data_set"]), row["note"]) for row in rows)
    chosen_on_dev = [row for row in rows if row["dev_labels"]]
    dev = dict.fromkeys((NAMES.get(r["data_set"], r["data_set"]), r["dev_labels"]) for r in chosen_on_dev)
    choosers = " and ".join(dict.fromkeys(row["algorithm"] for row in chosen_on_dev))
    lines = [
        "Test split. In brackets: 95 % bootstrap interval over the test examples"
        + ("; for several seeds the mean, and the lowest and highest of them" if several else "")
        + (". In parentheses: share of the supervised value" if shares else "")
        + ". A label is an example whose reference the learner saw; a "
        "reaction is the judgement of one sampled sentence, text or reply (on sentences it holds one number per word). "
        "Times are of training alone.",
        "Sizes: " + "; ".join(f"{name}: {note}" for name, note in notes) + ".",
    ]
    if dev:
        lines.append(
            f"To choose the best checkpoint, the {choosers} runs also read the labels of the dev split: "
            + ", ".join(f"{name} {count:,}" for name, count in dev)
            + "; the others kept the last one."
        )
    lines.append(
        f"Measured on {facts['cpu']}, {facts['cores']} cores, torch {facts['torch']}, transformers "
        f"{facts['transformers']}; {content['clock_seconds'] / 60:.0f} minutes for the whole table"
        + (
            f", {most} rows at a time."
            if (most := max(run["jobs"] for row in rows for run in row["runs"])) > 1
            else "."
        )
    )
    return [line for text in lines for line in (text, "")][:-1]


def commands(rows: Sequence[Row]) -> list[str]:
    commands = [run["command"] for row in rows for run in row["runs"]]
    head = "<details><summary>The commands (<code>RLFT_DATA</code> is the folder of the data sets)</summary>"
    return [head, "", "```", *commands, "```", "", "</details>"]


# -- the command line ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Script:
    """A script that makes the rows of a table and prints it."""

    doc: str  # of the script: what it is, and how it is used
    about: str  # of the results file
    title: str  # of the printed table
    name: str  # of the results file and, with "_table", of the folder of the runs
    specs: tuple[Spec, ...]
    quick: tuple[Spec, ...]  # what --quick makes of them

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Make the rows that are missing and print the table; 1 where a row failed."""
        options = self._options(arguments)
        console = Console(options.console)
        every = self.quick if options.quick else self.specs
        runs = options.runs / "quick" if options.quick else options.runs
        path = options.results or (runs / "quick.json" if options.quick else self._results())
        table = Table(path=path, about=self.about, order=tuple(spec.name for spec in every))
        some = chosen(every, options.only)
        if options.list:
            _list(console, some, table)
            return 0
        data = data_folder(options.data, some)
        if options.jobs < 1:
            raise UsageError(f"--jobs {options.jobs}: expected 1 or more")
        failed = make(some, table, runs=runs, data=data, again=options.again, jobs=options.jobs, say=console.line)
        rows = table.rows()
        show(console, self.title, [rows[name] for name in table.order if name in rows])
        for command in failed:
            console.warn(f"failed: {command}")
        return 1 if failed else 0

    def _results(self) -> Path:
        return REPOSITORY / f"docs/results/{self.name}.json"

    def _options(self, arguments: Sequence[str] | None) -> argparse.Namespace:
        about, _, examples = self.doc.partition("\n\n")
        as_it_is = argparse.RawDescriptionHelpFormatter
        parser = argparse.ArgumentParser(
            description=about, epilog=examples, formatter_class=as_it_is, allow_abbrev=False
        )
        first = self.specs[0].name
        add = parser.add_argument
        add("--quick", action="store_true", help="the packaged samples at small size; minutes")
        add("--only", metavar="NAME[,NAME]", help=f"rows to make: {first.split('/')[0]} (all of it) or {first}")
        add("--data", metavar="DIR", help="folder of the data sets (default: the environment's RLFT_DATA)")
        results = f"default: docs/results/{self.name}.json; with --quick: quick.json in the folder of the runs"
        add("--results", metavar="FILE", type=Path, help=results)
        runs = Path(f"runs/{self.name}_table")
        add("--runs", metavar="DIR", type=Path, default=runs, help="folder of the runs and logs (default: %(default)s)")
        add("--again", action="store_true", help="make the rows again even where they are finished")
        add("--jobs", type=int, default=1, help="rows at a time, which share the processors (default: 1)")
        add("--list", action="store_true", help="show the rows and their commands, and run nothing")
        add("--console", choices=("auto", "rich", "plain", "json"), default="auto", help="how to print")
        return parser.parse_args(arguments)


def _list(console: Console, some: Sequence[Spec], table: Table) -> None:
    rows = table.rows()
    for spec in some:
        row, done = rows.get(spec.name), len(done_seeds(spec, rows.get(spec.name)))
        state = "finished" if done == len(spec.seeds) else f"{done} of {len(spec.seeds)} runs"
        if row is not None and not done:
            state = "changed since it was run"
        seconds = f", {row['wall_seconds']:.0f} s" if row is not None and done else ""
        console.line(f"{spec.name} ({state}{seconds})", row=spec.name, state=state)
        for step in spec.before:
            console.line(f"    {' '.join(['rlft', *step.words])}", command=" ".join(["rlft", *step.words]))
        for seed in spec.seeds:
            console.line(f"    {spec.command(seed)}", command=spec.command(seed))
