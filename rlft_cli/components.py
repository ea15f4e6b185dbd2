"""Checks the keys and values of a configured class against its source.

A component is a dataclass that a YAML names by ``_target_``; a section is a dataclass of the root config. Both
declare types in annotations (``Annotated[float, "[0, 1]"]`` adds a range) and traits as ClassVars with literal
values. Reading them from source keeps torch out of the check, so that a typo is refused at once.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlft_cli.sources import (
    ClassSource,
    NoSuchTarget,
    arguments_of,
    head_of,
    is_section,
    literal_of,
    name_of,
    parsed,
    read_class,
    read_target,
    unquoted,
)
from rlft_cli.suggest import did_you_mean

MISSING = "???"  # OmegaConf's mark of a value that the user must give
_LISTS = {"list", "List", "tuple", "Sequence"}
_DICTS = {"dict", "Dict", "Mapping"}
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "Path": "a path",
    "bool": "true or false",
    "None": "null",
    "Any": "any value",
}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing wrong with a configuration; ``key`` is dotted."""

    key: str
    text: str
    unknown: bool = False  # no such key
    absent: bool = False  # a required value was not given


def check_class(source: ClassSource, values: dict[str, Any], prefix: str) -> Iterator[Problem]:
    """Yield every wrong, missing or mistyped key of ``values``, which stand under the dotted ``prefix``."""
    for key, value in values.items():
        if key in source.fields:
            annotation, path = source.fields[key]
            yield from check_value(annotation, value, _join(prefix, key), path)
        elif key != "_target_":
            hint = did_you_mean(str(key), source.fields, prefix and prefix + ".")
            known = "" if hint else "; known: " + (", ".join(source.fields) or "none")
            yield Problem(key=_join(prefix, str(key)), text=f"no such key{hint}{known}", unknown=True)
    for key in source.fields:
        if key not in values:
            kind = describe(*source.fields[key])
            yield Problem(key=_join(prefix, key), text=f"is missing; expected {kind}")


def check_value(annotation: ast.expr, value: Any, key: str, path: Path) -> Iterator[Problem]:
    """Yield what is wrong with one value; nested components and sections are looked into."""
    if value == MISSING:
        yield Problem(key=key, text=f"expected {describe(annotation, path)}", absent=True)
        return
    if isinstance(value, str) and "${" in value:
        return  # a reference that could not be filled in, which has been said
    options = _union(annotation, path)
    nested = _nested(options, value, path)
    if nested is not None:
        yield from nested_problems(nested, value, key, path)
    elif isinstance(value, list) and (item := _inner(options, _LISTS)) is not None:
        for n, element in enumerate(value):
            yield from check_value(item, element, _join(key, str(n)), path)
    elif isinstance(value, dict) and (item := _inner(options, _DICTS)) is not None:
        for name, element in value.items():
            yield from check_value(item, element, _join(key, str(name)), path)
    elif not any(_fits(option, value) for option in options):
        yield Problem(key=key, text=f"expected {describe(annotation, path)}, got {shown(value)}{_near(options, value)}")


def nested_problems(name: str, value: dict[str, Any], key: str, path: Path) -> Iterator[Problem]:
    """Check a mapping against the class that its ``_target_`` or (for a section) its annotation names."""
    if "_target_" in value:
        try:
            yield from check_class(read_target(str(value["_target_"])), value, key)
        except NoSuchTarget as problem:
            yield Problem(key=_join(key, "_target_"), text=str(problem))
        return
    if is_section(path, name):
        yield from check_class(read_class(path, name), value, key)
    else:
        yield Problem(key=key, text="names no class: expected a line _target_: package.module.Class")


def describe(annotation: ast.expr, path: Path) -> str:
    """Say in words what an annotation accepts: "a number in [0, 1] or null"."""
    return " or ".join(_describe_one(option, path) for option in _union(annotation, path))


def shown(value: Any) -> str:
    """Write a value as the user would type it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "keys " + ", ".join(map(str, value)) if value else "{}"
    return f"'{value}'" if isinstance(value, str) else str(value)


def is_text(annotation: ast.expr, path: Path) -> bool:
    """Whether a value is free text (or a path), so that it need not be quoted on the command line."""
    return any(name_of(option) in ("str", "Path") for option in _union(annotation, path))


def choices(annotation: ast.expr, path: Path) -> list[str]:
    """Values worth offering by name: those of a Literal, and true and false."""
    found: list[str] = []
    for option in _union(annotation, path):
        found += map(str, _literals(option))
        found += ["true", "false"] if name_of(option) == "bool" else ["null"] if name_of(option) == "None" else []
    return found


# -- annotations -----------------------------------------------------------------------------------------------


def _union(annotation: ast.expr, path: Path) -> list[ast.expr]:
    """Flatten ``A | B`` and Optional, and follow names of the same file that stand for an annotation."""
    node = unquoted(annotation)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _union(node.left, path) + _union(node.right, path)
    if head_of(node) == "Optional":
        return [*_union(arguments_of(node)[0], path), ast.Constant(None)]
    if head_of(node) == "Annotated":
        inner, bounds = arguments_of(node)[:2]
        return [_with_range(option, bounds) for option in _union(inner, path)]
    if isinstance(node, ast.Name) and node.id in parsed(path).aliases:
        return _union(parsed(path).aliases[node.id], path)
    return [node]


def _with_range(option: ast.expr, bounds: ast.expr) -> ast.expr:
    if name_of(option) not in ("int", "float"):
        return option
    inner = ast.Tuple(elts=[option, bounds], ctx=ast.Load())
    return ast.Subscript(value=ast.Name("Annotated"), slice=inner, ctx=ast.Load())


def _fits(option: ast.expr, value: Any) -> bool:
    head = head_of(option)
    if head == "Literal":
        return any(value == literal and type(value) is type(literal) for literal in _literals(option))
    if head == "Annotated":
        inner, bounds = arguments_of(option)
        return _fits(inner, value) and _inside(str(literal_of(bounds)), float(value))
    if head in _LISTS:
        return isinstance(value, list)
    if head in _DICTS:
        return isinstance(value, dict)
    return _fits_plain(name_of(option), value)


def _fits_plain(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return name in ("bool", "Any")
    if name == "float":
        return isinstance(value, int | float) and value == value  # not NaN
    if name in ("str", "Path"):
        return isinstance(value, str)
    return name == "Any" or (name == "int" and isinstance(value, int)) or (name == "None" and value is None)


def _inside(interval: str, value: float) -> bool:
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    return above and (value <= high if interval[-1] == "]" else value < high)


def _describe_one(option: ast.expr, path: Path) -> str:
    head = head_of(option)
    if head == "Literal":
        return "one of " + ", ".join(map(shown, _literals(option))).replace("'", "")
    if head == "Annotated":
        return f"{_WORDS[name_of(arguments_of(option)[0])]} in {literal_of(arguments_of(option)[1])}"
    if head in _LISTS:
        return f"a list, each {describe(arguments_of(option)[0], path)}" if arguments_of(option) else "a list"
    if head in _DICTS:
        return "a mapping"
    name = name_of(option)
    if name in _WORDS:
        return _WORDS[name]
    if is_section(path, name):
        return f"a section with keys {', '.join(read_class(path, name).fields)}"
    return "a component" if name == "Component" else f"a component ({name})"


def _nested(options: list[ast.expr], value: Any, path: Path) -> str | None:
    """Name of the class that a mapping is to be checked against; None where it is not one."""
    if not isinstance(value, dict):
        return None
    names = [name_of(option) for option in options if isinstance(option, ast.Name | ast.Attribute)]
    return next((name for name in names if name not in _WORDS and name not in _DICTS), None)


def _inner(options: list[ast.expr], heads: set[str]) -> ast.expr | None:
    """Annotation of the elements of a list or of the values of a mapping."""
    found = [arguments_of(option) for option in options if head_of(option) in heads and arguments_of(option)]
    if not found:
        return None
    return found[0][-1] if heads is _DICTS else found[0][0]


def _near(options: list[ast.expr], value: Any) -> str:
    literals = [str(literal) for option in options for literal in _literals(option)]
    return did_you_mean(value, literals) if isinstance(value, str) else ""


def _literals(option: ast.expr) -> list[Any]:
    return [literal_of(one) for one in arguments_of(option)] if head_of(option) == "Literal" else []


def _join(prefix: str, key: str) -> str:
    return f"{prefix}.{key}" if prefix else key
