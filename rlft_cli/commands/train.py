"""rlft train: run the phases of a training, evaluate, select, save, and say where everything is."""

from __future__ import annotations

import json
import os
import shlex
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from omegaconf import DictConfig

from rlft_cli import artifact, durable, pipeline
from rlft_cli.commands.train_log import LOG_EVERY_STEPS, against_collapse, log, show_baselines, show_metrics, sizes
from rlft_cli.commands.train_reference import against_reference
from rlft_cli.commands.train_state import Run, keep_batch, load_state, restore, resumed_config, save_state
from rlft_cli.console import Console
from rlft_cli.errors import RewardFailure, RlftError, UsageError
from rlft_cli.evaluation import Evaluation
from rlft_cli.finite import NonFiniteError
from rlft_cli.hardware import keep_freed_memory
from rlft_cli.learner import Progress, learn
from rlft_cli.metrics.bootstrap import Interval
from rlft_cli.task.replies import SAMPLES
from rlft_cli.training import Training


class Interrupted(RlftError):
    """Ctrl-C: the state is saved and the run can go on."""

    exit_status = 130


def run(config: DictConfig, console: Console) -> None:
    """Train as configured; the run folder holds what came of it."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # set by torchrun, accelerate launch and their like
        raise UsageError(
            f"rlft train was started as {os.environ['WORLD_SIZE']} processes (WORLD_SIZE), which would all write the same "
            "run; it runs as one process for now: start it without a launcher"
        )
    keep_freed_memory()
    if config.resume is not None:
        config, folder = resumed_config(config)
        console.line(f"going on with {folder}")
        state = load_state(folder)
        setup = pipeline.new_setup(config)
    else:
        artifact.require_free(config.run_dir)
        state, setup = None, pipeline.new_setup(config)  # data or weights that cannot be had leave no folder behind
        doubt = pipeline.check_rewards(setup)
        if doubt is not None:
            console.warn(doubt)
        folder = artifact.create_run_folder(config.run_dir, config.runs, config.options.task, config.options.algo)
        artifact.write_config(folder, pipeline.plain(config))
    for message in setup.messages:
        console.line(message)
    chosen = ("task", "algo", "feedback", "model")
    console.line(", ".join(f"{group} {config.options[group]}" for group in chosen))
    console.line(sizes(setup))
    this = Run(folder=folder, config=config, setup=setup, console=console, reward=pipeline.reward_of(setup))
    with _interruptible(this):
        for phase in ("warm_start", "main"):
            if state is None or state["phase"] == phase:
                if phase == "main" or config.warm_start.fraction > 0:
                    _phase(this, phase, state)
                state = None
    _finish(this)


def _phase(this: Run, phase: str, state: dict[str, Any] | None) -> None:
    """Run one phase to its end, evaluating as configured."""
    this.phase, this.window = phase, []
    make = pipeline.warm_start_training if phase == "warm_start" else pipeline.main_training
    training = make(this.setup)
    if state is not None:
        restore(this, training, state)
    looked = _looks(this, training.seen / len(training.sampler))  # by the place alone: a resumed run looks alike
    try:
        if phase == "main":
            _begin(this, training)
        clock = time.perf_counter()
        for progress in learn(training):
            this.window.append(progress.signals)
            if progress.step % LOG_EVERY_STEPS == 0 or progress.done >= 1.0:
                log(this, training, progress)
                this.window.clear()
            due = phase == "main" and (_looks(this, progress.passes) > looked or progress.done >= 1.0)
            if due or this.stop:
                this.seconds += time.perf_counter() - clock
                if due:
                    looked = _looks(this, progress.passes)
                    _look(this, training, progress)
                save_state(this, training)
                clock = time.perf_counter()
            if this.stop:
                command = shlex.join(["rlft", "train", f"resume={this.folder}"])
                raise Interrupted(f"stopped by Ctrl-C; all is saved; go on with: {command}")
            if _patience_spent(this):
                this.console.line(f"stopping early: {this.without_gain} evaluations without gain")
                break
    except NonFiniteError as error:
        keep_batch(this, error)
    except RewardFailure as problem:
        save_state(this, training)
        command = shlex.join(["rlft", "train", f"resume={this.folder}"])
        raise RlftError(f"{problem}. What was learned is saved; once it is mended, go on with: {command}") from problem
    this.seconds += time.perf_counter() - clock
    this.passes = training.seen / len(training.sampler)
    for name, value in vars(training.counts).items():
        setattr(this.counts, name, getattr(this.counts, name) + value)
    if phase == "warm_start":
        this.console.line(f"warm start on {training.counts.label_examples} labelled examples is done")


def _begin(this: Run, training: Training) -> None:
    """What comes before the first step of the main phase: measures of a reward, replies, and an evaluation that is due."""
    if training.step == 0 and this.setup.task.decisions == "tokens":
        evaluator, ids = this.setup.evaluator(this.config.evaluation), this.setup.ids["test"][:SAMPLES]
        this.before = evaluator.predict(this.setup.policy, ids)
    if pipeline.measure_rewards(this.setup, training):  # only before anything is learned
        artifact.write_config(this.folder, pipeline.plain(this.config))
    # With passes=0 what the warm start gave is all; and what could not be evaluated before a resume is due.
    if (training.done >= 1.0 and training.step == 0) or this.due:
        passes = training.seen / len(training.sampler)
        _look(this, training, Progress(step=training.step, passes=passes, done=1.0, pass_ended=True, signals={}))


def _looks(this: Run, passes: float) -> int:
    """How many evaluations are due by then."""
    return int(passes / this.config.selection.every_passes + 1e-9)


def _patience_spent(this: Run) -> bool:
    patience = this.config.selection.patience
    return bool(patience) and this.config.selection.by != "last" and this.without_gain >= patience


def _look(this: Run, training: Training, progress: Progress) -> None:
    """Evaluate on dev, and keep the checkpoint where it is the best by the selection rule."""
    this.due = True
    found = this.setup.evaluator(this.config.evaluation).evaluate(this.setup.policy, this.setup.ids["dev"], this.reward)
    away = against_reference(this, training)
    this.due = False
    primary = this.setup.task.primary
    rule = this.config.selection.by
    values = {name: interval["value"] for name, interval in (found.metrics | away).items()}
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
            "dev kl": values.get("kl"),
            "best": "*" if gained and rule != "last" else None,
        }
    )
    collapsed = values.get("predicted_entity_rate") == 0.0
    if collapsed and not this.collapsed:  # said once, and again after a recovery
        this.console.warn(f"the policy predicts no entity at all; {against_collapse(this.config)}")
    this.collapsed = collapsed
    if gained:
        this.best, this.best_passes, this.without_gain = score, progress.passes, 0
        this.from_reference = away
        durable.replace_folder(this.folder / "checkpoint", this.setup.save_checkpoint)
    else:
        this.without_gain += 1


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
        details = saved.task.details(found.predictions, found.references)  # of the last split: test
    durable.write_text(this.folder / "test_predictions.jsonl", _lines(found))
    if this.before:
        details["samples"] = [
            {"before": before, **one} for before, one in zip(this.before, details["samples"], strict=True)
        ]
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
        **({"from_reference": this.from_reference} if this.from_reference else {}),
        **details,
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "used": {**vars(this.counts), **_repeats(this)},
        "signatures": this.setup.task.signatures(),
        "versions": artifact.versions(),
        "git_commit": artifact.git_commit(),
    }
    durable.write_json(this.folder / "result.json", result)
    show_metrics(console, metrics["test"], "test")
    if "baselines" in details:  # policies that a task brings along
        show_baselines(console, metrics["test"], details["baselines"], this.setup.task.primary)
    console.line(f"run folder: {this.folder}", run_dir=str(this.folder))
    command = shlex.join(["rlft", "eval", f"checkpoint={this.folder}", "split=test"])
    console.line(f"evaluate it: {command}", command=command)


def _lines(found: Evaluation) -> str:
    """Every prediction with its reference and the reward of its episode, one JSON object a line."""
    assert found.rewards is not None
    rows = zip(found.predictions, found.references, found.rewards.tolist(), strict=True)
    keys = ("prediction", "reference", "reward")
    return "".join(json.dumps(dict(zip(keys, row, strict=True)), ensure_ascii=False) + "\n" for row in rows)


def _repeats(this: Run) -> dict[str, Any]:
    """Whether the learner met the same examples again: many reactions to one example tell its label."""
    counts = this.counts
    each = counts.reaction_episodes / counts.reaction_examples if counts.reaction_examples else 0.0
    return {"contexts_repeat": this.passes > 1.0, "episodes_per_reacted_example": round(each, 4)}


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
