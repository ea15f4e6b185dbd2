"""Reads dataclasses from their source with ``ast``: their fields, annotations and traits, importing nothing."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rlft_cli.suggest import did_you_mean

_PACKAGE = Path(__file__).parent


class NoSuchTarget(Exception):
    """A ``_target_`` that names no readable dataclass; the text says why."""


@dataclass(frozen=True, kw_only=True)
class ClassSource:
    """Fields and traits of one dataclass, those of its base classes included."""

    name: str
    path: Path
    fields: dict[str, tuple[ast.expr, Path]]  # of each that the configuration gives: annotation, and its file
    traits: dict[str, Any]  # ClassVars with a literal value


def read_target(target: str) -> ClassSource:
    """Find and read the class of a ``_target_``; raises NoSuchTarget."""
    module, _, name = target.rpartition(".")
    if not module:
        raise NoSuchTarget(f"expected package.module.Class, got '{target}'")
    return read_class(_module_file(module), name)


def read_class(path: Path, name: str) -> ClassSource:
    """Read one dataclass of a source file; raises NoSuchTarget."""
    classes = parsed(path).classes
    if name not in classes:
        raise NoSuchTarget(f"{path.name} has no class {name}{did_you_mean(name, classes)}")
    if not any(_is_dataclass(decorator) for decorator in classes[name].decorator_list):
        raise NoSuchTarget(f"class {name} of {path.name} is not a @dataclass, so its keys are unknown")
    return _read_body(classes[name], path)


def _read_body(node: ast.ClassDef, path: Path) -> ClassSource:
    fields: dict[str, tuple[ast.expr, Path]] = {}
    traits: dict[str, Any] = {}
    for base in reversed(node.bases):  # the first one goes before the others
        above = _read_base(base, path)
        if above is not None:
            fields, traits = fields | above.fields, traits | above.traits
    generated = any(_is_dataclass(decorator) for decorator in node.decorator_list)
    for line in node.body:
        if not isinstance(line, ast.AnnAssign) or not isinstance(line.target, ast.Name):
            continue
        annotation = unquoted(line.annotation)
        if head_of(annotation) == "ClassVar":
            if line.value is not None and (value := literal_of(line.value)) is not None:
                traits[line.target.id] = value
        elif _is_internal(line.value):
            fields.pop(line.target.id, None)
        elif generated:
            fields[line.target.id] = annotation, path
    return ClassSource(name=node.name, path=path, fields=fields, traits=traits)


def _read_base(base: ast.expr, path: Path) -> ClassSource | None:
    """Read a base class of the same file or one that is imported from another; None where it is in neither."""
    name = head_of(base)
    try:
        while name in (imports := parsed(path).imports):
            module, name = imports[name]
            found = _file_in([module]) if isinstance(module, Path) else _module_file(module)
            if found is None:
                return None
            path = found
        node = parsed(path).classes.get(name)
    except NoSuchTarget:
        return None
    return _read_body(node, path) if node is not None else None


@dataclass(frozen=True)
class _Module:
    classes: dict[str, ast.ClassDef]
    aliases: dict[str, ast.expr]  # NAME = Literal[...] and the like
    imports: dict[str, tuple[str | Path, str]]  # from module import name: module, or where it lies, and name there


@cache
def parsed(path: Path) -> _Module:
    """Parse a source file once; raises NoSuchTarget where it cannot be read."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError) as problem:
        raise NoSuchTarget(f"cannot read {path}: {problem}") from problem
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    aliases = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)
    }
    imports = {
        alias.asname or alias.name: (_imported(node, path), alias.name)
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    return _Module(classes=classes, aliases=aliases, imports=imports)


def _imported(node: ast.ImportFrom, path: Path) -> str | Path:
    """The module's name; of a relative import the path where it lies, without the suffix."""
    return path.parents[node.level - 1].joinpath(*(node.module or "").split(".")) if node.level else str(node.module)


def _module_file(module: str) -> Path:
    """Where a module's source is; only the top package is looked up, so that nothing of it runs."""
    top, *rest = module.split(".")
    if top == _PACKAGE.name:
        folders = [_PACKAGE]
    else:
        spec = importlib.util.find_spec(top) if top.isidentifier() else None
        if spec is None:
            raise NoSuchTarget(f"module {top} is not found; run with PYTHONPATH=FOLDER, or install it")
        folders = [Path(folder) for folder in spec.submodule_search_locations or []]
        if not rest and not folders and spec.origin:
            return Path(spec.origin)
    file = _file_in([folder.joinpath(*rest) for folder in folders])
    if file is not None:
        return file
    near = [file.stem for folder in folders for file in folder.joinpath(*rest[:-1]).glob("*.py")]
    raise NoSuchTarget(f"there is no module {module}{did_you_mean(rest[-1] if rest else top, near)}")


def _file_in(modules: Iterable[Path]) -> Path | None:
    """The source file of the first module that has one, each given by its path without the suffix."""
    files = (file for base in modules for file in (base.with_suffix(".py"), base / "__init__.py"))
    return next((file for file in files if file.is_file()), None)


def is_section(path: Path, name: str) -> bool:
    """Whether a name is a dataclass of the same file, so that its keys stand in the YAML without a _target_."""
    found = parsed(path).classes.get(name)
    return found is not None and any(_is_dataclass(decorator) for decorator in found.decorator_list)


def unquoted(node: ast.expr) -> ast.expr:
    """Read an annotation that is written as a string."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return ast.parse(node.value, mode="eval").body
    return node


def head_of(node: ast.expr) -> str:
    """The name before the brackets: "list" of list[str]."""
    return name_of(node.value) if isinstance(node, ast.Subscript) else name_of(node)


def name_of(node: ast.expr) -> str:
    """The last name of a dotted one, "None" for None, and nothing for all else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    return "None" if isinstance(node, ast.Constant) and node.value is None else ""


def arguments_of(node: ast.expr) -> list[ast.expr]:
    """What stands in the brackets."""
    if not isinstance(node, ast.Subscript):
        return []
    return list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]


def literal_of(node: ast.expr) -> Any:
    """The value of a literal; None for what is computed."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None  # computed in the class body; the rules that read it are skipped


def _is_internal(value: ast.expr | None) -> bool:
    """Whether a field is the component's own state: ``field(init=False, ...)``."""
    return isinstance(value, ast.Call) and any(
        keyword.arg == "init" and literal_of(keyword.value) is False for keyword in value.keywords
    )


def _is_dataclass(decorator: ast.expr) -> bool:
    return name_of(decorator.func if isinstance(decorator, ast.Call) else decorator) == "dataclass"
