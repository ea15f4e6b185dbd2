"""Rows of a source and what is to be written for it, rows of plain text, and whether they are in the language that was said."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

from rlft_cli.data.checks import (
    Check,
    ColumnNames,
    Leftovers,
    Row,
    check_encodable,
    column_of,
    invisible_message,
    line_of,
)
from rlft_cli.data.table import Table, fault, shown

Language = Literal["en", "zh"]
PAIRS = ("parallel_text", "text_summary", "question_answer")
_SOURCES = {
    "parallel_text": ("source",),
    "text_summary": ("source", "document", "article", "dialogue"),
    "question_answer": ("source",),
}
_TARGETS = {
    "parallel_text": ("target",),
    "text_summary": ("target", "summary", "highlights"),
    "question_answer": ("target", "answer"),
}
_LETTER = re.compile(r"[^\W\d_]")
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")


def written(kind: str, row: Row) -> list[str]:
    """What a model is to write of a canonical row; nothing where it decides on tags or classes."""
    if kind in PAIRS:
        return [row["target"]]
    if kind == "dialogue":
        return [turn["content"] for turn in row["turns"] if turn["role"] == "assistant"]
    return [row["text"]] if kind == "plain_text" else []


def question_source(question: str, context: str) -> str:
    """A question and its context as one text (the form of T5, Raffel et al. 2020, appendix D.15)."""
    return f"question: {question} context: {context}" if context.strip() else f"question: {question}"


def _pairs(kind: str, table: Table, names: ColumnNames, repair: bool) -> tuple[list[Row], list[str]]:
    """Check rows {"source", "target"} under the names of a kind; RlftError names file and line."""
    left = Leftovers(table, repair)
    found: list[Row] = []
    for line, row in table.rows:
        source, target = _source(kind, table, names, row, line), _target(kind, table, names, row, line)
        empty = next((name for name, text in (("source", source), ("target", target)) if not text.strip()), None)
        if empty is not None:
            left.settle(line, f"the {empty} is empty", "pairs with an empty side are left out")
            continue
        check_encodable(table, line, source + target)
        found.append({"source": source, "target": target, "origin": f"{table.name}:{line}"})
    hidden = invisible_message(
        table.name,
        "texts",
        (row[side] for row in found for side in ("source", "target")),
        lambda text: next(line_of(row) for row in found if text in (row["source"], row["target"])),
    )
    return found, left.messages() + hidden


def _source(kind: str, table: Table, names: ColumnNames, row: Row, line: int) -> str:
    if kind == "question_answer" and names.source is None and "source" not in row and "question" in row:
        context = _text(table, line, "context", row["context"]) if "context" in row else ""
        return question_source(_text(table, line, "question", row["question"]), context)
    return _side(kind, table, row, line, "source_column", (names.source,) if names.source else _SOURCES[kind])


def _target(kind: str, table: Table, names: ColumnNames, row: Row, line: int) -> str:
    return _side(kind, table, row, line, "target_column", (names.target,) if names.target else _TARGETS[kind])


def _side(kind: str, table: Table, row: Row, line: int, key: str, wanted: tuple[str, ...]) -> str:
    """A column, or a part of one (translation.en); RlftError where there is none or it holds no text."""
    outer, _, inner = wanted[0].partition(".")
    if inner and isinstance(row.get(outer), dict):
        row = {f"{outer}.{name}": value for name, value in row[outer].items()}
    name = column_of(table, kind, key, wanted, row, line)
    return _text(table, line, name, row[name])


def _text(table: Table, line: int, name: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise fault(table.where, line, f"{name} is {shown(value)}, expected a text in quotation marks")
    return value


def _plain(table: Table, names: ColumnNames, repair: bool) -> tuple[list[Row], list[str]]:
    """Check rows {"text"}; RlftError names file and line."""
    left = Leftovers(table, repair)
    found: list[Row] = []
    for line, row in table.rows:
        name = column_of(table, "plain_text", "text_column", (names.text,), row, line)
        text = _text(table, line, name, row[name])
        if not text.strip():
            left.settle(line, "the text is empty", "empty texts are left out")
            continue
        check_encodable(table, line, text)
        found.append({"text": text, "origin": f"{table.name}:{line}"})
    return found, left.messages()


WRITING: dict[str, Check] = {**{kind: partial(_pairs, kind) for kind in PAIRS}, "plain_text": _plain}


def is_chinese(text: str) -> bool:
    """Whether a third of the letters are Chinese characters, each of which says as much as several Latin letters."""
    return 3 * len(_HAN.findall(text)) >= len(_LETTER.findall(text)) > 0


def language_message(kind: str, rows: Sequence[Row], language: Language) -> list[str]:
    """Say where what is to be written is not in the language by which metrics and rewards would split it."""
    texts = [text for row in rows for text in written(kind, row)]
    chinese = sum(map(is_chinese, texts))
    other = "zh" if language == "en" else "en"
    if not texts or (2 * chinese <= len(texts) if language == "en" else 2 * chinese >= len(texts)):
        return []
    return [
        f"train: {chinese} of {len(texts)} texts to be written are Chinese, and data.language={language} says how metrics "
        f"and rewards split them; if that is wrong, type data.language={other}"
    ]


__all__ = ["PAIRS", "WRITING", "Language", "language_message", "question_source", "written"]
