"""Composes a root config from the YAML files without importing Hydra, to check it before anything is started.

Hydra composes again when the command runs; a test asserts that both agree. Defaults lists in forms that only Hydra
knows are left to Hydra (``compose`` then returns None).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlft_cli.components import Problem
from rlft_cli.options import Choice, Library, Source, read_choices
from rlft_cli.overrides import Override
from rlft_cli.suggest import closest, did_you_mean


@dataclass(kw_only=True)
class Composed:
    """A root config, where each of its values comes from, and which options were chosen."""

    values: dict[str, Any] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)  # dotted key -> "configs/algo/dqn.yaml:12"
    chosen: dict[str, str | None] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    sweep: dict[str, Any] = field(default_factory=dict)  # hydra.sweeper.params of the files
    added: set[str] = field(default_factory=set)  # typed keys that no YAML file holds


class _HydraOnly(Exception):
    """A defaults list that only Hydra understands."""


def compose(library: Library, verb: str, overrides: Sequence[tuple[Override, Any]]) -> Composed | None:
    """Compose the config of a verb with one value for each override; None where it must be left to Hydra."""
    root = library.root(verb)
    entries = read_choices(root, root=True)
    if entries is None:
        return None
    result = Composed()
    try:
        typed = _typed_choices(library, entries, overrides, result)
        sources = _choose(library, entries, typed, result)
    except _HydraOnly:
        return None
    _merge(result, root.values, root, library, "")
    for entry in entries:
        for source in sources.get(entry.group, []):
            if "/" in entry.group and not source.is_global:
                return None
            _merge(result, source.values, source, library, "" if source.is_global else entry.group)
    for override, value in overrides:
        if override.key not in typed:
            _apply(library, result, override, value)
    return result


def _typed_choices(
    library: Library, entries: Sequence[Choice], overrides: Sequence[tuple[Override, Any]], result: Composed
) -> dict[str, str | None]:
    """The options that the command line chooses; a mapping for a group is a value and left to Hydra."""
    groups = {entry.group for entry in entries}
    typed: dict[str, str | None] = {}
    for override, value in overrides:
        if override.key in groups:
            if isinstance(value, dict | list):
                raise _HydraOnly
            if override.prefix in ("+", "++"):
                text = f"there is a choice already; type {override.key}={value} without {override.prefix}"
                result.problems.append(Problem(key=override.prefix + override.key, text=text))
            typed[override.key] = None if value is None or override.prefix == "~" else str(value)
        elif "@" in override.key or ("/" in override.key and override.key.split("/")[0] in library.options):
            raise _HydraOnly
    return typed


def _choose(
    library: Library, entries: Sequence[Choice], typed: dict[str, str | None], result: Composed
) -> dict[str, list[Source]]:
    """Settle every group, last first, so that the overrides of later groups reach earlier ones (as Hydra does)."""
    settled: dict[str, str | None] = dict(typed)
    sources: dict[str, list[Source]] = {}
    plain = [entry for entry in entries if "${" not in (entry.option or "")]
    for entry in [*reversed(plain), *(entry for entry in entries if entry not in plain)]:
        option = settled.get(entry.group, entry.option)
        if option is not None and "${" in option:
            option = _fill(option, result.chosen)
        found = _load(library, entry, option, entry.group in typed, result)
        sources[entry.group] = found
        optional = entry.optional and entry.group not in typed
        result.chosen[entry.group] = _name(library, entry.group, option, found, optional)
        for override in _overrides(found):
            unknown = override.group not in {entry.group for entry in entries}
            if unknown or override.group in result.chosen or entry not in plain:
                raise _HydraOnly  # of no effect, or too late to take effect; Hydra says so
            settled.setdefault(override.group, override.option)
    return sources


def _name(library: Library, group: str, option: str | None, found: list[Source], optional: bool) -> str | None:
    """The option that was chosen; the supposed one for a mistyped name, and None for one that resembles nothing."""
    if option is None or optional or library.option(group, option) is not None:
        return option
    return found[-1].path.stem if found else None


def _load(library: Library, entry: Choice, option: str | None, typed: bool, result: Composed) -> list[Source]:
    """Read an option and, before it, the options that it builds on."""
    if option is None:
        return []
    source = library.option(entry.group, option)
    if source is None and not typed and entry.optional:
        return []
    if source is None:
        known = library.options.get(entry.group, {})
        hint = did_you_mean(option, known, f"{entry.group}=") or "; known: " + (", ".join(known) or "none")
        result.problems.append(Problem(key=f"{entry.group}={option}", text=f"no such option{hint}"))
        near = closest(option, known)  # supposed from here on, so that faults in its keys are found in the same go
        source = library.option(entry.group, near) if near else None
    if source is None:
        return []
    choices = read_choices(source)
    if choices is None:
        raise _HydraOnly
    bases = [base for base in choices if not base.group]
    return [one for base in bases for one in _load(library, entry, base.option, True, result)] + [source]


def _overrides(sources: Sequence[Source]) -> list[Choice]:
    """Overrides of an option and of what it builds on; its own come first and win."""
    return [choice for source in reversed(sources) for choice in read_choices(source) or [] if choice.override]


def _fill(option: str, chosen: Mapping[str, str | None]) -> str:
    for group, name in chosen.items():
        option = option.replace("${" + group + "}", str(name))
    if "${" in option:
        raise _HydraOnly
    return option


def _merge(result: Composed, values: dict[str, Any], source: Source, library: Library, package: str) -> None:
    values = {package: values} if package else values
    _merge_into(result.values, copy.deepcopy(values))
    result.sweep.update(source.sweep)
    name = library.shown(source.path)
    for key, line in source.lines.items():
        result.origin[f"{package}.{key}" if package else key] = f"{name}:{line}"


def _merge_into(old: dict[str, Any], new: dict[str, Any]) -> None:
    for key, value in new.items():
        kept = old.get(key)
        if isinstance(value, dict) and isinstance(kept, dict):
            _merge_into(kept, value)
        else:
            old[key] = value


def _apply(library: Library, result: Composed, override: Override, value: Any) -> None:
    """Put one typed value in its place; what is no key of anything is found by the check that follows."""
    *parents, last = override.key.split(".")
    node: Any = result.values
    for n, part in enumerate(parents):
        if isinstance(node, list) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
            continue
        if not isinstance(node, dict):
            where = ".".join(parents[:n])
            result.problems.append(Problem(key=override.key, text=f"{where} is one value and has no keys"))
            return
        if part in node and node[part] is None:
            where = ".".join([*parents[:n], part])
            having = library.having(where, last) or [f"{where}=..."]
            text = f"{where} is null; choose it first: {' or '.join(having)}"
            result.problems.append(Problem(key=override.key, text=text))
            return
        node.setdefault(part, {})
        node = node[part]
    _set(result, node, last, override, value)


def _set(result: Composed, node: Any, last: str, override: Override, value: Any) -> None:
    key = override.key
    if isinstance(node, list) and last.isdigit() and int(last) < len(node):
        node[int(last)] = value
    elif not isinstance(node, dict):
        result.problems.append(Problem(key=key, text=f"{key.rpartition('.')[0]} is one value and has no keys"))
    elif override.prefix == "~":
        if last not in node:
            near = closest(last, node)
            hint = f"; did you mean ~{key.removesuffix(last)}{near}?" if near else ""
            result.problems.append(Problem(key="~" + key, text=f"there is no such key to remove{hint}"))
        node.pop(last, None)
    else:
        if last in node and override.prefix == "+" and not isinstance(value, dict | list):
            result.problems.append(Problem(key="+" + key, text=f"is already there; type {key}=... without +"))
        if last not in node:
            result.added.add(key)
        if isinstance(value, dict) and isinstance(node.get(last), dict):
            _merge_into(node[last], copy.deepcopy(value))
        else:
            node[last] = copy.deepcopy(value)
    for known in [known for known in result.origin if known == key or known.startswith(key + ".")]:
        del result.origin[known]
