"""Canonical rows into Splits: a dev split where there is none, fixed subsamples, labels that train must know."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
from datasets import Dataset

from rlft_cli.data import Splits
from rlft_cli.data.checks import ROWS, Check, ColumnNames, Part, Row, labelled_text, labels_of, line_of, text_of
from rlft_cli.data.goals import goals
from rlft_cli.data.matching import match_lengths
from rlft_cli.data.preference import preference, replies
from rlft_cli.data.table import Table, named, shown
from rlft_cli.data.tagged import tagged_words
from rlft_cli.data.writing import PAIRS, WRITING, Language, language_message
from rlft_cli.errors import RlftError, UsageError

_CHECKS: dict[str, Check] = {
    "tagged_words": tagged_words,
    "labelled_text": labelled_text,
    "dialogue": replies,
    "preference": preference,
    "goals": goals,
    **WRITING,
}
_TURN = pa.struct([("role", pa.string()), ("content", pa.string())])
_WANTED = pa.struct([("slot", pa.string()), ("value", pa.string())])
_WORDS = pa.list_(pa.string())
_SCHEMAS = {
    "tagged_words": pa.schema([("words", _WORDS), ("tags", _WORDS), ("origin", pa.string())]),
    "labelled_text": pa.schema([("text", pa.string()), ("label", pa.string()), ("origin", pa.string())]),
    "dialogue": pa.schema([("turns", pa.list_(_TURN)), ("origin", pa.string())]),
    "preference": pa.schema(
        [("turns", pa.list_(_TURN)), ("chosen", pa.string()), ("rejected", pa.string()), ("origin", pa.string())]
    ),
    "plain_text": pa.schema([("text", pa.string()), ("origin", pa.string())]),
    **{kind: pa.schema([("source", pa.string()), ("target", pa.string()), ("origin", pa.string())]) for kind in PAIRS},
    "goals": pa.schema([("constraints", pa.list_(_WANTED)), ("requests", _WORDS), ("origin", pa.string())]),
}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is taken of the rows that were read; the fields are those of the data components."""

    dev_fraction: float
    max_train: int | None
    max_dev: int | None
    max_test: int | None
    subsample_seed: int
    match_lengths: bool
    unseen_labels: Literal["error", "drop"]
    repair: bool
    language: Language


def require_known(rows: str) -> None:
    """Refuse a kind of rows that data sources do not yield."""
    if rows not in ROWS:
        raise UsageError(f"no data source yields rows of the kind {rows!r}; they yield {', '.join(ROWS)}")


def assemble(rows: str, tables: tuple[Table, Table | None, Table], names: ColumnNames, choice: Choice) -> Splits:
    """Check the tables (train, dev or None, test) and build the splits; RlftError names file and line."""
    require_known(rows)
    messages: list[str] = []
    parts: list[Part | None] = []
    for table in tables:
        if table is None:
            parts.append(None)
            continue
        found, noticed = _CHECKS[rows](table, names, choice.repair)
        if not found:
            raise RlftError(f"{table.where}: holds no examples; name a file or split that does")
        messages += table.messages + noticed
        parts.append(Part(where=table.where, rows=found))
    train, dev, test = parts
    assert train is not None and test is not None
    if dev is None:
        train, dev, message = split_dev(rows, train, choice.dev_fraction)
        messages.append(message)
    if choice.match_lengths:
        train = _match_lengths(rows, train, choice, messages)
    train = _subsample(rows, "train", train, choice.max_train, choice, messages)
    dev = _subsample(rows, "dev", dev, choice.max_dev, choice, messages)
    test = _subsample(rows, "test", test, choice.max_test, choice, messages)
    messages += language_message(rows, train.rows, choice.language)
    known = {label for row in train.rows for label in labels_of(rows, row)}
    dev = _known_labels(rows, "dev", dev, known, choice, messages)
    test = _known_labels(rows, "test", test, known, choice, messages)
    return Splits(train=_dataset(rows, train), dev=_dataset(rows, dev), test=_dataset(rows, test), messages=messages)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def split_dev(rows: str, train: Part, fraction: float) -> tuple[Part, Part, str]:
    """Take a dev split from train: the ``fraction`` of distinct lower-cased texts with the smallest SHA-256.

    Examples of one text stay together, so the two parts do not overlap; the order of the file does not matter.
    """
    keys = [_digest(text_of(rows, row).lower()) for row in train.rows]
    distinct = sorted(set(keys))
    if len(distinct) < 2:
        raise RlftError(f"{train.where}: has one text only, from which no dev split can be taken; give data.dev=FILE")
    size = min(len(distinct) - 1, max(1, round(len(distinct) * fraction)))
    chosen = set(distinct[:size])
    dev = [row for row, key in zip(train.rows, keys, strict=True) if key in chosen]
    rest = [row for row, key in zip(train.rows, keys, strict=True) if key not in chosen]
    how = f"by SHA-256 (data.dev_fraction={fraction})"
    message = f"no dev split: {len(dev)} of {len(train.rows)} training examples taken {how}"
    return Part(where=train.where, rows=rest), Part(where=train.where, rows=dev), message


def _subsample(rows: str, split: str, part: Part, size: int | None, choice: Choice, messages: list[str]) -> Part:
    if size is None or size >= len(part.rows):
        return part
    messages.append(
        f"{split}: {size} of {len(part.rows)} examples (data.max_{split}, data.subsample_seed={choice.subsample_seed})"
    )
    return Part(where=part.where, rows=subsample(rows, part.rows, size, choice.subsample_seed))


def _match_lengths(rows: str, part: Part, choice: Choice, messages: list[str]) -> Part:
    if rows != "preference":
        raise UsageError(
            "data.match_lengths=true is for comparisons of two replies (task=preference, algo=dpo), and the run reads none; "
            "leave it out"
        )
    seed = choice.subsample_seed
    kept = match_lengths(part.rows, choice.language, lambda some, size: subsample(rows, some, size, seed))
    if not kept:
        raise RlftError(
            f"{part.where}: in no two comparisons is the preferred reply once the longer and once the shorter one by as "
            "many words, so that data.match_lengths=true leaves none; leave it out"
        )
    messages.append(
        f"train: {len(kept)} of {len(part.rows)} comparisons, in which length tells nothing (data.match_lengths)"
    )
    return Part(where=part.where, rows=kept)


def subsample(rows: str, found: list[Row], size: int, seed: int) -> list[Row]:
    """Keep the ``size`` rows with the smallest SHA-256 of seed, text and repetition, in their order.

    The choice depends on nothing but texts and seed, and a smaller subsample lies inside a larger one.
    """
    seen: Counter[str] = Counter()
    keys = []
    for row in found:
        text = text_of(rows, row)
        keys.append(_digest(f"{seed}\n{seen[text]}\n{text}"))
        seen[text] += 1
    kept = sorted(sorted(range(len(found)), key=keys.__getitem__)[:size])
    return [found[n] for n in kept]


def _known_labels(rows: str, split: str, part: Part, known: set[str], choice: Choice, messages: list[str]) -> Part:
    """Refuse, or leave out, examples with a label that train lacks."""
    kept = [row for row in part.rows if known.issuperset(labels_of(rows, row))]
    if len(kept) == len(part.rows):
        return part
    missing = Counter(label for row in part.rows for label in set(labels_of(rows, row)) - known)
    lacking = named(sorted(missing))
    if choice.unseen_labels == "error":
        row = next(row for row in part.rows if not known.issuperset(labels_of(rows, row)))
        raise RlftError(_unseen(rows, split, part, row, missing, choice))
    if not kept:
        raise RlftError(f"{part.where}: no example is left in {split}, as train has none of its labels: {lacking}")
    messages.append(f"{split}: {len(part.rows) - len(kept)} examples left out, whose labels train lacks: {lacking}")
    return Part(where=part.where, rows=kept)


def _unseen(rows: str, split: str, part: Part, row: Row, missing: Counter[str], choice: Choice) -> str:
    label = next(label for label in labels_of(rows, row) if label in missing)
    more = f", and {len(missing) - 1} more labels like it" if len(missing) > 1 else ""
    larger = "a larger data.max_train, or " if choice.max_train is not None else ""
    return (
        f"{part.where}:{line_of(row)}: the label {shown(label)} is in {split} ({missing[label]} examples) but not in "
        f"train{more}; correct it, or {larger}data.unseen_labels=drop leaves such examples out"
    )


def _dataset(rows: str, part: Part) -> Dataset:
    schema = _SCHEMAS[rows]
    if any("rejected" in row for row in part.rows) and "rejected" not in schema.names:
        schema = schema.append(pa.field("rejected", pa.string()))  # dialogues that come from compared replies
    columns: dict[str, list[Any]] = {name: [row[name] for row in part.rows] for name in schema.names}
    return Dataset(pa.table(columns, schema=schema))
