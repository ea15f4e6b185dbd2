"""Files and folders that are written whole or not at all, and nested state as safetensors and JSON."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rlft_cli.errors import RlftError


def disk_error(path: Path, error: OSError) -> RlftError:
    """What to say where the disk would not take ``path``."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = shutil.disk_usage(next(folder for folder in path.absolute().parents if folder.exists()))
        return RlftError(
            f"cannot write {path}: the disk is full ({place.free / 1e6:.1f} MB of {place.total / 1e6:.0f} MB are free); "
            "what was written before is whole. Free some space, or write to another disk"
        )
    return RlftError(
        f"cannot write {path}: {error.strerror or error}; what was written before is whole. "
        "Check the path and its permissions, or write to another place"
    )


def guarded(path: Path, action: Callable[[], Any]) -> None:
    """Do what writes ``path``; RlftError where the disk will not take it."""
    try:
        action()
    except (OSError, SafetensorError) as error:
        if isinstance(error, OSError):
            raise disk_error(path, error) from error
        if os.strerror(errno.ENOSPC) in str(error):  # safetensors gives the number as text only
            raise disk_error(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from error
        raise RlftError(f"cannot write {path}: {error}; what was written before is whole") from error


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically; RlftError where the disk will not take it."""

    def write() -> None:
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    guarded(path, write)


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def append_line(path: Path, content: Mapping[str, Any]) -> None:
    """Add one JSON line to a log."""

    def write() -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(content, ensure_ascii=False) + "\n")

    guarded(path, write)


def replace_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Fill a new folder beside ``folder`` and put it in its place; the old one stays until the new one is whole."""
    new, old = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")

    def write() -> None:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        try:
            fill(new)
            for file in new.rglob("*"):
                if file.is_file():
                    with file.open("rb") as handle:
                        os.fsync(handle.fileno())
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)

    guarded(folder, write)


def current(folder: Path) -> Path:
    """The folder, or the whole older one that a kill between two renames left."""
    old = folder.with_name(f".{folder.name}.old")
    if not folder.exists() and old.exists():
        old.rename(folder)
    return folder


def save_nested(folder: Path, state: Mapping[str, Any]) -> None:
    """Write nested dicts and lists of tensors and plain values as safetensors and JSON; no pickle."""
    tensors: dict[str, Tensor] = {}
    skeleton = _flatten(state, "", tensors)
    save_file(tensors, folder / "tensors.safetensors")
    (folder / "state.json").write_text(json.dumps(skeleton), encoding="utf-8")


def _flatten(node: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(node, Tensor):
        tensors[path] = node.detach().cpu().contiguous().clone()
        return {"__tensor__": path}
    if isinstance(node, Mapping):
        return {"__dict__": [[key, _flatten(value, f"{path}/{key}", tensors)] for key, value in node.items()]}
    if isinstance(node, list | tuple):
        return [_flatten(value, f"{path}/{n}", tensors) for n, value in enumerate(node)]
    return node


def load_nested(folder: Path) -> dict[str, Any]:
    """Read what ``save_nested`` wrote; RlftError where it is cut off."""
    try:
        skeleton = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        with safe_open(folder / "tensors.safetensors", framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, ValueError, SafetensorError) as error:
        raise RlftError(f"{folder} is damaged or incomplete ({error}); it cannot be resumed from") from error
    state: dict[str, Any] = _unflatten(skeleton, tensors)
    return state


def _unflatten(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(node, list):
        return [_unflatten(value, tensors) for value in node]
    if isinstance(node, dict) and "__tensor__" in node:
        return tensors[node["__tensor__"]]
    if isinstance(node, dict):
        return {key: _unflatten(value, tensors) for key, value in node["__dict__"]}
    return node
