"""Reads KEY=VALUE arguments: in place where they are plain, through Hydra's parser where they are not."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlft_cli.components import Problem
from rlft_cli.suggest import closest

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override as HydraOverride

_SHAPE = re.compile(r"(\+\+|\+|~)?([A-Za-z_][^=\s]*)(?:(=)(.*))?", re.S)
_INT = re.compile(r"[+-]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.[0-9]*(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|\.[0-9]+(?:[eE][+-]?[0-9]+)?)")
_WORD = re.compile(r"[A-Za-z_./][A-Za-z0-9_./@%+-]*")
_CONSTANTS = {"true": True, "false": False, "null": None}


@dataclass(frozen=True, kw_only=True)
class Override:
    """One KEY=VALUE; a sweep has several values."""

    text: str  # as it is handed to Hydra
    prefix: str  # "", "+", "++" or "~"
    key: str
    values: tuple[Any, ...]


def parse(
    arguments: Sequence[str], *, multirun: bool, is_text: Callable[[str], bool], options: dict[str, list[str]]
) -> tuple[list[Override], list[Problem]]:
    """Read all arguments and say what is wrong with those that cannot be read.

    ``is_text`` tells the keys whose value is free text: outside of sweeps it is taken as it stands, whatever signs it
    holds. ``options`` are the names to suggest for a word without "=".
    """
    overrides: list[Override] = []
    problems: list[Problem] = []
    for argument in arguments:
        shape = _SHAPE.fullmatch(argument)
        if shape is None or (shape[3] is None and shape[1] != "~"):
            problems.append(Problem(key=argument, text=_not_an_override(argument, options)))
            continue
        prefix, key, value = shape[1] or "", shape[2], shape[4] or ""
        if prefix == "~":
            overrides.append(Override(text=argument, prefix=prefix, key=key, values=(None,)))
            continue
        read = _read(argument, prefix, key, value, options.get(key, []) if multirun else None, is_text(key))
        if isinstance(read, Problem):
            problems.append(read)
        else:
            overrides.append(read)
    return overrides, problems


def for_hydra(override: Override, added: Collection[str]) -> str:
    """Write an override that the check has accepted so that Hydra accepts it.

    Hydra takes keys that no YAML holds (``added``) and mappings with new keys only with ++; and it takes null for a
    group whose default is a reference (recipe, recipe/reward, recipe/feedback) only as ~.
    """
    if override.values == (None,) and override.key in ("recipe", "recipe/reward", "recipe/feedback"):
        return f"~{override.key}"
    new = override.key in added or any(isinstance(value, dict) for value in override.values)
    return f"++{override.text}" if new and not override.prefix else override.text


def quoted(value: str) -> str:
    """Quote free text for Hydra's grammar: backslashes count only before a quote and at the end."""
    escaped = re.sub(r"(\\*)'", lambda found: found[1] * 2 + r"\'", value)
    tail = len(escaped) - len(escaped.rstrip("\\"))
    return f"'{escaped}{chr(92) * tail}'"


def _read(
    argument: str, prefix: str, key: str, value: str, sweep: Sequence[str] | None, as_text: bool
) -> Override | Problem:
    """Read one value, or (``sweep`` gives the option names of a group) the values of a sweep."""
    if as_text and sweep is None and value.lower() != "null" and "${" not in value:
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1].replace("\\" + value[0], value[0])  # quoted for Hydra already
        return Override(text=f"{prefix}{key}={quoted(value)}", prefix=prefix, key=key, values=(value,))
    pieces = [value] if sweep is None else value.split(",")
    if all(_is_plain(piece) for piece in pieces):
        return Override(text=argument, prefix=prefix, key=key, values=tuple(_plain(piece) for piece in pieces))
    return _read_with_hydra(argument, prefix, key, value, sweep)


def _is_plain(value: str) -> bool:
    if _INT.fullmatch(value) or _FLOAT.fullmatch(value):
        return True
    return bool(_WORD.fullmatch(value)) and value.lower() not in ("inf", "nan") and value != "???"


def _plain(value: str) -> Any:
    if _INT.fullmatch(value):
        return int(value)
    return float(value) if _FLOAT.fullmatch(value) else _CONSTANTS.get(value.lower(), value)


def _read_with_hydra(
    argument: str, prefix: str, key: str, value: str, sweep: Sequence[str] | None
) -> Override | Problem:
    from hydra.core.override_parser.overrides_parser import OverridesParser  # slow to import
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_override(argument)
        if parsed.is_sweep_override() and sweep is None:
            text = f"several values are a sweep of runs: add -m; one list is typed {key}=[{value}]"
            return Problem(key=argument, text=text)
        values = _sweep_values(parsed, sweep or []) if parsed.is_sweep_override() else [_native(parsed.value())]
    except HydraException:
        text = f"the value cannot be read; text with such signs is typed in two pairs of quotes: {key}={_shell(value)}"
        return Problem(key=argument, text=text)
    return Override(text=argument, prefix=prefix, key=key, values=tuple(values))


def _sweep_values(parsed: HydraOverride, names: Sequence[str]) -> list[Any]:
    from hydra.core.override_parser.types import Glob, Transformer

    value = parsed.value()
    if isinstance(value, Glob):
        return list(value.filter(list(names)))
    if parsed.is_discrete_sweep():
        return [_native(value) for value in parsed.sweep_iterator(transformer=Transformer.identity)]
    interval: Any = parsed.value()  # a sweeper plugin draws from between its ends
    return [interval.start, interval.end]


def _native(value: Any) -> Any:
    from hydra.core.override_parser.types import QuotedString

    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [_native(item) for item in value]
    return {str(_native(k)): _native(v) for k, v in value.items()} if isinstance(value, dict) else value


def _shell(value: str) -> str:
    """Quote a value for Hydra within the quotes of the shell."""
    return f'"{quoted(value)}"'


def _not_an_override(argument: str, options: dict[str, list[str]]) -> str:
    if argument.startswith("-"):
        name, _, value = argument.lstrip("-").partition("=")
        hint = f"; did you mean {name}={value or 'VALUE'}?" if name.split(".")[0] in options else ""
        return f"no such flag{hint}"
    for group, names in options.items():
        if argument in names:
            return f"expected KEY=VALUE; did you mean {group}={argument}?"
    near = closest(argument, options)
    return "expected KEY=VALUE" + (f"; did you mean {near}=...?" if near else "")
