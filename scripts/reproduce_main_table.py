"""The main table: supervised, DQN and REINFORCE on five data sets, each row by the public command.

    python scripts/reproduce_main_table.py --data FOLDER        # or RLFT_DATA=FOLDER
    python scripts/reproduce_main_table.py --quick              # packaged samples, minutes
    python scripts/reproduce_main_table.py --jobs 2             # two rows at a time: shorter on two cores
    python scripts/reproduce_main_table.py --only wnut17,trec6/dqn
    python scripts/reproduce_main_table.py --list

Finished rows are kept in the results file; stop it whenever you like and start it again to go on.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from _rows import Row, Spec, duration, ended, interval, number
from _tables import METRIC_NAMES, NAMES, Script, commands, legend, share_of, used

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
    "wnut17/start": (),
    "wnut17/dqn": (),
    "wnut17/reinforce": (),
    "btc_twitter/supervised": (),
    "btc_twitter/start": (),
    "btc_twitter/dqn": (),
    "btc_twitter/reinforce": (),
    "trec6/supervised": (),
    "trec6/start": (),
    "trec6/dqn": (),
    "trec6/reinforce": (),
    "clinc150/supervised": (),
    "clinc150/start": ("warm_start.fraction=0.1",),
    "clinc150/dqn": ("warm_start.fraction=0.1",),  # 5 % of 4,500 labels leave 34 of the 151 classes without any
    "clinc150/reinforce": ("warm_start.fraction=0.1",),
    "taskmaster4_coffee/untrained": (),
    "taskmaster4_coffee/supervised": (),
    "taskmaster4_coffee/start": (),
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
FEEDBACK = {"untrained": "full", "supervised": "full", "start": "bandit", "dqn": "bandit", "reinforce": "bandit"}
UNTRAINED = {"untrained": "supervised", "start": "dqn"}  # these learn in no pass; as which algorithm they are typed
TITLES = {"untrained": "untrained", "start": "labels of the start alone"}


def specs() -> list[Spec]:
    """The rows of the table, in order."""
    return [_spec(name, further) for name, further in ROWS.items()]


def _spec(name: str, further: Sequence[str]) -> Spec:
    data_set, algorithm = name.split("/")
    task, sizes, note = SIZES[data_set]
    model, tuning = MODELS[task]
    still = ("passes=0",) if algorithm in UNTRAINED else ()
    return Spec(
        name=name,
        data_set=data_set,
        task=task,
        algorithm=algorithm,
        typed=UNTRAINED.get(algorithm),
        feedback=FEEDBACK[algorithm],
        model=model,
        seeds=SEEDS.get(name, (1,)),
        metrics=METRICS[task],
        overrides=("data=files", f"data.dir=$RLFT_DATA/{data_set}", *tuning, *sizes, *still, *further),
        title=TITLES.get(algorithm, ""),
        note=note,
    )


def quick_specs() -> list[Spec]:
    """One data set per task: the packaged sample, cut down to minutes; shows that all runs, not how good it is."""
    found: dict[str, Spec] = {}
    for spec in specs():
        name = f"sample_{spec.task}/{spec.algorithm}"
        still = spec.algorithm in UNTRAINED
        left = (*(("warm_start.",) if spec.feedback == "full" else ()), *(("passes=",) if still else ()))
        sizes = [word for word in QUICK[spec.task] if not word.startswith(left)]
        words = (*MODELS[spec.task][1], *sizes, *(("passes=0",) if still else ()))
        found[name] = replace(
            spec,
            name=name,
            data_set="sample",
            overrides=("data=sample", *words),
            seeds=(1,),
            note="a few packaged examples",
        )
    return list(found.values())


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
    return "\n".join([*lines, "", *legend(content, rows, shares=True), "", *commands(rows)])


def _head(algorithm: str, rows: Sequence[Row]) -> str:
    feedback = sorted({row["feedback"] for row in rows})
    return TITLES[algorithm] if algorithm in UNTRAINED else f"{algorithm}, {' or '.join(feedback)} feedback"


def _cell(row: Row, rows: Sequence[Row]) -> str:
    share = share_of(row, rows)
    of = f" ({share:.0%})" if share is not None and row["algorithm"] != "untrained" else ""
    lines = [f"**{number(row['value'])}** [{number(row['low'])}, {number(row['high'])}]{of}"]
    lines += [f"{METRIC_NAMES[name]} {interval(found)}" for name, found in row["also"].items()]
    lines.append(used(row) if row["algorithm"] == "untrained" else f"{used(row)}, {duration(row['seconds'])}")
    if len(row["seeds"]) > 1 or not row["complete"]:
        lines.append(f"{len(row['seeds'])} seeds" + ("" if row["complete"] else ", not all finished"))
    return "<br>".join(lines)


SCRIPT = Script(
    doc=__doc__ or "",
    about=ABOUT,
    title="main table",
    name="main",
    specs=tuple(specs()),
    quick=tuple(quick_specs()),
)

if __name__ == "__main__":
    sys.exit(ended(SCRIPT.main))
