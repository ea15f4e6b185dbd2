"""What every reader of a data source yields: rows with their lines, and errors that name both."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlft_cli.errors import RlftError


@dataclass(frozen=True, kw_only=True)
class Table:
    """Raw rows of one split. ``where`` names the source in errors, ``name`` in origins ("train.conll").

    ``rows`` holds (line, fields), lines counted from 1. ``per_word`` says that word k of a row stands in line
    ``line + k`` (CoNLL); otherwise the whole row stands in ``line``.
    """

    where: str
    name: str
    rows: list[tuple[int, dict[str, Any]]]
    per_word: bool = False
    messages: list[str] = field(default_factory=list)


def fault(where: str, line: int, text: str) -> RlftError:
    """Make the error for one line of a source."""
    return RlftError(f"{where}:{line}: {text}")


def shown(value: object, limit: int = 60) -> str:
    """Quote a value for a message, cut to ``limit`` characters."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def named(values: list[str], limit: int = 8) -> str:
    """List names for a message, the first ``limit`` of them."""
    rest = len(values) - limit
    return ", ".join(values[:limit]) + (f" and {rest} more" if rest > 0 else "")


def read_text(path: Path) -> str:
    """Read a file as UTF-8, its byte order mark left out; RlftError names line and byte of what is not UTF-8."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RlftError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error
    return decoded(data, str(path), f"iconv -f latin1 -t utf-8 {shlex.quote(str(path))} > utf8{path.suffix}")


def decoded(data: bytes, where: str, command: str) -> str:
    """Decode UTF-8, its byte order mark left out; RlftError names line and byte, and the command that converts."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise fault(
            where,
            line,
            f"is not UTF-8: byte 0x{data[error.start]:02x} at byte offset {error.start}; convert it, e.g. {command}",
        ) from error
    # A lone U+FEFF before a tab is the first token of a CoNLL file and no byte order mark.
    return text[1:] if text.startswith("\ufeff") and text[1:2] != "\t" else text
