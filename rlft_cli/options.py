"""What can be chosen: the groups, options, keys and comments of the YAML files, as they stand in the files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from rlft_cli.components import MISSING
from rlft_cli.errors import UsageError

_FLOAT = re.compile(  # YAML 1.2 floats; YAML 1.1 takes 1e-4 for text (the rule that OmegaConf uses)
    r"""^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?
    |[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+
    |[-+]?\.[0-9_]+(?:[eE][-+]?[0-9]+)?
    |[-+]?\.(?:inf|Inf|INF)
    |\.(?:nan|NaN|NAN))$""",
    re.X,
)


class _Loader(yaml.CSafeLoader):
    """The C loader with OmegaConf's numbers and without dates."""


_Loader.yaml_implicit_resolvers = {
    letter: [
        (tag, rule) for tag, rule in rules if tag not in ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:float")
    ]
    for letter, rules in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One line of a defaults list: which option of which group."""

    group: str
    option: str | None
    override: bool = False
    optional: bool = False


@dataclass(frozen=True, kw_only=True)
class Source:
    """One YAML file as it was read; keys are dotted, lines count from 1."""

    path: Path
    values: dict[str, Any]
    lines: dict[str, int]
    text: list[str]
    defaults: list[Any]
    sweep: dict[str, Any]  # hydra.sweeper.params
    spans: dict[str, tuple[int, int]]  # where the value of a key ends: line (from 0) and column

    @property
    def is_global(self) -> bool:
        """Whether the values belong to the root instead of to the file's group."""
        head = [line for line in self.text[:5] if line.startswith("#")]
        return any(re.match(r"#\s*@package\s+_global_\s*$", line) for line in head)

    @property
    def summary(self) -> str:
        """The first comment: one line that describes the option."""
        for line in self.text:
            if line.startswith("#") and "@package" not in line and line.strip("# "):
                return line.strip("# ")
            if line.strip() and not line.startswith("#"):
                break
        return ""

    def comment(self, key: str) -> str:
        """The comment on a key's line (with its continuation) or on the lines above it; empty where there is none."""
        row, column = self.spans[key]
        rest = self.text[row][column:] if row < len(self.text) else ""
        if "#" in rest:
            at = column + rest.index("#")
            parts = [self.text[row][at:].strip("# ")]
            for line in self.text[row + 1 :]:
                if not line.strip().startswith("#") or line.index("#") != at:
                    break
                parts.append(line.strip("# "))
            return " ".join(parts)
        return " ".join(self._above(self.lines[key] - 1))

    def _above(self, row: int) -> list[str]:
        indent = len(self.text[row]) - len(self.text[row].lstrip())
        parts: list[str] = []
        for line in reversed(self.text[:row]):
            text = line.strip()
            if not text.startswith("#") or line.index("#") != indent or text.strip("# ") == self.summary:
                break
            parts.insert(0, text.strip("# "))
        return parts


class Library:
    """The config folders of one call: the user's own first, as Hydra searches them, then the packaged one."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = list(folders)
        self._read: dict[Path, Source] = {}

    @cached_property
    def options(self) -> dict[str, dict[str, Path]]:
        """Every group with its options and their files; recipe/reward is a group of its own."""
        found: dict[str, dict[str, Path]] = {}
        for folder in self.folders:
            for file in sorted(folder.glob("*/**/*.yaml")):
                group = file.parent.relative_to(folder).as_posix()
                found.setdefault(group, {}).setdefault(file.stem, file)
        return {group: dict(sorted(files.items())) for group, files in sorted(found.items())}

    def option(self, group: str, name: str) -> Source | None:
        """Read one option of a group; None where there is no such file."""
        for folder in self.folders:
            path = folder / group / f"{name}.yaml"
            if path.is_file():
                return self.read(path)
        return None

    def root(self, verb: str) -> Source:
        """Read the root config of a verb."""
        for folder in self.folders:
            if (folder / f"{verb}.yaml").is_file():
                return self.read(folder / f"{verb}.yaml")
        raise UsageError(f"there is no {verb}.yaml in {', '.join(map(str, self.folders))}; reinstall rlft")

    def read(self, path: Path) -> Source:
        """Read one YAML file; raises UsageError with its line where it is not a YAML mapping."""
        if path not in self._read:
            self._read[path] = _read(path)
        return self._read[path]

    def groups(self, verb: str) -> list[str]:
        """The groups that a verb chooses from, in the order of its defaults list."""
        return [choice.group for choice in read_choices(self.root(verb), root=True) or []]

    def having(self, group: str, key: str) -> list[str]:
        """Options of a group that have a key, as the user types them."""
        files = self.options.get(group, {})
        return [f"{group}={name}" for name, path in files.items() if key in self.read(path).values]

    def shown(self, path: Path) -> str:
        """Name a file as short as is clear: configs/algo/dqn.yaml."""
        for folder in self.folders:
            if path.is_relative_to(folder):
                return str(Path(folder.name) / path.relative_to(folder))
        return str(path)


def read_choices(source: Source, *, root: bool = False) -> list[Choice] | None:
    """Read a defaults list, without Hydra's own entries; None where it uses a form that only Hydra understands.

    An option that builds on another of its group (``defaults: [dqn, _self_]``) gives a Choice without a group.
    """
    entries = [entry for entry in source.defaults if not _is_hydras(entry)]
    place = 0 if root else len(entries) - 1
    if "_self_" in entries and entries.index("_self_") != place:
        return None
    found = [_read_entry(entry, root or source.is_global, root) for entry in entries if entry != "_self_"]
    known = [choice for choice in found if choice is not None]
    return known if len(known) == len(found) else None


def _read_entry(entry: Any, at_root: bool, in_root_file: bool) -> Choice | None:
    if isinstance(entry, str):
        return None if in_root_file else Choice(group="", option=entry)
    if not isinstance(entry, dict) or len(entry) != 1:
        return None
    ((key, option),) = entry.items()
    *words, name = str(key).split()
    group, _, package = name.lstrip("/").partition("@")
    absolute = in_root_file or name.startswith("/")
    lands_at_root = package == f"_global_.{group}" or (not package and at_root)
    if set(words) - {"override", "optional"} or isinstance(option, list) or option == MISSING:
        return None
    if not absolute or not lands_at_root or (not in_root_file and ("/" in group or "override" not in words)):
        return None
    option = None if option is None else str(option)
    return Choice(group=group, option=option, override="override" in words, optional="optional" in words)


def _is_hydras(entry: Any) -> bool:
    return isinstance(entry, dict) and str(next(iter(entry))).split()[-1].lstrip("/").startswith("hydra/")


def _read(path: Path) -> Source:
    try:
        text = path.read_text(encoding="utf-8")
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            values = {} if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except (OSError, UnicodeDecodeError) as problem:
        raise UsageError(f"cannot read {path}: {problem}") from problem
    except yaml.MarkedYAMLError as problem:
        line = problem.problem_mark.line + 1 if problem.problem_mark else 1
        raise UsageError(f"{path}:{line}: not valid YAML: {problem.problem}") from problem
    if not isinstance(values, dict):
        raise UsageError(f"{path}:1: expected lines KEY: VALUE")
    lines: dict[str, int] = {}
    spans: dict[str, tuple[int, int]] = {}
    if node is not None:
        _note_places(node, "", lines, spans)
    defaults = values.pop("defaults", None) or []
    hydra = values.pop("hydra", None)
    sweeper = hydra.get("sweeper") if isinstance(hydra, dict) else None
    sweep = sweeper.get("params") if isinstance(sweeper, dict) else None
    return Source(
        path=path,
        values=values,
        lines=lines,
        text=text.splitlines(),
        defaults=defaults if isinstance(defaults, list) else [],
        sweep=sweep if isinstance(sweep, dict) else {},
        spans=spans,
    )


def _note_places(node: yaml.Node, prefix: str, lines: dict[str, int], spans: dict[str, tuple[int, int]]) -> None:
    pairs: list[tuple[str, yaml.Node, yaml.Node]] = []
    if isinstance(node, yaml.MappingNode):
        pairs = [(str(key.value), key, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        pairs = [(str(n), value, value) for n, value in enumerate(node.value)]
    for name, key, value in pairs:
        dotted = f"{prefix}.{name}" if prefix else name
        lines[dotted] = key.start_mark.line + 1
        ends = value if value.end_mark.line == key.start_mark.line else key
        spans[dotted] = (ends.end_mark.line, ends.end_mark.column)
        _note_places(value, dotted, lines, spans)
