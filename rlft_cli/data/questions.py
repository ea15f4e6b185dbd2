"""Rows without labels, to be answered: from a text, plain lines, JSON objects or CoNLL words; faults are named by line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from rlft_cli.data.bio import is_tag
from rlft_cli.data.checks import TASK_OF, Leftovers, Row, check_encodable
from rlft_cli.data.conll import read_words
from rlft_cli.data.dialogue import turns_of
from rlft_cli.data.goals import goal_of
from rlft_cli.data.preference import comparison
from rlft_cli.data.table import Table, fault, named, shown
from rlft_cli.data.tables import json_rows
from rlft_cli.data.writing import PAIRS, question_source
from rlft_cli.errors import RlftError

Form = Literal["text", "jsonl", "conll"]
_WORD = re.compile(r"\w+(?:['’.-]\w+)*|[^\w\s]")  # words with inner marks, and other characters one by one
_SUFFIXES: dict[str, Form] = {
    ".jsonl": "jsonl",
    ".json": "jsonl",
    ".ndjson": "jsonl",
    ".conll": "conll",
    ".bio": "conll",
    ".iob": "conll",
    ".iob2": "conll",
}
_OTHERS = (".csv", ".parquet")
_KEYS = {
    "tagged_words": ("words", "tokens", "text"),
    "labelled_text": ("text",),
    "dialogue": ("turns", "text"),
    "preference": ("prompt",),
    "parallel_text": ("source", "text"),
    "text_summary": ("source", "text"),
    "question_answer": ("question", "source", "text"),
    "plain_text": ("text",),
    "goals": ("constraints",),
}


def form_of(path: Path, text: str, rows: str) -> Form:
    """Format of an input by its suffix, else by its content; RlftError for a table, which is not read line by line."""
    suffix = path.suffix.lower()
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    if suffix in _OTHERS:
        raise RlftError(
            f"{path}: answers are given to JSONL, CoNLL or plain text; convert the file, or format=text reads its lines"
        )
    if text.lstrip().startswith("{"):
        return "jsonl"
    return "conll" if rows == "tagged_words" and _is_tagged(text) else "text"


def _is_tagged(text: str) -> bool:
    """Whether every line ends with a tag, as no prose does."""
    lines = [line.split() for line in text.split("\n") if line.strip()]
    return bool(lines) and all(len(cells) > 1 and is_tag(cells[-1]) for cells in lines)


def questions(path: Path, text: str, form: Form, rows: str) -> list[Row]:
    """Canonical rows of one kind with empty labels, in the order of the input; blank lines of plain text are no rows."""
    if form == "conll":
        if rows != "tagged_words":
            raise RlftError(
                f"{path}: is CoNLL (a word a line), which fits {TASK_OF['tagged_words']}; this checkpoint is of "
                f"{TASK_OF[rows]} and answers whole texts: format=text takes each line for one"
            )
        return [_tagged(row["words"], f"{path.name}:{line}") for line, row in read_words(path, text).rows]
    if form == "text":
        lines = [(n, line.rstrip("\r")) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]
        return [question(path, n, line, rows) for n, line in lines]
    return [_of_object(path, line, row, rows) for line, row in json_rows(path, text)]


def _one(path: Path) -> Table:
    return Table(where=str(path), name=path.name, rows=[])


def _tagged(words: list[str], origin: str) -> Row:
    return {"words": words, "tags": [], "origin": origin}


def question(path: Path, line: int, text: str, rows: str) -> Row:
    """Row of one text, which is split into words where words are tagged; RlftError where it holds none."""
    table = _one(path)
    if rows == "goals":
        raise fault(
            table.where, line, 'is a text; task=goal_dialogue answers goals: {"constraints": {"area": "north"}}'
        )
    if not text.strip():
        raise fault(table.where, line, "the text is empty; give one, or leave the line out")
    check_encodable(table, line, text)
    origin = f"{table.name}:{line}"
    if rows == "preference":
        raise fault(
            table.where,
            line,
            'a comparison is no plain text; give JSON: {"prompt": ..., "chosen": ..., "rejected": ...}',
        )
    if rows == "tagged_words":
        return _tagged(_WORD.findall(text), origin)
    if rows == "dialogue":
        return {"turns": [{"role": "user", "content": text}], "origin": origin}
    if rows in PAIRS:
        return {"source": text, "target": "", "origin": origin}
    return {"text": text, "label": "", "origin": origin}


def _of_object(path: Path, line: int, row: dict[str, Any], rows: str) -> Row:
    table = _one(path)
    key = next((key for key in _KEYS[rows] if key in row), None)
    if key is None:
        raise fault(
            table.where,
            line,
            f"expected the key {' or '.join(_KEYS[rows])} ({TASK_OF[rows]}), found {named(list(row)) or 'nothing'}",
        )
    if rows == "preference":
        return comparison(table, line, row, Leftovers(table, repair=False))
    value = row[key]
    if key == "turns":
        return _of_turns(table, line, value)
    if key == "constraints":
        return goal_of(table, line, {"requests": [], **row})
    if key in ("text", "source", "question"):
        if not isinstance(value, str):
            raise fault(table.where, line, f"{key} is {shown(value)}, expected a text in quotation marks")
        if key != "question":
            return question(path, line, value, rows)
        context = row.get("context", "")
        if not isinstance(context, str):
            raise fault(table.where, line, f"context is {shown(context)}, expected a text in quotation marks")
        return question(path, line, question_source(value, context) if value.strip() else "", rows)
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise fault(
            table.where, line, f"{key} is {shown(value)}, expected a list of texts; a whole text goes under text"
        )
    if not value or "" in value:
        what = f"word {value.index('') + 1} is empty" if value else "the sentence has no words"
        raise fault(table.where, line, f"{what}; give it, or leave it out")
    check_encodable(table, line, "".join(value))
    return _tagged(value, f"{table.name}:{line}")


def _of_turns(table: Table, line: int, value: Any) -> Row:
    turns = turns_of(table, line, "turns", value, Leftovers(table, repair=False))
    if not turns:
        raise fault(table.where, line, "the dialogue has no turns; give at least one of the user")
    if turns[-1]["role"] != "user":
        raise fault(
            table.where,
            line,
            f"the last turn is of the {turns[-1]['role']}, so there is nothing to answer; leave it out, or add the user's",
        )
    return {"turns": turns, "origin": f"{table.name}:{line}"}
