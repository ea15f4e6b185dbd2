"""The static check of everything that is given to a verb, against the fields of its root config. Imports no torch."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rlft_cli.components import Problem, check_class, is_text
from rlft_cli.compose import Composed
from rlft_cli.options import Library
from rlft_cli.pairs import Pairing, impossible_pairs
from rlft_cli.roots import NOT_READ, ROOTS, root_class
from rlft_cli.sources import ClassSource, NoSuchTarget, read_class, read_target


def config_folder() -> Path:
    """The packaged configs: inside an installed wheel, or at the top of a checkout."""
    inside = Path(__file__).parent / "configs"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "configs"


def check(library: Library, verb: str, composed: Composed, *, running: bool = True) -> list[str]:
    """Return one line for each fault of a composed config; ``running`` asks for the values that must be given."""
    values, unresolved = resolved(composed.values)
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
        reached = [source.fields[rest[0]] for source in sources if rest[0] in source.fields]
        return [end for start in reached if (end := _descend(*start, rest[1:])) is not None]
    end = _descend(*root.fields[first], rest)
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
        annotation, path = source.fields[key]
    return annotation, path


def _classes(library: Library, group: str) -> Iterator[ClassSource]:
    for option in library.options.get(group, {}):
        source = library.option(group, option)
        try:
            if source is not None and "_target_" in source.values:
                yield read_target(str(source.values["_target_"]))
        except NoSuchTarget:
            continue  # reported when it is chosen


def resolved(values: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Fill in ``${...}`` and say what cannot be filled in; only configs that hold one pay for importing OmegaConf."""
    if "${" not in repr(values):
        return values, []
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        filled = OmegaConf.to_container(OmegaConf.create(_left_open(values)), resolve=True)
        assert isinstance(filled, dict)
        return {str(key): value for key, value in filled.items()}, []
    except OmegaConfBaseException as problem:
        key = getattr(problem, "full_key", None) or "configuration"
        return values, [Problem(key=str(key), text=_unfilled(str(key), str(problem).splitlines()[0]))]


def _left_open(values: dict[str, Any]) -> dict[str, Any]:
    """The values with references to data that a checkpoint will tell kept as they stand (``pipeline.given_reward``)."""
    if "checkpoint" not in values or values.get("data") is not None:
        return values
    return {key: _kept(value) if key == "reward" else value for key, value in values.items()}


def _kept(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _kept(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_kept(inner) for inner in value]
    return value.replace("${data.", r"\${data.") if isinstance(value, str) else value


def _unfilled(key: str, text: str) -> str:
    unset = re.search(r"Environment variable '(\w+)' not found", text)
    if unset is None:
        return f"cannot be filled in: {text}; type {key}=..."
    typed = (
        "" if key.startswith("stages.") else f", or give {key}=..."
    )  # the words of a stage are filled in as they stand
    return f"the environment variable {unset[1]} is not set; type export {unset[1]}=...{typed}"


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
    reading = [other for other in ROOTS if other != verb and key not in NOT_READ.get(other, ())]
    others = [f"rlft {other}" for other in reading if key in root_class(other).fields]
    return f" (but {' and '.join(others)})" if others else ""
