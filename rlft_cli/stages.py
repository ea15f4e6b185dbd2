"""What a pipeline runs: its stages as words of ``rlft train``, composed and checked before any of them starts.

Imports no torch. A stage takes from an earlier one by KEY=STAGE: KEY is then given the run folder of that stage.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlft_cli.compose import Composed, compose
from rlft_cli.config import check, is_text_key, resolved
from rlft_cli.options import Library
from rlft_cli.overrides import parse, quoted
from rlft_cli.suggest import did_you_mean

EVERY = "all"  # stands for every stage in ``more``
# What the pipeline sets itself, and what it has no use for.
_OWN = ("run_dir", "runs", "resume", "console", "debug")
_MORE = re.compile(r"([A-Za-z_][\w-]*):(.+)", re.S)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage, as it is to run."""

    name: str
    words: list[str]  # KEY=VALUE of rlft train, those of ``more`` included
    takes: dict[str, str]  # key -> earlier stage
    gain: dict[str, Any] | None  # as configured; None asks for nothing

    def train_words(self, folder: Path) -> list[str]:
        """The words with which ``rlft train`` runs this stage of the pipeline in ``folder``."""
        taken = [f"{key}={folder / stage}" for key, stage in self.takes.items()]
        return [*self.words, *taken, f"run_dir={folder / self.name}"]


def other_verb(library: Library, verb: str, experiment: str) -> str | None:
    """What to say where a preset for ``rlft train`` is given to a pipeline, or one with stages to a run; None where it fits."""
    source = library.option("experiment", experiment)
    if source is None:
        return None
    if verb == "train" and "stages" in source.values:
        return f"experiment={experiment}: has stages; type rlft pipeline experiment={experiment}"
    chooses = any(
        str(key).startswith("override ") for entry in source.defaults if isinstance(entry, dict) for key in entry
    )
    if verb == "pipeline" and chooses and "stages" not in source.values:
        return f"experiment={experiment}: is one run, without stages; type rlft train experiment={experiment}"
    return None


def stages_of(values: Mapping[str, Any]) -> tuple[list[Stage], list[str]]:
    """The stages of a resolved pipeline config, and one line for everything that is wrong with how they hang together."""
    given: dict[str, Any] = values["stages"]
    faults = (
        [] if given else ["stages: there are none; type experiment=three_stage_dialogue, or another file with stages"]
    )
    faults += [f"stages.{name}: a stage cannot have this name; give it another" for name in given if not _is_name(name)]
    more, more_faults = _more(values["more"], list(given))
    stages: list[Stage] = []
    for name, one in given.items():
        before = [stage.name for stage in stages]
        takes = dict(word.partition("=")[::2] for word in one["takes"])
        for key, stage in takes.items():
            if stage not in before:
                faults.append(f"stages.{name}.takes: {key}={stage} {_earlier(stage, before)}")
        gain = one["gain"]
        if gain is not None and gain["over"] is not None and gain["over"] not in before:
            faults.append(f"stages.{name}.gain.over: {gain['over']} {_earlier(gain['over'], before)}")
        words = _overridden([*one["words"], *more[EVERY], *more.get(name, [])])
        stages.append(Stage(name=name, words=words, takes=takes, gain=gain))
    return stages, [*faults, *more_faults]


def composed_stage(library: Library, stage: Stage, folder: Path) -> tuple[Composed, list[str]]:
    """The config of ``rlft train`` for a stage, and one line for each of its faults."""
    lines = [f"{word}: the pipeline sets this itself; leave it out" for word in stage.words if _key(word) in _OWN]
    options: dict[str, list[str]] = {key: [] for key in library.root("train").values}
    options |= {group: list(library.options.get(group, {})) for group in library.groups("train")}
    overrides, problems = parse(
        stage.train_words(folder),
        multirun=False,
        is_text=lambda key: is_text_key(library, "train", key),
        options=options,
    )
    composed = compose(library, "train", [(override, override.values[0]) for override in overrides])
    if composed is None:
        from rlft_cli.through_hydra import compose_with_hydra  # slow to import

        composed = compose_with_hydra(library.folders, "train", [override.text for override in overrides])
    lines += [f"{problem.key}: {problem.text}" for problem in problems]
    return composed, [f"stage {stage.name}: {line}" for line in [*lines, *check(library, "train", composed)]]


def stage_faults(library: Library, values: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with any stage of a pipeline config that is otherwise right.

    A pipeline that is resumed has its stages in its folder, and is checked when that is read.
    """
    if values["resume"] is not None:
        return []
    stages, faults = stages_of(resolved(dict(values))[0])
    tasks: dict[str, Any] = {}
    for stage in stages:
        composed, lines = composed_stage(library, stage, Path("pipeline"))
        faults += lines
        tasks[stage.name] = composed.values.get("task")
        over = stage.gain["over"] if stage.gain is not None else None
        if over in tasks and _target(tasks[over]) != _target(tasks[stage.name]):
            faults.append(
                f"stages.{stage.name}.gain.over: {over} is of another task, and cannot be compared; give null"
            )
    return faults


def is_more(word: str) -> bool:
    """Whether a word of the command line is for one stage: STAGE:KEY=VALUE."""
    head, equals, _ = word.partition("=")
    return bool(equals) and _MORE.fullmatch(head) is not None


def more_word(words: Sequence[str]) -> str:
    """The words for single stages as the one word that sets ``more``."""
    return f"more=[{','.join(map(quoted, words))}]"


def _more(given: Sequence[str], names: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Words for single stages by stage, and what is wrong with them."""
    found: dict[str, list[str]] = {EVERY: [], **{name: [] for name in names}}
    faults = []
    for word in given:
        parts = _MORE.fullmatch(word)
        if parts is None or "=" not in parts[2]:
            faults.append(f"more: {word}: expected STAGE:KEY=VALUE")
        elif parts[1] not in found:
            hint = did_you_mean(parts[1], [*names, EVERY], "") or f"; there are {', '.join([*names, EVERY])}"
            faults.append(f"{word}: there is no stage {parts[1]}{hint}")
        else:
            found[parts[1]].append(parts[2])
    return found, faults


def _overridden(words: Sequence[str]) -> list[str]:
    """Words of which later ones stand: of a key the last, and of a group's keys those after its last choice."""
    kept: dict[str, str] = {}
    for word in words:
        key = _key(word)
        kept = {other: text for other, text in kept.items() if other != key and not other.startswith(f"{key}.")}
        kept[key] = word
    return list(kept.values())


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")


def _target(task: Any) -> Any:
    return task.get("_target_") if isinstance(task, dict) else None


def _is_name(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z_][\w-]*", name) is not None and name != EVERY


def _earlier(stage: str, before: Sequence[str]) -> str:
    hint = did_you_mean(stage, before, "") or (
        f"; there are {', '.join(before)}" if before else "; this is the first one"
    )
    return f"names no earlier stage{hint}"
