"""The feedback table: what each kind of reaction is worth beside labels, each row by the public command.

    python scripts/reproduce_feedback_table.py --data FOLDER --jobs 2     # or RLFT_DATA=FOLDER
    python scripts/reproduce_feedback_table.py --quick                    # packaged samples, minutes
    python scripts/reproduce_feedback_table.py --only trec6,wnut17_part/span
    python scripts/reproduce_feedback_table.py --list

Finished rows are kept in the results file; stop it whenever you like and start it again to go on. The curves of the
results file are drawn by scripts/plot_feedback.py.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from _rows import Row, Spec, Step, duration, ended, number
from _tables import METRIC_NAMES, NAMES, Script, commands, legend, used

ABOUT = "The feedback table: labels, few labels, and reactions of all kinds; see scripts/reproduce_feedback_table.py."

# fmt: off
# ======== the sizes: change them here, and nowhere else ===========================================================
LOGGER = ("warm_start.fraction=0.02", "warm_start.passes=10", "passes=0")  # a poor policy, so that its log is worth correcting
SOFT = ("explore=sample", "explore.temperature=3")  # and soft, so that it tries everything
#  few labels of few sentences, or of 151 classes, would teach it nothing
BETTER_LOGGER = ("warm_start.fraction=0.1", *LOGGER[1:])
LESS_SOFT = ("explore=sample", "explore.temperature=2")


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of a data set is used; a part is a fixed subsample with lines of its own to compare with."""

    folder: str
    task: str
    words: tuple[str, ...] = ()  # further words of every command
    note: str = "whole training set"  # what a reader must know
    logger: tuple[str, ...] = LOGGER
    soft: tuple[str, ...] = SOFT

SIZES: dict[str, Size] = {
    "trec6":       Size(folder="trec6", task="classification"),
    "trec6_part":  Size(folder="trec6", task="classification", words=("data.max_train=1000", "data.max_dev=300"),
                        note="1,000 of 4,920 training texts"),
    "wnut17":      Size(folder="wnut17", task="ner"),
    "wnut17_part": Size(folder="wnut17", task="ner", words=("data.max_train=400", "data.max_dev=300"),
                        note="400 of 3,394 training sentences", logger=BETTER_LOGGER, soft=LESS_SOFT),
    "btc_part":    Size(folder="btc_twitter", task="ner", words=("data.max_train=400", "data.max_dev=300"),
                        note="400 of 6,338 training sentences", logger=BETTER_LOGGER, soft=LESS_SOFT),
    "clinc150":    Size(folder="clinc150", task="classification", words=("data.max_dev=1000",)),
    "clinc150_part": Size(folder="clinc150", task="classification",
                          words=("data.max_train=1000", "data.max_dev=300", "data.max_test=2000"),
                          note="1,000 of 15,100 training texts, 2,000 of 5,500 test texts",
                          logger=("warm_start.fraction=0.3", *LOGGER[1:]), soft=("explore=sample",)),
    "sst2":        Size(folder="sst2", task="classification", words=("data.max_train=600", "data.max_dev=300"),
                        note="600 of 6,920 training texts"),
}
SCRATCH = ("warm_start.fraction=0",)
ONE = ("algo.samples=1", "algo.baseline=moving_average")  # as many reactions as DQN
#  what is learned from: its words in the table, algorithm, feedback, further words
WAYS: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "all":          ("all labels",                              "supervised",    "full",   ()),
    "start":        ("5 % labels alone",                        "dqn",           "bandit", ("passes=0",)),
    "dqn":          ("5 % labels + bandit, DQN",                "dqn",           "bandit", ()),
    "reinforce":    ("5 % labels + bandit, REINFORCE",          "reinforce",     "bandit", ()),
    "one_sample":   ("5 % labels + bandit, REINFORCE, 1 sample", "reinforce",    "bandit", ONE),
    "span":         ("5 % labels + accepted or rejected spans", "reinforce",     "span",   ()),
    "count":        ("5 % labels + counts",                     "reinforce",     "count",  ()),
    "noisy":        ("5 % labels + bandit, 20 % flipped",       "reinforce",     "noisy",  ()),
    "positives":    ("log: cross-entropy on its positives",     "filtered_bc",   "logged", ()),
    "ips":          ("log: IPS",                                "ips",           "logged", ()),
    "doubly_robust": ("log: doubly robust",                     "doubly_robust", "logged", ()),
    "banditnet":    ("log: BanditNet",                          "banditnet",     "logged", ()),
    "epsilon_greedy": ("bandit alone, epsilon-greedy",          "dqn",           "bandit", (*SCRATCH, "explore=epsilon_greedy")),
    "greedy":       ("bandit alone, greedy",                    "dqn",           "bandit", (*SCRATCH, "explore=greedy")),
    "boltzmann":    ("bandit alone, Boltzmann",                 "dqn",           "bandit", (*SCRATCH, "explore=boltzmann")),
    "ucb":          ("bandit alone, UCB1",                      "dqn",           "bandit", (*SCRATCH, "explore=ucb")),
    "linucb":       ("bandit alone, LinUCB",                    "dqn",           "bandit", (*SCRATCH, "explore=linucb")),
    "thompson":     ("bandit alone, Thompson",                  "dqn",           "bandit", (*SCRATCH, "explore=thompson")),
    "dropout_thompson": ("bandit alone, dropout Thompson", "dqn",           "bandit", (*SCRATCH, "explore=dropout_thompson")),
    "noisy_net":    ("bandit alone, NoisyNet",                  "dqn",           "bandit", (*SCRATCH, "explore=noisy")),
}
LABELS = ("all", "start", "dqn", "reinforce")
LOGS = ("positives", "ips", "doubly_robust", "banditnet")
EXPLORERS = ("greedy", "epsilon_greedy", "boltzmann", "ucb", "linucb", "thompson", "dropout_thompson", "noisy_net")
ALONE = "epsilon_greedy"  # from reactions alone
NER_PART = ("all", "start", "reinforce", "noisy", "span", "count", ALONE, *LOGS)
ROWS: dict[str, tuple[str, ...]] = {
    "trec6": (*LABELS, "noisy"),
    "trec6_part": ("all", *LOGS, *EXPLORERS),
    "wnut17": (*LABELS, "one_sample"),
    "wnut17_part": NER_PART,
    "btc_part": (*NER_PART[:2], "dqn", *NER_PART[2:]),
    "clinc150": ("all", "linucb"),
    "clinc150_part": (*LABELS, "noisy", ALONE, *LOGS),
    "sst2": (*LABELS, "noisy", ALONE, *LOGS),
}
MAIN = ("all", "dqn", "reinforce")
SEEDS: dict[str, tuple[int, ...]] = {f"{name}/{way}": (1, 2, 3) for name in ("trec6", "wnut17") for way in MAIN}
#  151 classes: bounds that start wide, features that change slowly and are read anew often, every reaction used twice
MANY_CLASSES = ("explore.regression.ridge=0.1", "explore.regression.refresh_batches=150", "algo.loss_kind=softmax",
                "optim.lr=3e-5", "memory=replay", "memory.replay_ratio=2", "passes=3")
LESS_DEV = ("data.max_dev=300",)  # where dev only draws the curve
#  further words of single rows
FURTHER: dict[str, tuple[str, ...]] = {
    **{f"wnut17/{way}": LESS_DEV for way in ROWS["wnut17"] if way != "all"},
    "clinc150/all": ("passes=3",),  # as many as the line without labels
    "clinc150/linucb": MANY_CLASSES,
}
MODEL = "minilm"
METRICS = {"ner": ("f1", "f1_conlleval"), "classification": ("accuracy",)}
QUICK = ("data.max_train=160", "data.max_dev=40", "data.max_test=80")  # of --quick, on the packaged samples
# ==================================================================================================================
# fmt: on


def specs() -> list[Spec]:
    """The rows of the table, in order."""
    return [_spec(data_set, way) for data_set, ways in ROWS.items() for way in ways]


def _spec(data_set: str, way: str) -> Spec:
    size = SIZES[data_set]
    title, algorithm, feedback, words = WAYS[way]
    name = f"{data_set}/{way}"
    data = ("data=files", f"data.dir=$RLFT_DATA/{size.folder}", *size.words)
    logged = feedback == "logged"
    log = f"$RUNS/{data_set}/log.jsonl"
    return Spec(
        name=name,
        title=title,
        data_set=data_set,
        task=size.task,
        algorithm=algorithm,
        feedback=feedback,
        model=MODEL,
        seeds=SEEDS.get(name, (1,)),
        metrics=METRICS[size.task],
        overrides=(*data, *words, *((f"feedback.log={log}",) if logged else ()), *FURTHER.get(name, ())),
        note=size.note,
        before=_logger(data_set, size, data) if logged else (),
    )


def _logger(data_set: str, size: Size, data: Sequence[str]) -> tuple[Step, ...]:
    """The policy that logs, and its log: one action for each training example, drawn from the softened policy."""
    run, log = f"$RUNS/{data_set}/logger", f"$RUNS/{data_set}/log.jsonl"
    train = (
        "train",
        f"task={size.task}",
        "algo=reinforce",
        f"model={MODEL}",
        *data,
        *size.logger,
        "seed=1",
        f"run_dir={run}",
    )
    return (
        Step(output=run, words=train),
        Step(output=log, words=("simulate-logs", f"checkpoint={run}", f"output={log}", *size.soft, "seed=1")),
    )


def quick_specs() -> list[Spec]:
    """Every way once on the packaged samples, cut down to minutes; shows that all runs, not how good it is."""
    found: dict[str, Spec] = {}
    for spec in specs():
        way = spec.name.partition("/")[2]
        name = f"sample_{spec.task}/{way}"
        still = "passes=0" in spec.overrides
        small = ("data=sample", *QUICK, *(() if still else ("passes=1",)))
        warm = () if spec.feedback in ("full", "logged") or spec.overrides[-1] in SCRATCH else ("warm_start.passes=2",)
        kept = [word for word in spec.overrides if not word.startswith(("data=", "data."))]
        overrides = [
            word.replace(f"$RUNS/{spec.data_set}", f"$RUNS/sample_{spec.task}") for word in (*small, *kept, *warm)
        ]
        before = _logger(f"sample_{spec.task}", SIZES[spec.data_set], ("data=sample", *QUICK)) if spec.before else ()
        found[name] = replace(
            spec,
            name=name,
            data_set="sample",
            overrides=tuple(overrides),
            seeds=(1,),
            note="a few packaged examples",
            before=before,
        )
    return list(found.values())


# -- the tables of the README --------------------------------------------------------------------------------------


def markdown(content: Mapping[str, Any]) -> str:
    """A table for each data set, a line for each thing that was learned from; from the results file alone."""
    rows: list[Row] = content["rows"]
    lines: list[str] = []
    for data_set in dict.fromkeys(row["data_set"] for row in rows):
        here = [row for row in rows if row["data_set"] == data_set]
        metric = METRIC_NAMES[here[0]["metric"]]
        lines += [
            f"| {NAMES.get(data_set, data_set)} | {metric} | less than all labels | used | time |",
            "|---" * 5 + "|",
        ]
        lines += [_line(row, here) for row in here] + [""]
    return "\n".join([*lines, *legend(content, rows, shares=False), "", *commands(rows)])


def _line(row: Row, here: Sequence[Row]) -> str:
    every = next((other for other in here if other["algorithm"] == "supervised"), None)
    less = "" if every is None or every is row else f"{100 * (every['value'] - row['value']):.1f} points"
    seeds = f", {len(row['seeds'])} seeds" if len(row["seeds"]) > 1 else ""
    seeds += "" if row["complete"] else ", not all seeds yet"
    value = f"**{number(row['value'])}** [{number(row['low'])}, {number(row['high'])}]{seeds}"
    return f"| {row['title']} | {value} | {less} | {used(row)} | {duration(row['seconds'])} |"


SCRIPT = Script(
    doc=__doc__ or "",
    about=ABOUT,
    title="feedback table",
    name="feedback",
    specs=tuple(specs()),
    quick=tuple(quick_specs()),
)

if __name__ == "__main__":
    sys.exit(ended(SCRIPT.main))
