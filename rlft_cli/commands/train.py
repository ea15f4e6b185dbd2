"""rlft train: run the phases of a training, evaluate, select, save, and say where everything is."""

from __future__ import annotations

import math
import os
import shlex
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from rlft_cli import artifact, durable, pipeline
from rlft_cli.console import Cell, Console
from rlft_cli.errors import RlftError, UsageError
from rlft_cli.finite import NonFiniteError
from rlft_cli.hardware import keep_freed_memory
from rlft_cli.learner import Progress, learn
from rlft_cli.metrics.bootstrap import Interval
from rlft_cli.reactions import Counts
from rlft_cli.reward import Reward
from rlft_cli.through_hydra import run_choices
from rlft_cli.training import Training

LOG_EVERY_STEPS = 10
MOST_SAMPLES = 16  # more episodes of one example than this are no advice to give
KEPT_BY_RESUME = ("console", "debug")  # the keys that a resumed run takes from the command line


class Interrupted(RlftError):
    """Ctrl-C: the state is saved and the run can go on."""

    exit_status = 130


@dataclass(kw_only=True)
class Run:
    """A training run between its commands: where it is, and what was best so far."""

    folder: Path
    config: DictConfig
    setup: pipeline.Setup
    console: Console
    reward: Reward
    best: float | None = None
    best_passes: float = 0.0
    without_gain: int = 0
    phase: str = "main"
    seconds: float = 0.0  # of training, evaluation left out
    counts: Counts = field(default_factory=Counts)  # of phases that ended
    window: list[dict[str, float]] = field(default_factory=list)  # signals since the last line of metrics.jsonl
    collapsed: bool = False  # at the last evaluation
    few_samples: bool = False  # said that leave-one-out does not pay
    stop: bool = False
    passes: float = 0.0  # of the main phase


def run(config: DictConfig, console: Console) -> None:
    """Train as configured; the run folder holds what came of it."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # set by torchrun, accelerate launch and their like
        raise UsageError(
            f"rlft train was started as {os.environ['WORLD_SIZE']} processes (WORLD_SIZE), which would all write the same "
            "run; it runs as one process for now: start it without a launcher"
        )
    keep_freed_memory()
    if config.resume is not None:
        config, folder = _resumed_config(config)
        console.line(f"going on with {folder}")
        state = _load_state(folder)
        setup = pipeline.new_setup(config)
    else:
        artifact.require_free(config.run_dir)
        state, setup = None, pipeline.new_setup(config)  # data or weights that cannot be had leave no folder behind
        folder = artifact.create_run_folder(config.run_dir, config.runs, config.options.task, config.options.algo)
        artifact.write_config(folder, pipeline.plain(config))
    for message in setup.messages:
        console.line(message)
    chosen = ("task", "algo", "feedback", "model")
    console.line(", ".join(f"{group} {config.options[group]}" for group in chosen))
    console.line(_sizes(setup))
    this = Run(folder=folder, config=config, setup=setup, console=console, reward=pipeline.build(config.reward))
    with _interruptible(this):
        for phase in ("warm_start", "main"):
            if state is None or state["phase"] == phase:
                if phase == "main" or config.warm_start.fraction > 0:
                    _phase(this, phase, state)
                state = None
    _finish(this)


def _resumed_config(config: DictConfig) -> tuple[DictConfig, Path]:
    folder = Path(config.resume).expanduser()
    if not (folder / "config.yaml").is_file():
        raise UsageError(
            f"resume={config.resume} is not a run folder (it has no config.yaml); give one that rlft train made"
        )
    if (folder / "result.json").exists():
        raise UsageError(f"resume={config.resume} has ended; evaluate it with: rlft eval checkpoint={config.resume}")
    stored, given = artifact.read_config(folder), pipeline.plain(config)
    if missing := sorted(given.keys() - stored.keys()):
        raise RlftError(f"{folder / 'config.yaml'} is damaged (no key {missing[0]}); it cannot be resumed from")
    if other := _contradicted(stored, given):
        raise UsageError(
            f"resume={config.resume} goes on as it was configured, with {', '.join(other)}; "
            "leave out all but resume=, or begin a new run"
        )
    for key in KEPT_BY_RESUME:
        stored[key] = config[key]
    return OmegaConf.create(stored), folder


def _contradicted(stored: dict[str, Any], given: dict[str, Any]) -> list[str]:
    """What a run was configured with, as it is typed, where the command line says otherwise."""
    found = []
    for key in sorted(_typed_keys() - {"resume", "runs", "run_dir", *KEPT_BY_RESUME}):
        place = f"options.{key}" if key in stored["options"] else key
        was, now = (OmegaConf.select(OmegaConf.create(config), place) for config in (stored, given))
        if was != now:
            found.append(f"{key}={was}")
    return found


def _typed_keys() -> set[str]:
    """Keys and groups that the command line sets."""
    return {word.partition("=")[0].lstrip("+~") for word in run_choices()} if HydraConfig.initialized() else set()


def _sizes(setup: pipeline.Setup) -> str:
    trainable = sum(w.numel() for w in setup.policy.parameters() if w.requires_grad)
    sizes = ", ".join(f"{split} {len(ids)}" for split, ids in setup.ids.items())
    labels = f", {len(setup.task.labels)} actions" if setup.task.labels else ""
    return f"{sizes}{labels}; {trainable / 1e6:.2f}M weights to train, {setup.precision} on {setup.accelerator.device}"


def _phase(this: Run, phase: str, state: dict[str, Any] | None) -> None:
    """Run one phase to its end, evaluating as configured."""
    this.phase, this.window = phase, []
    make = pipeline.warm_start_training if phase == "warm_start" else pipeline.main_training
    training = make(this.setup)
    if state is not None:
        _restore(this, training, state)
    looked = _looks(this, training.seen / len(training.sampler))  # by the place alone: a resumed run looks alike
    if training.done >= 1.0:  # passes=0: what the warm start gave is all
        _look(this, training, Progress(step=0, passes=0.0, done=1.0, pass_ended=True, signals={}))
    clock = time.perf_counter()
    try:
        for progress in learn(training):
            this.window.append(progress.signals)
            if progress.step % LOG_EVERY_STEPS == 0 or progress.done >= 1.0:
                _log(this, training, progress)
                this.window.clear()
            due = phase == "main" and (_looks(this, progress.passes) > looked or progress.done >= 1.0)
            if due or this.stop:
                this.seconds += time.perf_counter() - clock
                if due:
                    looked = _looks(this, progress.passes)
                    _look(this, training, progress)
                _save_state(this, training)
                clock = time.perf_counter()
            if this.stop:
                command = shlex.join(["rlft", "train", f"resume={this.folder}"])
                raise Interrupted(f"stopped by Ctrl-C; all is saved; go on with: {command}")
            if _patience_spent(this):
                this.console.line(f"stopping early: {this.without_gain} evaluations without gain")
                break
    except NonFiniteError as error:
        _keep_batch(this, error)
    this.seconds += time.perf_counter() - clock
    this.passes = training.seen / len(training.sampler)
    for name, value in vars(training.counts).items():
        setattr(this.counts, name, getattr(this.counts, name) + value)
    if phase == "warm_start":
        this.console.line(f"warm start on {training.counts.label_examples} labelled examples is done")


def _looks(this: Run, passes: float) -> int:
    """How many evaluations are due by then."""
    return int(passes / this.config.selection.every_passes + 1e-9)


def _patience_spent(this: Run) -> bool:
    patience = this.config.selection.patience
    return bool(patience) and this.config.selection.by != "last" and this.without_gain >= patience


def _log(this: Run, training: Training, progress: Progress) -> None:
    """Append the mean signals of the last steps to metrics.jsonl; show some of them."""
    names = {name for signals in this.window for name in signals}
    means = {name: _mean([s[name] for s in this.window if name in s]) for name in sorted(names)}
    row: dict[str, Cell] = {"phase": this.phase, "step": progress.step, "passes": round(progress.passes, 4), **means}
    row["lr"] = training.optim.lr * training.optim.factor(progress.done)
    if training.decided:
        row["regret"] = training.regret  # so far
        row["progressive_accuracy"] = round(1 - training.regret / training.decided, 6)
        row["reactions"] = training.counts.reactions
    if training.target is not None:
        row["target_distance"] = training.target.distance()
    durable.append_line(this.folder / "metrics.jsonl", row)
    advice = _against_few_samples(means, training.algorithm.samples)
    if advice is not None and not this.few_samples:
        this.few_samples = True
        this.console.warn(advice)
    if progress.step % (5 * LOG_EVERY_STEPS) == 0:
        shown = ["step", "passes", "loss", "reward", "entropy", "kl"]
        shown = ["phase", *shown] if this.phase != "main" else shown
        line = {name: row[name] for name in shown if name in row}
        if this.setup.task.decisions == "tags" and "nonzero_actions" in row:
            line["tagged"] = row["nonzero_actions"]  # part of the words that get another tag than O
        this.console.row(line)


def _against_few_samples(means: Mapping[str, float], samples: int) -> str | None:
    """Advice where leave-one-out makes the gradient noisier than no baseline would (METHODS 3); None where it pays."""
    needed = math.floor(means.get("break_even", 0.0)) + 1
    if needed <= samples:
        return None
    many = f"algo.samples={needed} or " if needed <= MOST_SAMPLES else ""
    return (
        f"algo.baseline=leave_one_out needs more samples than algo.samples={samples} here: rewards vary so much for their "
        f"mean that no baseline at all is less noisy; type {many}algo.baseline=moving_average"
    )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _look(this: Run, training: Training, progress: Progress) -> None:
    """Evaluate on dev, and keep the checkpoint where it is the best by the selection rule."""
    found = this.setup.evaluator(this.config.evaluation).evaluate(this.setup.policy, this.setup.ids["dev"], this.reward)
    primary = this.setup.task.primary
    rule = this.config.selection.by
    values = {name: interval["value"] for name, interval in found.metrics.items()}
    durable.append_line(
        this.folder / "metrics.jsonl",
        {
            "phase": this.phase,
            "step": progress.step,
            "passes": round(progress.passes, 4),
            "reactions": training.counts.reactions,
            **{f"dev.{name}": value for name, value in values.items()},
        },
    )
    score = {"dev_metric": values[primary], "dev_reward": values["reward"], "last": progress.passes}[rule]
    gained = this.best is None or score > this.best
    this.console.row(
        {
            "passes": round(progress.passes, 2),
            f"dev {primary}": values[primary],
            "dev reward": values["reward"],
            "best": "*" if gained and rule != "last" else None,
        }
    )
    collapsed = values.get("predicted_entity_rate") == 0.0
    if collapsed and not this.collapsed:  # said once, and again after a recovery
        this.console.warn(f"the policy predicts no entity at all; {_against_collapse(this.config)}")
    this.collapsed = collapsed
    if gained:
        this.best, this.best_passes, this.without_gain = score, progress.passes, 0
        durable.replace_folder(this.folder / "checkpoint", this.setup.save_checkpoint)
    else:
        this.without_gain += 1


def _against_collapse(config: DictConfig) -> str:
    """What can be done about a policy that predicts nothing, in the keys that this run has."""
    if pipeline.build(config.algo).needs == "labels":
        return "where that stays so, raise passes or optim.head_lr"
    ways = ["raise warm_start.fraction", "lower optim.lr"]
    ways += ["lower reward.outside_weight"] if "outside_weight" in config.reward else []
    ways += ["raise algo.entropy_coefficient"] if "entropy_coefficient" in config.algo else []
    return f"it may have collapsed to O: {', '.join(ways[:-1])} or {ways[-1]}"


def _save_state(this: Run, training: Training) -> None:
    state = {
        "phase": this.phase,
        "training": training.state_dict(),
        "best": this.best,
        "best_passes": this.best_passes,
        "without_gain": this.without_gain,
        "seconds": this.seconds,
        "counts": vars(this.counts).copy(),
        "window": this.window,
    }
    durable.replace_folder(this.folder / "state", lambda folder: durable.save_nested(folder, state))


def _load_state(folder: Path) -> dict[str, Any] | None:
    """Where a run stopped, None where it had just begun; RlftError where that, or the best checkpoint, is damaged."""
    if not durable.current(folder / "state").exists():
        return None
    state = durable.load_nested(folder / "state")
    if state["best"] is not None:
        artifact.read_card(durable.current(folder / "checkpoint"))
    return state


def _restore(this: Run, training: Training, state: dict[str, Any]) -> None:
    training.load_state_dict(state["training"])
    this.best, this.best_passes, this.without_gain = state["best"], state["best_passes"], state["without_gain"]
    this.seconds, this.counts, this.window = state["seconds"], Counts(**state["counts"]), state["window"]
    artifact.truncate_log(this.folder / "metrics.jsonl", this.phase, training.step)


def _keep_batch(this: Run, error: NonFiniteError) -> None:
    batch = {name: value for name, value in vars(error.batch).items() if name != "observation"}
    content = {"id": error.batch.observation["id"], **batch}
    durable.replace_folder(this.folder / "nonfinite_batch", lambda folder: durable.save_nested(folder, content))
    raise RlftError(f"{error}; the batch is kept in {this.folder / 'nonfinite_batch'}") from error


def _finish(this: Run) -> None:
    """Evaluate the saved checkpoint as a stranger would, write the result, and say what to do next."""
    config, console = this.config, this.console
    saved = pipeline.checkpoint_setup(str(this.folder), config.hardware, config.seed)
    evaluator = saved.evaluator(config.evaluation)
    metrics: dict[str, dict[str, Interval]] = {}
    seconds = {"train": this.seconds}
    for split in ("dev", "test"):
        ids = pipeline.same_examples(this.setup, saved, split)
        found = evaluator.evaluate(saved.policy, ids, this.reward)
        metrics[split], seconds[f"evaluate_{split}"] = found.metrics, found.seconds
        details = saved.task.details(found.predictions, saved.task.references(ids))  # of the last split: test
    result = {
        "task": config.options.task,
        "algorithm": config.options.algo,
        "model": config.options.model,
        "feedback": config.options.feedback,
        "seed": config.seed,
        "options": pipeline.plain(config.options),
        "selection": {
            "rule": config.selection.by,
            "metric": this.setup.task.primary,
            "passes": this.best_passes,
            "labels_of_dev_used": config.selection.by == "dev_metric",
        },
        "examples": {split: len(ids) for split, ids in this.setup.ids.items()},
        **metrics,
        **details,
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "used": {**vars(this.counts), **_repeats(this)},
        "signatures": this.setup.task.signatures(),
        "versions": artifact.versions(),
        "git_commit": artifact.git_commit(),
    }
    durable.write_json(this.folder / "result.json", result)
    show_metrics(console, metrics["test"], "test")
    console.line(f"run folder: {this.folder}", run_dir=str(this.folder))
    command = shlex.join(["rlft", "eval", f"checkpoint={this.folder}", "split=test"])
    console.line(f"evaluate it: {command}", command=command)


def _repeats(this: Run) -> dict[str, Any]:
    """Whether the learner met the same examples again: many reactions to one example tell its label."""
    counts = this.counts
    each = counts.reaction_episodes / counts.reaction_examples if counts.reaction_examples else 0.0
    return {"contexts_repeat": this.passes > 1.0, "episodes_per_reacted_example": round(each, 4)}


def show_metrics(console: Console, metrics: dict[str, Interval], split: str) -> None:
    """Print metrics with their intervals; those of single labels (f1.PER) in a table of their own."""
    rows = [(name, m["value"], m["low"], m["high"]) for name, m in metrics.items() if "." not in name]
    console.table(f"{split} (95 % bootstrap intervals)", ("metric", "value", "low", "high"), rows)
    parts = [name.split(".", 1) for name in metrics if "." in name]
    kinds, labels = list(dict.fromkeys(p[0] for p in parts)), list(dict.fromkeys(p[1] for p in parts))
    if labels:
        cells = [[metrics[f"{kind}.{label}"]["value"] for kind in kinds] for label in labels]
        console.table(
            f"{split} by label", ("label", *kinds), [(label, *c) for label, c in zip(labels, cells, strict=True)]
        )


@contextmanager
def _interruptible(this: Run) -> Iterator[None]:
    """Let the first Ctrl-C end the run at the next step, with its state saved; the second ends it at once."""

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if this.stop:
            raise KeyboardInterrupt
        this.stop = True
        this.console.line("stopping after this step; press Ctrl-C again to stop at once")

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
