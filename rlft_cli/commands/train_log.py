"""What a training says while it runs: lines of metrics.jsonl, rows on the console, and advice."""

from __future__ import annotations

import math
from collections.abc import Mapping

from omegaconf import DictConfig

from rlft_cli import durable, pipeline
from rlft_cli.commands.train_state import Run
from rlft_cli.console import Cell, Console
from rlft_cli.learner import Progress
from rlft_cli.metrics.bootstrap import Interval
from rlft_cli.training import Training

LOG_EVERY_STEPS = 10
MOST_SAMPLES = 16  # more episodes of one example than this are no advice to give


def sizes(setup: pipeline.Setup) -> str:
    """What there is to train on and to train, in a line."""
    trainable = sum(w.numel() for w in setup.policy.parameters() if w.requires_grad)
    sizes = ", ".join(f"{split} {len(ids)}" for split, ids in setup.ids.items())
    labels = f", {len(setup.task.labels)} actions" if setup.task.labels else ""
    return f"{sizes}{labels}; {trainable / 1e6:.2f}M weights to train, {setup.precision} on {setup.accelerator.device}"


def log(this: Run, training: Training, progress: Progress) -> None:
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
    advice = against_few_samples(means, training.algorithm.samples)
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


def against_few_samples(means: Mapping[str, float], samples: int) -> str | None:
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


def against_collapse(config: DictConfig) -> str:
    """What can be done about a policy that predicts nothing, in the keys that this run has."""
    if pipeline.build(config.algo).needs == "labels":
        return "where that stays so, raise passes or optim.head_lr"
    ways = ["raise warm_start.fraction", "lower optim.lr"]
    ways += ["lower reward.outside_weight"] if "outside_weight" in config.reward else []
    ways += ["raise algo.entropy_coefficient"] if "entropy_coefficient" in config.algo else []
    return f"it may have collapsed to O: {', '.join(ways[:-1])} or {ways[-1]}"


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


def show_baselines(
    console: Console, metrics: dict[str, Interval], others: dict[str, dict[str, Interval]], key: str
) -> None:
    """Print one metric of the trained policy beside that of other policies on the same examples."""
    policies = {"trained": metrics, **others}
    rows: list[tuple[Cell, ...]] = [
        (name, *(found[key][part] for part in ("value", "low", "high"))) for name, found in policies.items()
    ]
    console.table(f"{key} on test, beside others", ("policy", key, "low", "high"), rows)
