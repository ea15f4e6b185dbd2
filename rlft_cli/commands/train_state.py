"""Where a training is: what it holds between its commands, saved so that a stopped run goes on as if it never had."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from rlft_cli import artifact, durable, pipeline
from rlft_cli.console import Console
from rlft_cli.errors import RlftError, UsageError
from rlft_cli.finite import NonFiniteError
from rlft_cli.metrics.bootstrap import Interval
from rlft_cli.reactions import Counts
from rlft_cli.reward import Reward
from rlft_cli.through_hydra import run_choices
from rlft_cli.training import Training

KEPT_BY_RESUME = ("console", "debug")  # the keys that a resumed run takes from the command line


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
    due: bool = False  # an evaluation that could not be done
    passes: float = 0.0  # of the main phase
    before: list[str] = field(default_factory=list)  # first test replies of the policy with which the main phase began
    from_reference: dict[str, Interval] = field(default_factory=dict)  # of the best checkpoint; empty without one


# What a state holds of a run; beside it "training" and "counts".
KEPT = ("phase", "best", "best_passes", "without_gain", "seconds", "window", "due", "before", "from_reference")


def resumed_config(config: DictConfig) -> tuple[DictConfig, Path]:
    """Configuration and folder of the run that ``resume=`` names; UsageError where it is none that can go on."""
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


def save_state(this: Run, training: Training) -> None:
    """Write what ``load_state`` and ``restore`` read."""
    state = {name: vars(this)[name] for name in KEPT}
    state |= {"training": training.state_dict(), "counts": vars(this.counts).copy()}
    durable.replace_folder(this.folder / "state", lambda folder: durable.save_nested(folder, state))


def load_state(folder: Path) -> dict[str, Any] | None:
    """Where a run stopped, None where it had just begun.

    RlftError where that, or the best checkpoint, is damaged, and for a state that another version of rlft wrote.
    """
    if not durable.current(folder / "state").exists():
        return None
    state = durable.load_nested(folder / "state")
    if missing := [name for name in (*KEPT, "training", "counts") if name not in state]:
        raise RlftError(
            f"{folder / 'state'} was written by another version of rlft (it has no {missing[0]}); resume it with that version, "
            f"or begin a run from its weights: init={folder}"
        )
    if state["best"] is not None:
        artifact.read_card(durable.current(folder / "checkpoint"))
    return state


def restore(this: Run, training: Training, state: dict[str, Any]) -> None:
    """Put run and training where they were, and drop what was logged after that."""
    training.load_state_dict(state["training"])
    this.best, this.best_passes, this.without_gain = state["best"], state["best_passes"], state["without_gain"]
    this.seconds, this.counts, this.window = state["seconds"], Counts(**state["counts"]), state["window"]
    this.due, this.before, this.from_reference = state["due"], state["before"], state["from_reference"]
    artifact.truncate_log(this.folder / "metrics.jsonl", this.phase, training.step)


def keep_batch(this: Run, error: NonFiniteError) -> None:
    """Keep the batch that was no number, and raise RlftError that says where."""
    batch = {name: value for name, value in vars(error.batch).items() if name != "observation"}
    content = {"id": error.batch.observation["id"], **batch}
    durable.replace_folder(this.folder / "nonfinite_batch", lambda folder: durable.save_nested(folder, content))
    raise RlftError(f"{error}; the batch is kept in {this.folder / 'nonfinite_batch'}") from error
