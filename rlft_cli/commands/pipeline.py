"""rlft pipeline: run the stages one after the other, each an ordinary run of rlft train that must show its gain."""

from __future__ import annotations

import gc
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rlft_cli import artifact, durable, pipeline
from rlft_cli.commands import eval as comparing
from rlft_cli.commands import train
from rlft_cli.console import Cell, Console
from rlft_cli.data import Splits
from rlft_cli.errors import RlftError, UsageError
from rlft_cli.evaluation import compare
from rlft_cli.options import Library
from rlft_cli.stages import EVERY, Stage, composed_stage, stage_faults, stages_of
from rlft_cli.through_hydra import config_folders, run_choices, with_options

GAIN_FILE = (
    "gain.json"  # in the run folder of a stage: what it gained, so that a resumed pipeline need not measure again
)


@dataclass(frozen=True, kw_only=True)
class Line:
    """A pipeline at work."""

    folder: Path
    split: str
    stages: list[Stage]
    library: Library
    console: Console

    def run_folder(self, stage: str) -> Path:
        """Where a stage has its run."""
        return self.folder / stage

    def finished(self, stage: str) -> bool:
        """Whether a stage has been trained to its end."""
        return (self.run_folder(stage) / "result.json").is_file()

    @property
    def command(self) -> str:
        """What goes on with this pipeline."""
        return shlex.join(["rlft", "pipeline", f"resume={self.folder}"])


def run(config: DictConfig, console: Console) -> None:
    """Train stage by stage; RlftError where one does not gain what is asked of it, with all that was done kept."""
    library = Library(config_folders())
    if config.resume is not None:
        folder, values = _resumed(config, library)
    else:
        name = config.options.experiment or "own"
        values = pipeline.plain(config)
        folder = artifact.create_run_folder(config.run_dir, config.runs, "pipeline", name)
        artifact.write_config(folder, values)
    stages, _ = stages_of(values)
    line = Line(folder=folder, split=values["split"], stages=stages, library=library, console=console)
    console.line(f"pipeline folder: {folder}; where it stops, go on with: {line.command}", pipeline=str(folder))
    gains = []
    for number, stage in enumerate(stages, start=1):
        _train(line, stage, number)
        gc.collect()  # accelerate's forward and its model hold one another: what comes next needs the memory
        gains.append(_require_gain(line, stage))
        gc.collect()
    _finish(line, gains)


def _train(line: Line, stage: Stage, number: int) -> None:
    """Run ``rlft train`` for a stage, go on with it, or leave it as it is where it has ended."""
    place = f"stage {number} of {len(line.stages)}: {stage.name}"
    if line.finished(stage.name):
        line.console.line(f"{place} has been trained", stage=stage.name)
        return
    composed, _ = composed_stage(line.library, stage, line.folder)
    config = with_options(OmegaConf.create(composed.values), composed.chosen)
    folder = line.run_folder(stage.name)
    if (folder / "config.yaml").is_file():
        config.resume, config.run_dir = str(folder), None
    line.console.line(f"{place}: rlft train {shlex.join(stage.train_words(line.folder))}", stage=stage.name)
    train.run(config, line.console)


# -- gains -----------------------------------------------------------------------------------------------------------


def _require_gain(line: Line, stage: Stage) -> dict[str, Any] | None:
    """What a stage gained; RlftError where that is not what was asked."""
    if stage.gain is None:
        return None
    asked = {key: stage.gain[key] for key in ("metric", "over")} | {"split": line.split}
    file = line.run_folder(stage.name) / GAIN_FILE
    stored = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if {key: stored.get(key) for key in asked} != asked:
        stored = asked | _measured(line, stage)
        durable.write_json(file, stored)
    number = stored["low"] if stage.gain["by"] == "interval" else stored["value"]
    over = "" if stage.gain["over"] is None else f" over {stage.gain['over']}"
    told = (
        f"{stored['metric']}{over} on {line.split}: {stored['value']:.4g} [{stored['low']:.4g}, {stored['high']:.4g}]"
    )
    end = "the lower end" if stage.gain["by"] == "interval" else "the value"
    if not number > stage.gain["more_than"]:
        raise RlftError(
            f"stage {stage.name} shows no gain, {told}, and {end} must be above {stage.gain['more_than']:g}; the pipeline "
            f"stops, {line.folder} is kept. Train the stage in another way: remove {line.run_folder(stage.name)} and type "
            f"{line.command} {stage.name}:KEY=VALUE; or ask for less in {line.folder / 'config.yaml'}"
        )
    line.console.line(f"stage {stage.name} gained {told}; {end} is above {stage.gain['more_than']:g}", stage=stage.name)
    return stored


def _measured(line: Line, stage: Stage) -> dict[str, float]:
    """Value and 95 % interval of the metric, or of the paired difference from an earlier stage."""
    assert stage.gain is not None
    metric, over = stage.gain["metric"], stage.gain["over"]
    folder = line.run_folder(stage.name)
    found: dict[str, dict[str, float]]
    if over is None:
        found = json.loads((folder / "result.json").read_text(encoding="utf-8"))[line.split]
    else:
        found = gain_over(folder, line.run_folder(over), line.split)
    if metric not in found:
        known = ", ".join(name for name in found if "." not in name)
        raise UsageError(
            f"stages.{stage.name}.gain.metric={metric}: there is no such metric; there are {known}. Correct it in "
            f"{line.folder / 'config.yaml'} and go on with: {line.command}"
        )
    return found[metric]


def gain_over(run: Path, other: Path, split: str) -> dict[str, dict[str, float]]:
    """Paired differences of one run from another on the data, and by the reward, of the first; "win_rate" among them."""
    card = artifact.read_card(artifact.find_checkpoint(str(run), "stage"))
    hardware = OmegaConf.create(card.config["hardware"])
    setup = pipeline.checkpoint_setup(str(run), hardware, comparing.SEED)
    rival = comparing.rival(str(other), setup, hardware)
    splits: Splits = pipeline.build(setup.config.data).load(setup.rows)
    rows = {"dev": splits.dev, "test": splits.test}[split].to_list()
    reward = pipeline.reward_of(setup)
    ours, theirs = (comparing.judge(one, rows, reward, setup.config.evaluation) for one in (setup, rival))
    gaps = compare(setup.task, ours, theirs, comparing.SEED, setup.config.evaluation.bootstrap)
    return {**gaps.difference, **({} if gaps.win_rate is None else {"win_rate": gaps.win_rate})}


def _finish(line: Line, gains: list[dict[str, Any] | None]) -> None:
    """Write what the stages gave, and say where they are."""
    rows: list[tuple[Cell, ...]] = []
    content = []
    for stage, gain in zip(line.stages, gains, strict=True):
        run = line.run_folder(stage.name)
        shown = (None,) * 5 if gain is None else tuple(gain[key] for key in ("metric", "over", "value", "low", "high"))
        rows.append((stage.name, *shown, str(run)))
        content.append({"stage": stage.name, "run": str(run), "words": stage.words, "gain": gain, "asked": stage.gain})
    durable.write_json(line.folder / "result.json", {"stages": content, "versions": artifact.versions()})
    columns = ("stage", "metric", "over", "gain", "low", "high", "run")
    line.console.table(f"gains on {line.split} (95 % intervals)", columns, rows)


# -- going on --------------------------------------------------------------------------------------------------------


def _resumed(config: DictConfig, library: Library) -> tuple[Path, dict[str, Any]]:
    """Folder and configuration of the pipeline that ``resume=`` names, with more words for stages that are still to come."""
    folder = Path(config.resume).expanduser()
    values = artifact.read_config(folder) if (folder / "config.yaml").is_file() else {}
    if "stages" not in values:
        raise UsageError(f"resume={config.resume} is no pipeline folder; give one that rlft pipeline made")
    if (folder / "result.json").exists():
        raise UsageError(f"resume={config.resume} has ended: every stage has shown its gain; begin a new pipeline")
    typed = {word.partition("=")[0] for word in run_choices()} - {"resume", "more", "console", "debug"}
    if typed:
        raise UsageError(
            f"resume={config.resume} goes on as it was configured; leave out {', '.join(sorted(typed))}, or begin anew "
            "(words for stages that are still to come may be given: STAGE:KEY=VALUE)"
        )
    more = list(config.more)
    _require_to_come(folder, values, more)
    values["more"] = [*values["more"], *more]
    if faults := stage_faults(library, {**values, "resume": None}):
        raise UsageError("; ".join(faults))
    artifact.write_config(folder, values)
    return folder, values


def _require_to_come(folder: Path, values: Mapping[str, Any], more: list[str]) -> None:
    """UsageError for words for a stage that has begun, and for a stage whose source is gone."""
    stages, _ = stages_of(values)
    begun = {stage.name for stage in stages if (folder / stage.name).exists()}
    for word in more:
        name = word.partition(":")[0]
        if name in begun or (name == EVERY and begun):
            had = name if name in begun else ", ".join(sorted(begun))
            raise UsageError(
                f"{word}: {had} has begun without it; to train it anew, remove its folder in {folder}, or leave the word out"
            )
    for stage in stages:
        for source in stage.takes.values():
            if stage.name in begun and not (folder / source / "result.json").is_file():
                raise UsageError(
                    f"stage {stage.name} was trained from {source}, which is not there any more; remove "
                    f"{folder / stage.name} too"
                )
