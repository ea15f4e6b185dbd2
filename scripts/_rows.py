"""What the reproduce scripts share: rows of results, made by public commands one by one; finished ones are kept."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from threading import Event, Lock
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))  # this checkout, and not another rlft that may be installed

from rlft_cli.errors import RlftError, UsageError  # noqa: E402

DATA_VARIABLE = "RLFT_DATA"
PACKAGES = ("torch", "transformers", "accelerate")
TRAINED_FILE = "trained.json"  # in the folder of a run that was trained, and may still be measured
_TAIL_LINES = 15  # of a failed command's log

Row = dict[str, Any]
Runner = Callable[[Sequence[str], Path], int]  # (words after rlft, log file) -> exit status


@dataclass(frozen=True, kw_only=True)
class Step:
    """A command whose output rows read; made once, before the first of them."""

    output: str  # file or folder, with $RUNS for that of the runs
    words: tuple[str, ...]  # what follows ``rlft``


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One row of a table: what is run, once per seed."""

    name: str  # of the row, and of its run folders
    data_set: str
    task: str
    algorithm: str  # as the table calls it
    feedback: str
    model: str
    seeds: tuple[int, ...]
    metrics: tuple[str, ...]  # of the test split; the first is the row's, the others stand beside it
    overrides: tuple[str, ...]  # further words of the command
    note: str  # what share of the data is used, and whatever else a reader must know
    title: str = ""  # what the row shows, in words; the algorithm where nothing is said
    typed: str | None = None  # algo= of the command, where the table calls it otherwise
    before: tuple[Step, ...] = ()  # what makes the files that it reads
    needs: tuple[str, ...] = ()  # rows whose runs of the same seed it reads, all of them earlier ones
    then: tuple[Step, ...] = ()  # what is measured on its run, once it is trained; $RUN is its folder
    read: Callable[[Path], Row] | None = None  # what the row keeps of the run's folder besides result.json

    def words(self, seed: int) -> list[str]:
        """What follows ``rlft``, with $RLFT_DATA for the folder of the data and $RUNS for that of the runs.

        $SEED in the overrides stands for the seed.
        """
        groups = {
            "task": self.task,
            "algo": self.typed or self.algorithm,
            "model": self.model,
            "feedback": self.feedback,
        }
        words = ["train", *(f"{group}={name}" for group, name in groups.items()), *self.overrides, f"seed={seed}"]
        return [word.replace("$SEED", str(seed)) for word in words]

    def steps(self, seed: int) -> list[Step]:
        """What is measured on the run of a seed."""
        run = f"$RUNS/{self.name}/seed{seed}"

        def of_run(text: str) -> str:
            return re.sub(r"\$RUN\b", lambda _: run, text).replace("$SEED", str(seed))

        return [
            Step(output=of_run(step.output), words=tuple(of_run(word) for word in step.words)) for step in self.then
        ]

    def measured(self, seed: int) -> list[str]:
        """The commands of ``steps`` as a person types them."""
        return [" ".join(["rlft", *step.words]) for step in self.steps(seed)]

    def command(self, seed: int) -> str:
        """The command as a person types it."""
        return " ".join(["rlft", *self.words(seed)])


# -- running -----------------------------------------------------------------------------------------------------


def run_command(words: Sequence[str], log: Path) -> int:
    """Run ``rlft`` of this checkout; all that it says goes to the log file."""
    before = os.environ.get("PYTHONPATH")
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{before}" if before else str(REPOSITORY)}
    with log.open("wb") as file:
        command = [sys.executable, "-m", "rlft_cli", *words]
        return subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment, check=False).returncode


@dataclass(frozen=True, kw_only=True)
class Table:
    """Where the rows of a table are kept: a JSON file that is whole at any time."""

    path: Path
    about: str
    order: tuple[str, ...]  # names of the rows

    def rows(self) -> dict[str, Row]:
        """The rows that were finished, or begun, by name."""
        if not self.path.exists():
            return {}
        return {row["name"]: row for row in read_json(self.path)["rows"] if row["name"] in self.order}

    def write(self, rows: Mapping[str, Row]) -> None:
        """Write all rows, in order; those that the script no longer has are dropped."""
        kept = [rows[name] for name in self.order if name in rows]
        seconds = round(sum(row["wall_seconds"] for row in kept), 1)
        clock = round(sum(run["wall_seconds"] / run["jobs"] for row in kept for run in row["runs"]), 1)
        content = {
            "about": self.about,
            "machine": machine(),
            "wall_seconds": seconds,
            "clock_seconds": clock,
            "rows": kept,
        }
        write_json(self.path, content)


def done_seeds(spec: Spec, row: Row | None) -> list[dict[str, Any]]:
    """The runs of a row that need not be made again: those whose command line is still the same."""
    wanted = {spec.command(seed): spec.measured(seed) for seed in spec.seeds}
    runs = row["runs"] if row is not None else []
    return [run for run in runs if wanted.get(run["command"]) == run.get("measured", [])]


def make(
    specs: Sequence[Spec],
    table: Table,
    *,
    runs: Path,
    data: Path | None,
    again: bool = False,
    jobs: int = 1,
    runner: Runner = run_command,
    say: Callable[[str], object] = print,
) -> list[str]:
    """Make the rows that are not finished, ``jobs`` at a time; returns the commands that failed.

    Every finished run is written at once; a run folder without its row is what a kill left, and is made again, but for what
    was trained and not yet measured.
    """
    missing = list(_missing(specs, table, again))
    ended = {(spec.name, seed): Event() for spec, seed in missing}
    maker = _Maker(table=table, runs=runs, data=data, again=again, jobs=jobs, runner=runner, say=say, ended=ended)
    if jobs == 1:
        found = [maker.run(spec, seed) for spec, seed in missing]
    else:
        pool = ThreadPoolExecutor(max_workers=jobs)  # the threads only wait for processes
        try:
            found = list(pool.map(lambda one: maker.run(*one), missing))
        finally:
            pool.shutdown(cancel_futures=True)  # Ctrl-C: nothing that has not begun begins
    return [command for command in found if command is not None]


@dataclass(frozen=True, kw_only=True)
class _Maker:
    """Makes rows, one call a seed; calls may go on at the same time."""

    table: Table
    runs: Path
    data: Path | None
    again: bool
    jobs: int
    runner: Runner
    say: Callable[[str], object]
    ended: Mapping[tuple[str, int], Event]  # of the rows and seeds that are made
    one_at_a_time: Lock = field(default_factory=Lock)  # to write and to say
    preparing: Lock = field(default_factory=Lock)  # to make what several rows read

    def run(self, spec: Spec, seed: int) -> str | None:
        """Make the run of a seed and put it into its row; returns its command where that failed."""
        try:
            folder, wall = self._folder(spec.name, seed), self._made(spec, seed)
            if wall is None:
                with self.one_at_a_time:
                    self._drop(spec, seed)
                return spec.command(seed)
            with self.one_at_a_time:
                self._write(spec, seed, folder, wall)
            return None
        finally:
            self.ended[spec.name, seed].set()

    def _folder(self, name: str, seed: int) -> Path:
        return self.runs / name / f"seed{seed}"

    def _made(self, spec: Spec, seed: int) -> float | None:
        """Train and measure; returns the seconds, or None where something failed."""
        for name in spec.needs:
            if (name, seed) in self.ended:
                self.ended[name, seed].wait()
            if not (self._folder(name, seed) / "result.json").exists():
                self.say(
                    f"  {spec.name} needs the run of {name}, seed {seed}, which is not there: --only {name} --again"
                )
                return None
        wall = self._trained(spec, seed)
        if wall is None:
            return None
        start = time.perf_counter()
        if not all(self._measured(step) for step in spec.steps(seed)):
            return None
        return wall + time.perf_counter() - start

    def _trained(self, spec: Spec, seed: int) -> float | None:
        """Train; returns the seconds, or None where that failed. What was trained before a stop is not trained again."""
        folder, command = self._folder(spec.name, seed), spec.command(seed)
        log, mark = folder.with_name(f"{folder.name}.log"), folder / TRAINED_FILE
        anew = self.again or any(
            (name, seed) in self.ended for name in spec.needs
        )  # or what it begins with is another run now
        if not anew and spec.then and mark.exists() and (known := read_json(mark))["command"] == command:
            return float(known["wall_seconds"])
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with self.preparing:
            if not all(self._prepared(step) for step in spec.before):
                return None
        self.say(f"{spec.name} seed {seed}: {command}")
        words, start = [self._real(word) for word in spec.words(seed)], time.perf_counter()
        status = self.runner([*words, *_threads(self.jobs), f"run_dir={folder}", "console=json"], log)
        wall = time.perf_counter() - start
        if status != 0:
            how = f"failed with exit status {status} after {wall:.0f} s"
            self.say(f"  {spec.name} {how}; the end of {log}:\n{_tail(log)}")
            return None
        shutil.rmtree(folder / "state", ignore_errors=True)  # only an unfinished run can be resumed from it
        write_json(mark, {"command": command, "wall_seconds": wall})
        return wall

    def _write(self, spec: Spec, seed: int, folder: Path, wall: float) -> None:
        run = read_run(spec, seed, read_json(folder / "result.json"), wall) | {"jobs": self.jobs}
        run["curves"] = read_curves(folder / "metrics.jsonl", spec.metrics[0])
        run |= {"measured": spec.measured(seed)} if spec.then else {}
        run |= spec.read(folder) if spec.read is not None else {}
        rows = self.table.rows()
        kept = [] if self.again and seed == spec.seeds[0] else done_seeds(spec, rows.get(spec.name))
        rows[spec.name] = combine(spec, [*(one for one in kept if one["seed"] != seed), run])
        self.table.write(rows)
        self.say(f"  {spec.name} {run['metric']} {interval(run)}, {wall:.0f} s")

    def _drop(self, spec: Spec, seed: int) -> None:
        """Take the run of a seed that failed out of its row: what an earlier one gave is not shown in its place."""
        rows = self.table.rows()
        kept = [one for one in done_seeds(spec, rows.pop(spec.name, None)) if one["seed"] != seed]
        self.table.write({**rows, spec.name: combine(spec, kept)} if kept else rows)

    def _prepared(self, step: Step) -> bool:
        output = Path(self._real(step.output))
        return output.exists() or self._ran(step, output)

    def _measured(self, step: Step) -> bool:
        """The same for what is measured on a run, where another command may have written the file before."""
        output, command = Path(self._real(step.output)), " ".join(step.words)
        mark = output.with_name(f"{output.name}.command")
        if output.exists() and mark.exists() and mark.read_text(encoding="utf-8") == command:
            return True
        output.unlink(missing_ok=True)
        if not self._ran(step, output):
            return False
        mark.write_text(command, encoding="utf-8")
        return True

    def _ran(self, step: Step, output: Path) -> bool:
        """Run the command of a step; its output gets its name once it is whole."""
        self.say("  " + " ".join(["rlft", *step.words]))
        unfinished = output.with_name(f"unfinished-{output.name}")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.unlink(missing_ok=True)
        output.parent.mkdir(parents=True, exist_ok=True)
        log = output.with_name(f"{output.name}.log")
        words = [self._real(word).replace(str(output), str(unfinished)) for word in step.words]
        status = self.runner([*words, *_threads(self.jobs)], log)
        if status != 0:
            self.say(f"  failed with exit status {status}; the end of {log}:\n{_tail(log)}")
            return False
        unfinished.rename(output)
        return True

    def _real(self, word: str) -> str:
        return word.replace(f"${DATA_VARIABLE}", str(self.data)).replace("$RUNS", str(self.runs))


def _threads(jobs: int) -> list[str]:
    """The processors shared among the runs that go on at a time; a run alone takes what it finds."""
    return [f"hardware.threads={max(1, (os.cpu_count() or 1) // jobs)}"] if jobs > 1 else []


def borrowed(spec: Spec, table: Table) -> list[dict[str, Any]]:
    """Runs of the tables beside this one that the same command made, with the metrics that the row shows."""
    found = []
    for path in sorted(table.path.parent.glob("*.json")):
        rows = read_json(path).get("rows", []) if path != table.path else []
        runs = [run for row in rows for run in row.get("runs", [])]
        found += [run for run in done_seeds(spec, {"runs": runs}) if set(run["also"]) >= set(spec.metrics[1:])]
    return list({run["seed"]: run for run in found if run["metric"] == spec.metrics[0]}.values())


def _missing(specs: Sequence[Spec], table: Table, again: bool) -> Iterator[tuple[Spec, int]]:
    """What is not finished, and what begins with such a run."""
    made: set[tuple[str, int]] = set()
    for spec in specs:
        rows = table.rows()
        if not (again or spec.then or spec.read) and spec.name not in rows and (runs := borrowed(spec, table)):
            table.write({**rows, spec.name: combine(spec, runs)})
        row = table.rows().get(spec.name)
        finished = set() if again else {run["seed"] for run in done_seeds(spec, row)}
        finished -= {seed for name, seed in made if name in spec.needs}
        missing = [seed for seed in spec.seeds if seed not in finished]
        made |= {(spec.name, seed) for seed in missing}
        yield from ((spec, seed) for seed in missing)
        if finished == set(spec.seeds):  # the words for the reader may have changed, with the command the same
            rows = table.rows()
            fresh = combine(spec, done_seeds(spec, row))
            if fresh != row:
                table.write({**rows, spec.name: fresh})


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return "\n".join(f"    {line}" for line in lines[-_TAIL_LINES:])


# -- one run, and the row of several ------------------------------------------------------------------------------


def read_run(spec: Spec, seed: int, result: Mapping[str, Any], wall_seconds: float) -> dict[str, Any]:
    """What a row keeps of a run's result.json; RlftError where it is not the run that the row describes."""
    known = result["test"]
    for name in spec.metrics:
        if name not in known:
            raise RlftError(f"row {spec.name}: the run has no test metric {name}; it has {', '.join(known)}")
    if result["feedback"] != spec.feedback or result["task"] != spec.task:
        raise RlftError(
            f"row {spec.name} says {spec.task}, {spec.feedback}; the run was {result['task']}, "
            f"{result['feedback']}: correct the row"
        )
    used, selection = result["used"], result["selection"]
    return {
        "seed": seed,
        "command": spec.command(seed),
        "metric": spec.metrics[0],
        **known[spec.metrics[0]],
        "also": {name: known[name] for name in spec.metrics[1:]},
        "seconds": result["seconds"]["train"],
        "wall_seconds": round(wall_seconds, 1),
        "labels": used["label_examples"],
        "reactions": used["reaction_episodes"],
        "reaction_decisions": used["reaction_decisions"],
        "dev_labels": result["examples"]["dev"] if selection["labels_of_dev_used"] else 0,
        "selection": selection,
        "examples": result["examples"],
        "versions": result["versions"],
        "git_commit": result["git_commit"],
    }


def read_curves(log: Path, metric: str) -> dict[str, list[list[float]]]:
    """What a run's log says of its main phase, as [reactions, value] pairs: the dev metric, and the regret at most 50 times."""
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []
    rows = [row for row in rows if row["phase"] == "main" and "reactions" in row]
    curves = {
        name: [[row["reactions"], row[name]] for row in rows if name in row] for name in (f"dev.{metric}", "regret")
    }
    points = curves["regret"]
    curves["regret"] = points[:: max(1, len(points) // 50)] + points[-1:]
    return {name: found for name, found in curves.items() if found}


def combine(spec: Spec, runs: Sequence[Mapping[str, Any]]) -> Row:
    """One row of the runs of a spec: means over the seeds, and every run beside them."""
    runs = sorted(runs, key=lambda run: spec.seeds.index(run["seed"]))
    first = runs[0]
    also = {name: mean_of([run["also"][name] for run in runs]) for name in spec.metrics[1:]}
    return {
        "name": spec.name,
        "data_set": spec.data_set,
        "task": spec.task,
        "title": spec.title or spec.algorithm,
        "algorithm": spec.algorithm,
        "feedback": spec.feedback,
        "model": spec.model,
        "seeds": [run["seed"] for run in runs],
        "complete": len(runs) == len(spec.seeds),
        "metric": spec.metrics[0],
        **mean_of(runs),
        "interval": interval_kind(runs),
        "also": also,
        "seconds": _mean(runs, "seconds"),
        "wall_seconds": round(sum(run["wall_seconds"] for run in runs), 1),
        "labels": _mean(runs, "labels"),
        "dev_labels": first["dev_labels"],
        "reactions": _mean(runs, "reactions"),
        "reaction_decisions": _mean(runs, "reaction_decisions"),
        "examples": first["examples"],
        "note": spec.note,
        "command": first["command"],
        "runs": list(runs),
    }


def interval_kind(runs: Sequence[Mapping[str, Any]]) -> str:
    """What low and high of a row are."""
    return "95 % bootstrap over the test examples" if len(runs) == 1 else "lowest and highest of the seeds"


def mean_of(runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """One run's value and interval; of several, the mean and the range of their values."""
    values = [run["value"] for run in runs]
    if len(values) == 1:
        return {key: runs[0][key] for key in ("value", "low", "high")}
    return {"value": sum(values) / len(values), "low": min(values), "high": max(values)}


def _mean(runs: Sequence[Mapping[str, Any]], key: str) -> float | int:
    mean = sum(run[key] for run in runs) / len(runs)
    return int(mean) if mean == int(mean) else round(mean, 2)


# -- files, facts and words ---------------------------------------------------------------------------------------


def data_folder(given: str | None, needed: Sequence[Spec]) -> Path | None:
    """The folder of the data sets; UsageError where rows need one and there is none."""
    if not any(DATA_VARIABLE in word for spec in needed for word in spec.overrides):
        return None
    text = given or os.environ.get(DATA_VARIABLE)
    if not text:
        raise UsageError(
            f"the rows need data sets: give their folder with --data DIR, or set {DATA_VARIABLE}; --quick "
            "runs on the packaged samples and needs none"
        )
    folder = Path(text).expanduser().resolve()
    marker = f"data.dir=${DATA_VARIABLE}/"
    names = dict.fromkeys(w.removeprefix(marker) for spec in needed for w in spec.overrides if w.startswith(marker))
    lacking = [name for name in names if not (folder / name).is_dir()]
    if lacking:
        where = f"--data {given}" if given else f"{DATA_VARIABLE}={text}"
        raise UsageError(f"{where}: expected a folder with {', '.join(names)}; it has no {', '.join(lacking)}")
    return folder


def chosen(specs: Sequence[Spec], only: str | None) -> list[Spec]:
    """The rows whose name is, or begins with, one of the comma-separated names (``wnut17``, ``wnut17/dqn``)."""
    if only is None:
        return list(specs)
    found: list[Spec] = []
    for name in only.split(","):
        some = [spec for spec in specs if spec.name == name or spec.name.startswith(name.rstrip("/") + "/")]
        if not some:
            raise UsageError(f"--only {name}: no such row; there are {', '.join(spec.name for spec in specs)}")
        found += some
    return [spec for spec in specs if spec in found]


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        named = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = named[0].partition(":")[2].strip() if named else cpu
    versions = {name: metadata.version(name) for name in PACKAGES}
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **versions,
    }


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file; RlftError where there is none or it is damaged."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RlftError(f"{path} cannot be read: {error}") from error
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def number(value: float) -> str:
    """Scores of 0 to 1 with three decimals, those of 0 to 100 with one."""
    return f"{value:.3f}" if abs(value) <= 1 else f"{value:.1f}"


def interval(found: Mapping[str, Any]) -> str:
    """``0.421 [0.388, 0.452]``."""
    return f"{number(found['value'])} [{number(found['low'])}, {number(found['high'])}]"


def duration(seconds: float) -> str:
    """Seconds below two minutes, minutes above."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def ended(task: Callable[[], int]) -> int:
    """Run a script's main; what a person can understand is printed as one line."""
    try:
        return task()
    except RlftError as error:
        print(f"{Path(sys.argv[0]).name}: error: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("stopped; finished rows are kept, start again to go on", file=sys.stderr)
        return 130
