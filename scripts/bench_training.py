"""How fast rlft trains: against transformers' Trainer, against a bare loop, and its algorithms against one another.

    python scripts/bench_training.py --data FOLDER     # or RLFT_DATA=FOLDER; on an otherwise idle machine
    python scripts/bench_training.py --sample          # the packaged samples instead of WNUT-17 and TREC-6
    python scripts/bench_training.py --quick           # small sizes, under two minutes; shows that all runs

All contenders of a group train in processes of their own and take turns, lap by lap (A B C A B C ...), on the same
examples; a lap is one pass over them, the first one is for warming up, and ratios are taken within a round. With --only,
the other groups stay in the results file where machine and settings are the same.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _matches import COMMAND_LINE_SECONDS, Comparison, Group, Plan, steps_group, trainer_group
from _rows import DATA_VARIABLE, REPOSITORY, ended, machine, read_json, write_json

from rlft_cli.console import Console
from rlft_cli.errors import RlftError, UsageError

# ======== the sizes ===============================================================================================
DATA_SETS = {"ner": "wnut17", "classification": "trec6"}
EXAMPLES = {"ner": 448, "classification": 448}  # of a lap; fewer would pad more than a whole training set does
REPETITIONS = 3
QUICK_EXAMPLES, QUICK_REPETITIONS, QUICK_GROUPS = 48, 2, "command_line,ner_trainer,classification_steps"
# ==================================================================================================================

Lap = dict[str, Any]


# -- measuring -----------------------------------------------------------------------------------------------------


@contextmanager
def contenders(plans: Sequence[Plan], laps: int) -> Iterator[dict[str, Callable[[], Lap]]]:
    """Start a process for each; what is yielded makes one of them run its next lap."""
    from _contenders import work

    context = multiprocessing.get_context("spawn")  # forking after torch has threads may hang
    pipes = {plan.name: context.Pipe() for plan in plans}
    processes = [context.Process(target=work, args=(plan, laps, pipes[plan.name][1]), daemon=True) for plan in plans]
    for process, (_, theirs) in zip(processes, pipes.values(), strict=True):
        process.start()
        theirs.close()  # so that the end of the process is the end of the pipe

    def lap(name: str) -> Lap:
        pipe = pipes[name][0]
        try:
            pipe.send(True)
            found: Lap = pipe.recv()
        except (EOFError, OSError) as error:
            raise RlftError(f"contender {name} ended before its time; what it said stands above") from error
        return found

    try:
        yield {name: lambda name=name: lap(name) for name in pipes}  # type: ignore[misc]
        for process in processes:
            process.join(timeout=60)
    finally:
        for process in processes:
            process.terminate()


def rounds(runners: Mapping[str, Callable[[], Lap]], count: int) -> list[dict[str, Lap]]:
    """One lap to warm up and ``count`` that are kept, the contenders taking turns; every second round backwards."""
    kept = []
    for number in range(count + 1):
        names = list(runners) if number % 2 else list(reversed(runners))
        laps = {name: runners[name]() for name in names}
        if number:
            kept.append(laps)
    return kept


def compared(comparison: Comparison, found: Sequence[Mapping[str, Lap]]) -> dict[str, Any]:
    """A row: the median of the ratios within the rounds, their range, and the medians of both sides."""
    one, other = comparison.one, comparison.other
    ratios = [comparison.ratio(laps[one]["seconds"], laps[other]["seconds"]) for laps in found]
    cpu_ratios = [comparison.ratio(laps[one]["cpu_seconds"], laps[other]["cpu_seconds"]) for laps in found]
    ratio = statistics.median(ratios)
    return {
        "name": comparison.name,
        "what": comparison.what,
        "unit": comparison.unit,
        "ratio": round(ratio, 3),
        "low": round(min(ratios), 3),
        "high": round(max(ratios), 3),
        "cpu_ratio": round(statistics.median(cpu_ratios), 3),  # of processor time: shows what a busy machine did
        "at_least": comparison.least,
        "at_most": comparison.most,
        "met": comparison.met(ratio),
        "one": {"name": one, **_side(found, one)},
        "other": {"name": other, **_side(found, other)},
    }


def _side(found: Sequence[Mapping[str, Lap]], name: str) -> dict[str, float]:
    first = found[0][name]
    seconds = statistics.median([laps[name]["seconds"] for laps in found])
    return {
        "examples_per_second": round(first["examples"] / seconds, 2),
        "milliseconds_per_step": round(1000 * seconds / first["steps"], 2),
        "examples_per_step": round(first["examples"] / first["steps"], 2),
    }


def measure(group: Group, repetitions: int) -> list[dict[str, Any]]:
    """The rows of a group."""
    with contenders(group.plans, repetitions + 1) as runners:
        found = rounds(runners, repetitions)
    return [compared(comparison, found) for comparison in group.comparisons]


def command_line(repetitions: int) -> list[dict[str, Any]]:
    """Seconds of ``rlft --help`` and of a refused typo, alternating."""
    tried = {
        "help": (["--help"], 0, "rlft --help"),
        "typo": (["train", "algo=dqnn"], 2, "rlft train algo=dqnn, refused"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in tried}
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    for number in range(repetitions + 1):
        for name, (words, status, _) in tried.items():
            start = time.perf_counter()
            command = [sys.executable, "-m", "rlft_cli", *words]
            ran = subprocess.run(command, capture_output=True, env=environment, check=False)
            if number:
                seconds[name].append(time.perf_counter() - start)
            if ran.returncode != status:
                raise RlftError(f"rlft {' '.join(words)} ended with {ran.returncode}, expected {status}")
    return [
        {
            "name": f"command_line_{name}",
            "what": f"seconds of {tried[name][2]}",
            "unit": "seconds",
            "ratio": round(statistics.median(values), 3),
            "low": round(min(values), 3),
            "high": round(max(values), 3),
            "at_least": None,
            "at_most": COMMAND_LINE_SECONDS,
            "met": statistics.median(values) <= COMMAND_LINE_SECONDS,
        }
        for name, values in seconds.items()
    ]


# -- showing -------------------------------------------------------------------------------------------------------


def target(row: Mapping[str, Any]) -> str:
    """``at least 1.5``."""
    if row["at_least"] is not None:
        return f"at least {row['at_least']}"
    return "–" if row["at_most"] is None else f"at most {row['at_most']}"


def _measured(row: Mapping[str, Any], bold: str = "") -> str:
    unit = " s" if row["unit"] == "seconds" else ""
    return f"{bold}{row['ratio']:.2f}{bold}{unit} [{row['low']:.2f}, {row['high']:.2f}]"


def _sides(row: Mapping[str, Any]) -> str:
    if row["unit"] == "seconds":
        return "–"
    key, unit = ("examples_per_second", "/s") if row["unit"] == "speed" else ("milliseconds_per_step", " ms")
    return f"{row['one'][key]:.0f}{unit} : {row['other'][key]:.0f}{unit}"


def _verdict(row: Mapping[str, Any]) -> str:
    return {None: "–", True: "yes", False: "**no**"}[row["met"]]


def show(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the rows."""
    cells = [(row["what"], _measured(row), _sides(row), target(row), _verdict(row).strip("*")) for row in rows]
    console.table("speed", ("what", "ratio [range]", "one : other", "target", "met"), cells)


def markdown(content: Mapping[str, Any]) -> str:
    """The table of the README, from the results file alone."""
    lines = ["| what | ratio [range] | one : other | target | met |", "|---|---|---|---|---|"]
    for row in content["rows"]:
        lines.append(f"| {row['what']} | {_measured(row, '**')} | {_sides(row)} | {target(row)} | {_verdict(row)} |")
    facts, made = content["machine"], content["settings"]
    data = " and ".join(f"{made['examples'][task]} examples of {name}" for task, name in made["data"].items())
    text = (
        f"Medians of {made['repetitions']} rounds in which all take turns, and their range; {made['model']}; a round "
        f"is one pass over {data}. {facts['cpu']}, {facts['cores']} cores, {facts['threads']} threads, torch "
        f"{facts['torch']}, transformers {facts['transformers']}; load {facts['load']} before it began."
    )
    return "\n".join([*lines, "", text, "", f"`{content['command']}`"])


# -- the command line ----------------------------------------------------------------------------------------------


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    about, _, examples = (__doc__ or "").partition("\n\n")
    as_it_is = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=about, epilog=examples, formatter_class=as_it_is, allow_abbrev=False)
    parser.add_argument("--data", metavar="DIR", help="folder with wnut17 and trec6 (default: RLFT_DATA)")
    parser.add_argument("--sample", action="store_true", help="the packaged samples instead")
    parser.add_argument("--quick", action="store_true", help="packaged samples, few examples, rounds and groups")
    parser.add_argument(
        "--only",
        metavar="GROUP[,GROUP]",
        help="command_line, ner_trainer, ner_steps, classification_trainer, classification_steps",
    )
    parser.add_argument("--model", default="minilm", help="an encoder of configs/model (default: %(default)s)")
    parser.add_argument("--examples", type=int, help="examples of a lap, for every task")
    parser.add_argument("--repetitions", type=int, help=f"rounds that are kept (default: {REPETITIONS})")
    parser.add_argument(
        "--results",
        metavar="FILE",
        type=Path,
        help="default: docs/results/speed.json; with --quick: runs/speed_quick.json",
    )
    parser.add_argument("--console", choices=("auto", "rich", "plain", "json"), default="auto", help="how to print")
    return parser.parse_args(arguments)


def _data(options: argparse.Namespace, task: str) -> tuple[str, tuple[str, ...]]:
    """Name of the data, and the words that choose it."""
    from rlft_cli.overrides import quoted

    if options.sample or options.quick:
        return "packaged sample", ("data=sample",)
    given = options.data or os.environ.get(DATA_VARIABLE)
    if not given:
        raise UsageError(
            f"give the folder with {' and '.join(DATA_SETS.values())} with --data DIR or {DATA_VARIABLE}; "
            "or --sample for the packaged samples"
        )
    folder = Path(given).expanduser().resolve() / DATA_SETS[task]
    if not folder.is_dir():
        raise UsageError(f"{folder} does not exist; expected --data or {DATA_VARIABLE} to be the folder that holds it")
    return DATA_SETS[task], ("data=files", f"data.dir={quoted(str(folder))}")


def _groups(options: argparse.Namespace, native: str) -> list[Group]:
    groups = []
    for task in DATA_SETS:
        words = (
            f"model={options.model}",
            *_data(options, task)[1],
            f"data.max_train={_examples(options, task)}",
            "data.unseen_labels=drop",
            "data.max_dev=20",
            "data.max_test=20",
            "warm_start.fraction=0",
        )
        groups += [trainer_group(task, words, native), steps_group(task, words, native)]
    return groups


def _examples(options: argparse.Namespace, task: str) -> int:
    return int(options.examples or (QUICK_EXAMPLES if options.quick else EXAMPLES[task]))


def _facts() -> tuple[dict[str, Any], str]:
    """The machine, and the precision that rlft chooses on it."""
    import torch

    from rlft_cli.hardware import Hardware

    accelerator = Hardware(device="auto", precision="auto", threads=None).accelerator()
    native = "bf16" if accelerator.mixed_precision == "bf16" else "fp32"
    facts = {
        **machine(),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "device": str(accelerator.device),
        "precision": native,
        "load": round(os.getloadavg()[0], 2),
    }
    return facts, native


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the results and print them; 1 where a target is missed."""
    options = _options(arguments)
    console = Console(options.console)
    repetitions = options.repetitions or (QUICK_REPETITIONS if options.quick else REPETITIONS)
    data = {task: _data(options, task)[0] for task in DATA_SETS}
    start, (facts, native) = time.perf_counter(), _facts()
    if facts["load"] > 0.5:
        console.warn(f"the machine is busy (load {facts['load']}); ratios will be uncertain")
    groups = {group.name: group for group in _groups(options, native)}
    only = options.only or (QUICK_GROUPS if options.quick else None)
    names = only.split(",") if only else ["command_line", *groups]
    unknown = [name for name in names if name not in ("command_line", *groups)]
    if unknown:
        raise UsageError(f"--only {unknown[0]}: no such group; there are command_line, {', '.join(groups)}")
    path = options.results or REPOSITORY / ("runs/speed_quick.json" if options.quick else "docs/results/speed.json")
    words = list(sys.argv[1:] if arguments is None else arguments)
    content: dict[str, Any] = {
        "about": "Speed, measured side by side; see scripts/bench_training.py.",
        "command": " ".join(["python scripts/bench_training.py", *without_folder(words)]),
        "machine": facts,
        "settings": {
            "model": options.model,
            "repetitions": repetitions,
            "data": data,
            "examples": {task: _examples(options, task) for task in DATA_SETS},
        },
        "rows": [],
    }
    kept = [row for row in _measured_before(path, content) if row["group"] not in names]
    if kept:  # the file then holds what the whole command gives
        content["command"] = "python scripts/bench_training.py"
    order = ["command_line", *groups]
    for name in names:
        console.line(f"measuring {name} ({time.perf_counter() - start:.0f} s so far)", group=name)
        found = command_line(repetitions) if name == "command_line" else measure(groups[name], repetitions)
        kept += [{**row, "group": name} for row in found]
        content["rows"] = sorted(kept, key=lambda row: order.index(row["group"]))
        content["seconds"] = round(time.perf_counter() - start, 1)
        write_json(path, content)
    show(console, content["rows"])
    missed = [row["name"] for row in content["rows"] if row["met"] is False]
    console.line(f"{content['seconds']:.0f} seconds; written to {path}; targets missed: {', '.join(missed) or 'none'}")
    return 1 if missed else 0


def _measured_before(path: Path, content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a results file from this machine with these settings, whose groups need not be measured again."""
    if not path.exists():
        return []
    found = read_json(path)
    same = {**found["machine"], "load": None} == {**content["machine"], "load": None}
    return list(found["rows"]) if same and found["settings"] == content["settings"] else []


def without_folder(words: Sequence[str]) -> list[str]:
    """The words with the data folder of this machine left out."""
    shown = [f"--data=${DATA_VARIABLE}" if word.startswith("--data=") else word for word in words]
    return [f"${DATA_VARIABLE}" if n and shown[n - 1] == "--data" else word for n, word in enumerate(shown)]


if __name__ == "__main__":
    sys.exit(ended(main))
