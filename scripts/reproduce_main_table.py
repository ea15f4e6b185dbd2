"""The main table: supervised, DQN and REINFORCE on five data sets, each row by the public command.

    python scripts/reproduce_main_table.py --data FOLDER        # or RLFT_DATA=FOLDER
    python scripts/reproduce_main_table.py --quick              # packaged samples, minutes
    python scripts/reproduce_main_table.py --jobs 2             # two rows at a time: shorter on two cores
    python scripts/reproduce_main_table.py --only wnut17,trec6/dqn
    python scripts/reproduce_main_table.py --list

Finished rows are kept in the results file; stop it whenever you like and start it again to go on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from _rows import (
    REPOSITORY,
    Row,
    Spec,
    Table,
    chosen,
    data_folder,
    done_seeds,
    duration,
    ended,
    interval,
    make,
    number,
)

from rlft_cli.console import Console
from rlft_cli.errors import UsageError

ABOUT = "The main table: each row is what its command gave on the test split; see scripts/reproduce_main_table.py."


# fmt: off
# ======== the sizes: change them here, and nowhere else ===========================================================
#  data set               task              words that fit the budget           what a reader must know
SIZES: dict[str, tuple[str, tuple[str, ...], str]] = {
    "wnut17":             ("ner",            (),                                 "whole training set"),
    "btc_twitter":        ("ner",            ("data.max_train=1500",),           "1,500 of 6,338 training sentences"),
    "trec6":              ("classification", (),                                 "whole training set"),
    "clinc150":           ("classification", ("data.max_train=4500",),           "4,500 of 15,100 training texts"),
    "taskmaster4_coffee": ("dialogue",       ("data.max_train=300", "evaluation.max_examples=100"),
                           "300 of 3,032 training dialogues; 100 replies of dev and of test"),
}
#  further words of single rows; passes, warm start and rates are otherwise those of configs/recipe/
ROWS: dict[str, tuple[str, ...]] = {
    "wnut17/supervised": (),
    "wnut17/dqn": (),
    "wnut17/reinforce": (),
    "btc_twitter/supervised": (),
    "btc_twitter/dqn": (),
    "btc_twitter/reinforce": (),
    "trec6/supervised": (),
    "trec6/dqn": (),
    "trec6/reinforce": (),
    "clinc150/supervised": (),
    "clinc150/dqn": ("warm_start.fraction=0.1",),  # 5 % of 4,500 labels leave 34 of the 151 classes without any
    "clinc150/reinforce": ("warm_start.fraction=0.1",),
    "taskmaster4_coffee/untrained": (),
    "taskmaster4_coffee/supervised": (),
    "taskmaster4_coffee/dqn": ("passes=0.4",),
    "taskmaster4_coffee/reinforce": ("passes=0.25",),
}
SEEDS: dict[str, tuple[int, ...]] = {}  # rows with other seeds than (1,), by name: {"wnut17/dqn": (1, 2, 3)}
MODELS = {"ner": ("minilm", ()), "classification": ("minilm", ()), "dialogue": ("smollm2", ("tuning=lora",))}
METRICS = {"ner": ("f1", "f1_conlleval"), "classification": ("accuracy",), "dialogue": ("rouge_l", "bleu")}
#  --quick: the same rows on the packaged samples
QUICK = {
    "ner": ("data.max_train=120", "data.max_dev=40", "data.max_test=80", "passes=1", "warm_start.passes=2"),
    "classification": ("data.max_train=160", "data.max_dev=40", "data.max_test=80", "passes=1", "warm_start.passes=2"),
    "dialogue": ("data.max_train=12", "data.max_dev=4", "data.max_test=8", "passes=0.5", "evaluation.max_examples=8"),
}
# ==================================================================================================================

# fmt: on
FEEDBACK = {"untrained": "full", "supervised": "full", "dqn": "bandit", "reinforce": "bandit"}
UNTRAINED = ("optim.lr=0", "optim.head_lr=0", "passes=0.01", "selection.by=last")  # the weights stay as they are
UNTRAINED_NOTE = "pretrained weights as they are: a supervised run whose learning rates are 0"
NAMES = {
    "wnut17": "WNUT-17",
    "btc_twitter": "Broad Twitter Corpus",
    "trec6": "TREC-6",
    "clinc150": "CLINC150",
    "taskmaster4_coffee": "Taskmaster-4 coffee",
    "sample": "packaged sample",
}
METRIC_NAMES = {
    "f1": "strict span F1",
    "f1_conlleval": "conlleval F1",
    "accuracy": "accuracy",
    "rouge_l": "ROUGE-L",
    "bleu": "BLEU",
}


def specs() -> list[Spec]:
    """The rows of the table, in order."""
    return [_spec(name, further) for name, further in ROWS.items()]


def _spec(name: str, further: Sequence[str]) -> Spec:
    data_set, algorithm = name.split("/")
    task, sizes, note = SIZES[data_set]
    model, tuning = MODELS[task]
    untrained = algorithm == "untrained"
    return Spec(
        name=name,
        data_set=data_set,
        task=task,
        algorithm=algorithm,
        feedback=FEEDBACK[algorithm],
        model=model,
        seeds=SEEDS.get(name, (1,)),
        metrics=METRICS[task],
        overrides=(
            "data=files",
            f"data.dir=$RLFT_DATA/{data_set}",
            *tuning,
            *sizes,
            *(UNTRAINED if untrained else ()),
            *further,
        ),
        note=f"{note}; {UNTRAINED_NOTE}" if untrained else note,
    )


def quick_specs() -> list[Spec]:
    """One data set per task: the packaged sample, cut down to minutes; shows that all runs, not how good it is."""
    found: dict[str, Spec] = {}
    for spec in specs():
        name = f"sample_{spec.task}/{spec.algorithm}"
        untrained = spec.algorithm == "untrained"
        left = ("warm_start.", *(("passes=",) if untrained else ())) if spec.feedback == "full" else ()
        sizes = [word for word in QUICK[spec.task] if not word.startswith(left)]
        words = (*MODELS[spec.task][1], *sizes, *(UNTRAINED if untrained else ()))
        found[name] = replace(
            spec,
            name=name,
            data_set="sample",
            overrides=("data=sample", *words),
            seeds=(1,),
            note="a few packaged examples",
        )
    return list(found.values())


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
    parts = [f"{row[what]:,} {what}" for what in ("labels", "reactions") if row[what]]
    return " + ".join(parts) or "no labels"


def show(console: Console, rows: Sequence[Row]) -> None:
    """Print the rows as a table."""
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
    console.table("main table (test split)", columns, cells)
    wall = sum(row["wall_seconds"] for row in rows)
    text = f"{len(rows)} rows, {wall:.0f} seconds altogether ({wall / 60:.0f} minutes)"
    console.line(text, wall_seconds=round(wall, 1))


def markdown(content: Mapping[str, Any]) -> str:
    """The table of the README: a line for each data set, a column for each algorithm; from the results file alone."""
    rows: list[Row] = content["rows"]
    present = {row["algorithm"] for row in rows}
    algorithms = [name for name in FEEDBACK if name in present]
    heads = [_head(name, [row for row in rows if row["algorithm"] == name]) for name in algorithms]
    lines = ["| data set | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for data_set, task in dict.fromkeys((row["data_set"], row["task"]) for row in rows):
        here = {row["algorithm"]: row for row in rows if (row["data_set"], row["task"]) == (data_set, task)}
        first = next(iter(here.values()))
        title = f"**{NAMES.get(data_set, data_set)}**<br>{task}, {METRIC_NAMES[first['metric']]}<br>{first['model']}"
        cells = [_cell(here[name], rows) if name in here else "–" for name in algorithms]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *_legend(content, rows), "", *_commands(rows)])


def _head(algorithm: str, rows: Sequence[Row]) -> str:
    feedback = sorted({row["feedback"] for row in rows})
    return algorithm if algorithm == "untrained" else f"{algorithm}, {' or '.join(feedback)} feedback"


def _cell(row: Row, rows: Sequence[Row]) -> str:
    share = share_of(row, rows)
    of = f" ({share:.0%})" if share is not None and row["algorithm"] != "untrained" else ""
    lines = [f"**{number(row['value'])}** [{number(row['low'])}, {number(row['high'])}]{of}"]
    lines += [f"{METRIC_NAMES[name]} {interval(found)}" for name, found in row["also"].items()]
    lines.append(used(row) if row["algorithm"] == "untrained" else f"{used(row)}, {duration(row['seconds'])}")
    if len(row["seeds"]) > 1 or not row["complete"]:
        lines.append(f"{len(row['seeds'])} seeds" + ("" if row["complete"] else ", not all finished"))
    return "<br>".join(lines)


def _legend(content: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    """What the numbers are, in sentences."""
    facts, several = content["machine"], any(len(row["seeds"]) > 1 for row in rows)
    notes = dict.fromkeys((NAMES.get(row["data_set"], row["data_set"]), row["note"]) for row in rows)
    chosen_on_dev = [row for row in rows if row["dev_labels"]]
    dev = dict.fromkeys((NAMES.get(r["data_set"], r["data_set"]), r["dev_labels"]) for r in chosen_on_dev)
    choosers = " and ".join(dict.fromkeys(row["algorithm"] for row in chosen_on_dev))
    lines = [
        "Test split. In brackets: 95 % bootstrap interval over the test examples"
        + ("; for several seeds the mean, and the lowest and highest of them" if several else "")
        + ". In parentheses: share of the supervised value. A label is an example whose reference the learner saw; a "
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


def _commands(rows: Sequence[Row]) -> list[str]:
    commands = [run["command"] for row in rows for run in row["runs"]]
    head = "<details><summary>The commands (<code>RLFT_DATA</code> is the folder of the data sets)</summary>"
    return [head, "", "```", *commands, "```", "", "</details>"]


# -- the command line ---------------------------------------------------------------------------------------------


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    about, _, examples = (__doc__ or "").partition("\n\n")
    as_it_is = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=about, epilog=examples, formatter_class=as_it_is, allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="the packaged samples at small size; minutes")
    parser.add_argument("--only", metavar="NAME[,NAME]", help="rows to make: wnut17 (all of it) or wnut17/dqn")
    parser.add_argument("--data", metavar="DIR", help="folder of the data sets (default: the environment's RLFT_DATA)")
    parser.add_argument(
        "--results",
        metavar="FILE",
        type=Path,
        help="default: docs/results/main.json; with --quick: quick.json in the folder of the runs",
    )
    parser.add_argument(
        "--runs",
        metavar="DIR",
        type=Path,
        default=Path("runs/main_table"),
        help="folder of the runs and their logs (default: %(default)s)",
    )
    parser.add_argument("--again", action="store_true", help="make the rows again even where they are finished")
    parser.add_argument("--jobs", type=int, default=1, help="rows at a time, which share the processors (default: 1)")
    parser.add_argument("--list", action="store_true", help="show the rows and their commands, and run nothing")
    parser.add_argument("--console", choices=("auto", "rich", "plain", "json"), default="auto", help="how to print")
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
        for seed in spec.seeds:
            console.line(f"    {spec.command(seed)}", command=spec.command(seed))


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the rows that are missing and print the table; 1 where a row failed."""
    options = _options(arguments)
    console = Console(options.console)
    every = quick_specs() if options.quick else specs()
    runs = options.runs / "quick" if options.quick else options.runs
    path = options.results or (runs / "quick.json" if options.quick else REPOSITORY / "docs/results/main.json")
    table = Table(path=path, about=ABOUT, order=tuple(spec.name for spec in every))
    some = chosen(every, options.only)
    if options.list:
        _list(console, some, table)
        return 0
    data = data_folder(options.data, some)
    if options.jobs < 1:
        raise UsageError(f"--jobs {options.jobs}: expected 1 or more")
    failed = make(some, table, runs=runs, data=data, again=options.again, jobs=options.jobs, say=console.line)
    rows = table.rows()
    show(console, [rows[name] for name in table.order if name in rows])
    for command in failed:
        console.warn(f"failed: {command}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(ended(main))
