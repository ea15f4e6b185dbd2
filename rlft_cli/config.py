"""The typed root configs of all verbs, and the static check of everything that is given to them. Imports no torch."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from rlft_cli.components import Problem, check_class, is_text
from rlft_cli.compose import Composed
from rlft_cli.options import Library
from rlft_cli.pairs import Pairing, impossible_pairs
from rlft_cli.sources import ClassSource, NoSuchTarget, read_class, read_target

ConsoleMode = Literal["auto", "rich", "plain", "json"]


class Component(Protocol):
    """What an option of a group configures: a mapping whose ``_target_`` names a dataclass."""


@dataclass(frozen=True, kw_only=True)
class Optim:
    """The optimiser, its schedule and the size of a batch."""

    lr: Annotated[float, "[0, inf)"]
    head_lr: Annotated[float, "[0, inf)"]
    weight_decay: Annotated[float, "[0, inf)"]
    warmup_fraction: Annotated[float, "[0, 1]"]
    schedule: Literal["linear", "cosine", "constant"]
    max_grad_norm: Annotated[float, "(0, inf)"]
    batch_tokens: Annotated[int, "[1, inf)"]
    max_batch_episodes: Annotated[int, "[1, inf)"]
    micro_batches: Annotated[int, "[1, inf)"]


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """Supervised training on a part of the labels before learning from rewards, and, mixed in, while doing so."""

    fraction: Annotated[float, "[0, 1]"]
    passes: Annotated[float, "(0, inf)"]
    lr: Annotated[float, "[0, inf)"]
    head_lr: Annotated[float, "[0, inf)"]
    max_batch_episodes: Annotated[int, "[1, inf)"]
    mix_coefficient: Annotated[float, "[0, inf)"]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which checkpoint is kept as the best, and when to stop."""

    by: Literal["dev_metric", "dev_reward", "last"]
    patience: Annotated[int, "[0, inf)"]
    every_passes: Annotated[float, "(0, inf)"]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How much is evaluated at once, and how sure the intervals are."""

    batch_tokens: Annotated[int, "[1, inf)"]
    max_examples: Annotated[int | None, "[1, inf)"]
    bootstrap: Annotated[int, "[1, inf)"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that ``rlft train`` reads."""

    task: Component
    data: Component
    model: Component
    tuning: Component
    algo: Component
    reward: Component
    feedback: Component
    explore: Component
    memory: Component
    hardware: Component
    seed: Annotated[int, "[0, 4294967295]"]
    runs: str
    run_dir: str | None
    resume: str | None
    init: str | None
    console: ConsoleMode
    debug: bool
    passes: Annotated[float, "[0, inf)"]
    optim: Optim
    warm_start: WarmStart
    selection: Selection
    evaluation: Evaluation


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Everything that ``rlft eval`` reads; task, model and tokenizer come from the checkpoint."""

    checkpoint: str
    split: Literal["train", "dev", "test"]
    data: Component | None
    output: str | None
    hardware: Component
    console: ConsoleMode
    debug: bool
    evaluation: Evaluation


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Everything that ``rlft predict`` reads."""

    checkpoint: str
    text: str | None
    input: str | None
    output: str | None
    format: Literal["auto", "jsonl", "conll", "text"]
    hardware: Component
    console: ConsoleMode
    debug: bool
    evaluation: Evaluation


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Everything that ``rlft data`` reads; the model tells what will be windowed, the last three come with the task."""

    data: Component
    task: Component
    model: Component
    tuning: Component
    reward: Component
    explore: Component
    console: ConsoleMode
    debug: bool


@dataclass(frozen=True, kw_only=True)
class ModelsConfig:
    """Everything that ``rlft models`` reads."""

    fetch: str | None
    cache: str | None
    console: ConsoleMode
    debug: bool


@dataclass(frozen=True, kw_only=True)
class SimulateLogsConfig:
    """Everything that ``rlft simulate-logs`` reads; task, model and tokenizer come from the checkpoint."""

    checkpoint: str
    output: str
    split: Literal["train", "dev", "test"]
    data: Component | None
    reward: Component | None
    explore: Component
    episodes_per_example: Annotated[int, "[1, inf)"]
    seed: Annotated[int, "[0, 4294967295]"]
    hardware: Component
    console: ConsoleMode
    debug: bool
    evaluation: Evaluation


@dataclass(frozen=True, kw_only=True)
class OpeConfig:
    """Everything that ``rlft ope`` reads; the policy is a checkpoint, the examples are those of the log."""

    log: str
    policy: str
    temperature: Annotated[float, "[0, inf)"]
    weights: Literal["auto", "decision", "episode"]
    clip: Annotated[float, "(0, inf)"]
    ridge: Annotated[float, "(0, inf)"]
    seed: Annotated[int, "[0, 4294967295]"]
    output: str | None
    hardware: Component
    console: ConsoleMode
    debug: bool
    evaluation: Evaluation


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Everything that ``rlft verify`` reads; the last three groups come with the algorithm."""

    algo: Component | None
    only: str | None
    feedback: Component
    memory: Component
    explore: Component
    console: ConsoleMode
    debug: bool


ROOTS = {
    "train": "TrainConfig",
    "eval": "EvalConfig",
    "predict": "PredictConfig",
    "data": "DataConfig",
    "models": "ModelsConfig",
    "simulate-logs": "SimulateLogsConfig",
    "ope": "OpeConfig",
    "verify": "VerifyConfig",
}
# Groups that only come with others: what they lack is not asked for.
NOT_READ = {"verify": ("feedback", "memory", "explore")}


def config_folder() -> Path:
    """The packaged configs: inside an installed wheel, or at the top of a checkout."""
    inside = Path(__file__).parent / "configs"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "configs"


def root_class(verb: str) -> ClassSource:
    """Fields of a verb's root config, read from this file as those of components are from theirs."""
    return read_class(Path(__file__), ROOTS[verb])


def check(library: Library, verb: str, composed: Composed, *, running: bool = True) -> list[str]:
    """Return one line for each fault of a composed config; ``running`` asks for the values that must be given."""
    values, unresolved = _resolved(composed.values)
    problems = [*composed.problems, *unresolved, *check_class(root_class(verb), values, "")]
    refused = {problem.key.partition("=")[0] for problem in composed.problems}
    refused = {group for group in refused if composed.chosen.get(group) is None}
    lines = []
    for problem in problems:
        group = problem.key.partition(".")[0]
        dropped = group in refused and problem not in composed.problems  # a consequence of the wrong option
        needless = problem.absent and group in NOT_READ.get(verb, ())
        if not (dropped or needless) and (running or not problem.absent):
            lines.append(_line(library, verb, composed, problem))
    pairing = Pairing(library=library, values=values, chosen=composed.chosen)
    lines += [f"{problem.key}: {problem.text}" for problem in impossible_pairs(pairing)]
    return list(dict.fromkeys(lines))


def fields_of(library: Library, verb: str, key: str) -> list[tuple[ast.expr, Path]]:
    """Annotations that a dotted key may have (one for each option of its group that has it), and their files."""
    first, *rest = key.split(".")
    root = root_class(verb)
    if first not in root.fields:
        return []
    if first in library.groups(verb):
        sources = list(_classes(library, first)) if rest else []
        reached = [(source.fields[rest[0]], source.path) for source in sources if rest[0] in source.fields]
        return [end for start in reached if (end := _descend(*start, rest[1:])) is not None]
    end = _descend(root.fields[first], root.path, rest)
    return [end] if end is not None else []


def is_text_key(library: Library, verb: str, key: str) -> bool:
    """Whether the value of a key is free text, so that it is taken as it stands."""
    return any(is_text(annotation, path) for annotation, path in fields_of(library, verb, key))


def _descend(annotation: ast.expr, path: Path, keys: Sequence[str]) -> tuple[ast.expr, Path] | None:
    """Follow dotted keys through sections and mappings."""
    for key in keys:
        if isinstance(annotation, ast.Subscript):
            inner = annotation.slice
            annotation = inner.elts[-1] if isinstance(inner, ast.Tuple) else inner
            continue
        try:
            source = read_class(path, annotation.id if isinstance(annotation, ast.Name) else "")
        except NoSuchTarget:
            return None
        if key not in source.fields:
            return None
        annotation = source.fields[key]
    return annotation, path


def _classes(library: Library, group: str) -> Iterator[ClassSource]:
    for option in library.options.get(group, {}):
        source = library.option(group, option)
        try:
            if source is not None and "_target_" in source.values:
                yield read_target(str(source.values["_target_"]))
        except NoSuchTarget:
            continue  # reported when it is chosen


def _resolved(values: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Fill in ``${...}``; only configs that hold one pay for importing OmegaConf."""
    if "${" not in repr(values):
        return values, []
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        filled = OmegaConf.to_container(OmegaConf.create(values), resolve=True)
        assert isinstance(filled, dict)
        return {str(key): value for key, value in filled.items()}, []
    except OmegaConfBaseException as problem:
        key = getattr(problem, "full_key", None) or "configuration"
        return values, [Problem(key=str(key), text=_unfilled(str(key), str(problem).splitlines()[0]))]


def _unfilled(key: str, text: str) -> str:
    unset = re.search(r"Environment variable '(\w+)' not found", text)
    if unset is None:
        return f"cannot be filled in: {text}"
    return f"the environment variable {unset[1]} is not set; type export {unset[1]}=..., or give {key}=..."


def _line(library: Library, verb: str, composed: Composed, problem: Problem) -> str:
    text = problem.text
    group, _, rest = problem.key.partition(".")
    option = composed.chosen.get(group)
    if problem.unknown and option is not None and rest and "did you mean" not in text:
        others = library.having(group, rest)
        elsewhere = f" (but of {', '.join(others)})" if others else ""
        text = text.replace("no such key", f"no such key of {group}={option}{elsewhere}")
    elif problem.unknown and option is not None:
        text = text.replace("no such key", f"no such key of {group}={option}")
    elif problem.unknown and not rest and "did you mean" not in text:
        text = f"rlft {verb} has no such key{_of_other_verbs(verb, group)}; rlft {verb} --help lists them"
    elif problem.absent:
        source = library.option(group, option) if option is not None else library.root(verb)
        key = rest if option is not None else problem.key
        comment = source.comment(key) if source is not None and key in source.lines else ""
        return f"{problem.key}: must be given: type {problem.key}=...  ({comment or text})"
    place = f"{group}._target_" if "is missing" in text else problem.key
    origin = composed.origin.get(place)
    return f"{problem.key}: {text}" + (f" [{origin}]" if origin else "")


def _of_other_verbs(verb: str, key: str) -> str:
    others = [f"rlft {other}" for other in ROOTS if other != verb and key in root_class(other).fields]
    return f" (but {' and '.join(others)})" if others else ""
