"""Raw rows into canonical rows of one kind; everything wrong with a row is found here and named with its line."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from rlft_cli.data.table import Table, fault, named, shown

Row = dict[str, Any]
TASK_OF = {
    "tagged_words": "task=ner",
    "labelled_text": "task=classification",
    "dialogue": "task=dialogue",
    "preference": "task=preference",
    "parallel_text": "task=translation",
    "text_summary": "task=summarisation",
    "question_answer": "task=qa_generative",
    "plain_text": "task=language_modeling",
    "goals": "task=goal_dialogue",
}
FIELDS_OF = {
    "tagged_words": "words, tags",
    "labelled_text": "text, label",
    "dialogue": "turns",
    "preference": "prompt, chosen, rejected",
    "parallel_text": "source, target",
    "text_summary": "source, target",
    "question_answer": "question, context, answer (or source, target)",
    "plain_text": "text",
    "goals": "constraints, requests",
}
ROWS = tuple(TASK_OF)
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zs", "Zl", "Zp", "Mn", "Me"})


@dataclass(frozen=True, kw_only=True)
class ColumnNames:
    """Names of the fields to read; those that may be None are found under their usual names."""

    text: str
    label: str
    turns: str
    words: str | None
    tags: str | None
    source: str | None
    target: str | None


@dataclass(frozen=True, kw_only=True)
class Part:
    """One split in canonical rows; ``where`` names its source in errors."""

    where: str
    rows: list[Row]


def text_of(rows: str, row: Row) -> str:
    """Text of a canonical row, by which it is compared with others; of a preference its prompt."""
    if rows == "tagged_words":
        return " ".join(row["words"])
    if rows in ("dialogue", "preference"):
        return "\n".join(f"{turn['role']}: {turn['content']}" for turn in row["turns"])
    if rows == "goals":
        wanted = ", ".join(f"{one['slot']}={one['value']}" for one in row["constraints"])
        return f"{wanted}; {', '.join(row['requests'])}"
    return str(row["source"] if "source" in row else row["text"])


def labels_of(rows: str, row: Row) -> list[str]:
    """Labels of a canonical row: the entity type of each tag but O, the class, or the slots and requests of a goal."""
    if rows == "tagged_words":
        return [tag[2:] for tag in row["tags"] if tag != "O"]
    if rows == "goals":
        return [*(one["slot"] for one in row["constraints"]), *row["requests"]]
    return [row["label"]] if rows == "labelled_text" else []


def has_visible(text: str) -> bool:
    """Say whether a text has a character that leaves a mark."""
    return any(unicodedata.category(character) not in _INVISIBLE for character in text)


def invisible_message(name: str, unit: str, texts: Iterable[str], line_of: Callable[[str], int]) -> list[str]:
    """Report words or texts without a visible character; they are kept (one tag per original word).

    ``line_of`` finds the line of the first occurrence of a text.
    """
    counts = Counter(texts)
    hidden = [text for text in counts if not has_visible(text)]
    if not hidden:
        return []
    count = sum(counts[text] for text in hidden)
    first = f"first: line {line_of(hidden[0])}, {hidden[0]!a}"
    return [f"{name}: {count} {unit} without a visible character kept ({first})"]


def line_of(row: Row) -> int:
    """Line of a canonical row, from its origin."""
    return int(row["origin"].rsplit(":", 1)[1])


def column_of(table: Table, rows: str, key: str, wanted: tuple[str, ...], row: Row, line: int) -> str:
    """Find the first of the wanted columns in a row, or say what there is and what to type."""
    for name in wanted:
        if name in row:
            return name
    there = list(row)
    fits = _rows_that_fit(there)
    text = f"no column {' or '.join(wanted)}; found: {named(there) or 'nothing'}. "
    if fits is not None and fits != rows:
        text += f"Rows with {FIELDS_OF[fits]} fit {TASK_OF[fits]}; {TASK_OF[rows]} reads {FIELDS_OF[rows]}"
    else:
        near = get_close_matches(wanted[0], there, n=1, cutoff=0.7)
        text += f"{TASK_OF[rows]} reads {FIELDS_OF[rows]}; name another column with data.{key}="
        text += near[0] if near else "NAME"
    raise fault(table.where, line, text)


def _rows_that_fit(columns: list[str]) -> str | None:
    there = set(columns)
    if "turns" in there:
        return "dialogue"
    if {"prompt", "chosen", "rejected"} <= there or {"prompt", "completion", "label"} <= there:
        return "preference"
    if there >= {"source", "target"}:
        return "parallel_text"
    if there >= {"question", "answer"}:
        return "question_answer"
    if {"constraints", "requests"} <= there:
        return "goals"
    if there & {"words", "tokens"} and there & {"tags", "ner_tags"}:
        return "tagged_words"
    return "labelled_text" if {"text", "label"} <= there else None


def check_encodable(table: Table, line: int, text: str) -> None:
    """Refuse half of a surrogate pair, which JSON can spell and UTF-8 cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        half = ascii(text[error.start])
        raise fault(table.where, line, f"holds {half}, half of a surrogate pair; write the whole character") from error


class Leftovers:
    """What repair changed in one source, counted by what was done."""

    def __init__(self, table: Table, repair: bool) -> None:
        self.table, self.repair = table, repair
        self.done: Counter[str] = Counter()

    def settle(self, line: int, wrong: str, done: str) -> None:
        """Count a repair, or refuse the row and offer the repair."""
        if not self.repair:
            raise fault(self.table.where, line, f"{wrong}; correct it, or data.repair=true: {done}")
        self.done[done] += 1

    def messages(self) -> list[str]:
        """One line for each kind of repair."""
        return [f"{self.table.name}: repaired {count} times: {done}" for done, count in self.done.items()]


def labelled_text(table: Table, names: ColumnNames, repair: bool) -> tuple[list[Row], list[str]]:
    """Check rows {"text", "label"}; numbers are taken as names of labels, with a message."""
    left, numbers = Leftovers(table, repair), 0
    found: list[Row] = []
    for line, row in table.rows:
        text = row[column_of(table, "labelled_text", "text_column", (names.text,), row, line)]
        label = row[column_of(table, "labelled_text", "label_column", (names.label,), row, line)]
        if text is not None and not isinstance(text, str):
            raise fault(table.where, line, f"{names.text} is {shown(text)}, expected a text in quotation marks")
        if text is None or not text.strip():
            left.settle(line, "the text is empty", "examples with an empty text are left out")
            continue
        if isinstance(label, int):
            label, numbers = str(label), numbers + 1
        if not isinstance(label, str) or not label.strip():
            raise fault(table.where, line, f"{names.label} is {shown(label)}, expected the name of a label")
        check_encodable(table, line, text + label)
        found.append({"text": text, "label": label, "origin": f"{table.name}:{line}"})
    messages = left.messages()
    if numbers:
        messages.append(f"{table.name}: {numbers} labels are numbers and are used as names")
    messages += invisible_message(
        table.name,
        "texts",
        (row["text"] for row in found),
        lambda text: next(line_of(row) for row in found if row["text"] == text),
    )
    return found, messages


Check = Callable[[Table, ColumnNames, bool], tuple[list[Row], list[str]]]
