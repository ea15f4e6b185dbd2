"""Which files of a folder are the splits, and in which format; near names where one is missing."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from rlft_cli.data.checks import FIELDS_OF, TASK_OF
from rlft_cli.data.conll import read_conll
from rlft_cli.data.table import Table, named
from rlft_cli.data.tables import read_lines, read_table
from rlft_cli.errors import RlftError

Format = Literal["auto", "conll", "jsonl", "csv", "parquet", "text"]
STEMS = {
    "train": ("train", "training"),
    "dev": ("dev", "valid", "validation", "val", "development"),
    "test": ("test", "testing"),
}
_SUFFIXES: dict[str, tuple[str, ...]] = {
    "conll": (".conll", ".bio", ".iob", ".iob2", ".txt", ".tsv"),
    "jsonl": (".jsonl", ".json", ".ndjson"),
    "csv": (".csv", ".tsv"),
    "parquet": (".parquet",),
    "text": (".txt",),
}
_ORDER = {"tagged_words": ("conll", "jsonl", "csv", "parquet"), "plain_text": ("jsonl", "csv", "parquet", "text")}


def format_of(path: Path, rows: str) -> Format:
    """Guess a file's format from its suffix; .tsv is CoNLL for words with tags, else CSV; .txt plain text where that is read."""
    suffix = path.suffix.lower()
    for name in _ORDER.get(rows, ("jsonl", "csv", "parquet", "conll")):
        if suffix in _SUFFIXES[name]:
            return name  # type: ignore[return-value]  # mypy widens the literals of the tuple to str
    known = ", ".join(sorted({s for suffixes in _SUFFIXES.values() for s in suffixes}))
    raise RlftError(f"{path}: {suffix or 'no suffix'} names no format; known are {known}; or give data.format=conll")


def read_file(path: Path, form: Format, rows: str, token_column: int | None, tag_column: int | None) -> Table:
    """Read one file in its format as raw rows; RlftError names file and line."""
    if not path.is_file():
        raise missing(path)
    found = format_of(path, rows) if form == "auto" else form
    if found == "auto":
        raise AssertionError("format_of never says auto")
    if found == "text":
        if rows == "plain_text":
            return read_lines(path)
        raise RlftError(
            f"{path}: is read as lines of plain text (data.format=text), which fit {TASK_OF['plain_text']} only"
        )
    if found != "conll":
        return read_table(path, found)
    if rows != "tagged_words":
        raise RlftError(
            f"{path}: is read as CoNLL (a token and a tag a line), which fits task=ner; "
            f"{TASK_OF[rows]} reads JSONL, CSV or Parquet with {FIELDS_OF[rows]}: give data.format=jsonl if it is that"
        )
    return read_conll(path, token_column, tag_column)


def find_split(folder: Path, split: str, form: Format) -> Path | None:
    """Find the file of a split in a folder; None if there is none, RlftError if two could be meant."""
    if not folder.is_dir():
        raise missing(folder)
    suffixes = {s for name, found in _SUFFIXES.items() if form in ("auto", name) for s in found}
    fits = [
        path
        for path in _listing(folder)
        if path.stem.lower() in STEMS[split] and path.suffix.lower() in suffixes and path.is_file()
    ]
    if len(fits) > 1:
        raise RlftError(
            f"{folder}: {named([path.name for path in fits])} could all be the {split} split; "
            f"name one with data.{split}={fits[0]}"
        )
    return fits[0] if fits else None


def _listing(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise RlftError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from error


def no_split(folder: Path, split: str) -> RlftError:
    """Make the error for a folder without a needed split."""
    there = [path.name for path in _listing(folder)]
    return RlftError(
        f"{folder}: no {split} file; expected {split}.conll, {split}.jsonl, {split}.csv or {split}.parquet, "
        f"found: {named(there) or 'nothing'}; name one with data.{split}=FILE"
    )


def missing(path: Path) -> RlftError:
    """Make the error for a path that is not there, or is not what it should be."""
    if path.is_dir():
        return RlftError(f"{path}: is a folder, expected a file; give data.dir={path}")
    if path.is_file():
        return RlftError(f"{path}: is a file, expected a folder; give data.train={path} (and data.dev=, data.test=)")
    parent = path.absolute().parent
    while not parent.is_dir() and parent != parent.parent:
        parent = parent.parent
    there = [entry.name for entry in _listing(parent)]
    near = get_close_matches(path.name, there, n=1)
    hint = f"did you mean {parent / near[0]}?" if near else f"{parent} holds: {named(there) or 'nothing'}"
    return RlftError(f"{path}: no such file or folder; {hint}")
