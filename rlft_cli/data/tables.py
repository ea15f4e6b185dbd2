"""JSONL, JSON, CSV, Parquet and plain text files: rows of named fields, each with its line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Features, List

from rlft_cli.data.table import Table, fault, named, read_text, shown
from rlft_cli.errors import RlftError

Row = dict[str, Any]
TableFormat = Literal["jsonl", "csv", "parquet"]
_LONGEST_CELL = 2**31 - 1  # csv refuses cells above 131,072 characters unless told


def read_table(path: Path, form: TableFormat) -> Table:
    """Read one file; RlftError names file and line of what does not parse."""
    if form == "parquet":
        rows = list(_parquet(path))
    else:
        text = read_text(path)
        rows = list(_csv(path, text) if form == "csv" else json_rows(path, text))
    return Table(where=str(path), name=path.name, rows=rows)


def read_lines(path: Path) -> Table:
    """Read a file of plain text, a text a line; blank lines only part them."""
    lines = enumerate(read_text(path).split("\n"), start=1)
    rows: list[tuple[int, Row]] = [(n, {"text": line.rstrip("\r")}) for n, line in lines if line.strip()]
    return Table(where=str(path), name=path.name, rows=rows)


class _DuplicateKey(ValueError):
    pass


def _object(pairs: list[tuple[str, Any]]) -> Row:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise _DuplicateKey(next(key for key in keys if keys.count(key) > 1))
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def json_rows(path: Path, text: str) -> Iterator[tuple[int, Row]]:
    """Objects of JSONL or of one JSON array, each with its line; RlftError names the line that does not parse."""
    values = _json_array(path, text) if text.lstrip(" \t\r\n").startswith("[") else _json_lines(path, text)
    for line, value in values:
        if not isinstance(value, dict):
            raise fault(str(path), line, f'expected an object such as {{"text": ...}}, found {shown(value)}')
        yield line, value


def _json_lines(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.strip(" \t\r")
        if stripped:
            value, end = _parse(path, stripped, 0, number)
            if end != len(stripped):
                rest = shown(stripped[end:], 30)
                raise fault(str(path), number, f"has more than one JSON value; after the first comes {rest}")
            yield number, value


def _json_array(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    at, line = text.index("[") + 1, 1 + text.count("\n", 0, text.index("["))
    between = ""
    while True:
        begin = at
        while at < len(text) and text[at] in " \t\r\n":
            at += 1
        line += text.count("\n", begin, at)
        if text[at : at + 1] == "]" and between != ",":
            return
        value, end = _parse(path, text, at, line)
        yield line, value
        line += text.count("\n", at, end)
        at = end
        while at < len(text) and text[at] in " \t\r\n":
            line += text[at] == "\n"
            at += 1
        between = text[at : at + 1]
        if between not in (",", "]"):
            raise fault(str(path), line, "is not JSON: expected , or ] after a row of the array")
        at += between == ","


def _parse(path: Path, text: str, at: int, line: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, at)
    except _DuplicateKey as error:
        raise fault(str(path), line, f"the key {shown(str(error))} stands twice in one object; keep one") from error
    except json.JSONDecodeError as error:
        inner = line + text.count("\n", at, error.pos)
        column = error.pos - text.rfind("\n", 0, error.pos)
        hint = "; a .jsonl file has one whole object a line" if text[at:].strip() == "{" else ""
        raise fault(str(path), inner, f"is not JSON: {error.msg} at column {column}{hint}") from error
    except RecursionError as error:
        raise fault(str(path), line, "is JSON nested too deeply to be a row") from error


def _csv(path: Path, text: str) -> Iterator[tuple[int, Row]]:
    csv.field_size_limit(_LONGEST_CELL)
    delimiter = "\t" if path.suffix.lower() in (".tsv", ".txt") else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    before = 0
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise fault(str(path), reader.line_num, f"is not CSV: {error}; is a quotation mark left open?") from error
        line, before = before + 1, reader.line_num
        if row is None:
            return
        if header is None:
            header = _header(path, row)
        elif row:
            if len(row) != len(header):
                raise fault(str(path), line, f"has {len(row)} columns, the header has {len(header)} ({named(header)})")
            yield line, dict(zip(header, row, strict=True))


def _header(path: Path, row: list[str]) -> list[str]:
    twice = sorted({name for name in row if row.count(name) > 1})
    if twice:
        raise fault(str(path), 1, f"the column {shown(twice[0])} stands twice in the header; rename one")
    return row


def _parquet(path: Path) -> Iterator[tuple[int, Row]]:
    try:
        table = pq.read_table(path)
        features = Features.from_arrow_schema(table.schema)
    except (OSError, pa.ArrowException, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise RlftError(f"{path}: is not Parquet that can be read ({reason}); write it again") from error
    yield from with_names(str(path), table.to_pylist(), features)


def with_names(where: str, rows: list[Row], features: Features) -> Iterator[tuple[int, Row]]:
    """Number rows from 1 and turn ClassLabel numbers into names; RlftError for a number without a name."""
    single = {name: kind.names for name, kind in features.items() if isinstance(kind, ClassLabel)}
    listed = {
        name: kind.feature.names
        for name, kind in features.items()
        if isinstance(kind, List) and isinstance(kind.feature, ClassLabel)
    }
    for number, row in enumerate(rows, start=1):
        changed: Row = {name: _name(where, number, name, row[name], names) for name, names in single.items()}
        for name, names in listed.items():
            changed[name] = [_name(where, number, name, value, names) for value in row[name] or []]
        yield number, {**row, **changed}


def _name(where: str, line: int, column: str, value: int | None, names: list[str]) -> str:
    if value is None or not 0 <= value < len(names):
        raise fault(
            where,
            line,
            f"column {column} has {value}, which names no label (there are {len(names)}, from 0); "
            "a split published without labels cannot be scored: name another split",
        )
    return names[value]
