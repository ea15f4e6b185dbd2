"""CoNLL files: one token a line, a blank line after each sentence, columns given or found."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rlft_cli.data.bio import is_tag
from rlft_cli.data.table import Table, fault, read_text, shown
from rlft_cli.errors import RlftError

_DOCSTART = "-DOCSTART-"
_KEYED_COMMENT = re.compile(r"# [\w:.-]+ = ")


def read_conll(path: Path, token_column: int | None, tag_column: int | None) -> Table:
    """Read sentences as rows {"words", "tags"}; tags stay as written.

    Lines end at \\n alone and columns at tabs (or, in a file without tabs, at runs of blanks), because real tokens
    hold every other character that Unicode calls a space or a line end. RlftError names file and line.
    """
    return _table(path, read_text(path), token_column, tag_column, tagged=True)


def read_words(path: Path, text: str) -> Table:
    """Read sentences whose tags are not known, or are not looked at; one column of words is enough."""
    return _table(path, text, None, None, tagged=False)


def _table(path: Path, text: str, token_column: int | None, tag_column: int | None, *, tagged: bool) -> Table:
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()  # what follows the last line end is no line
    split = _split_columns(lines)
    rows = [c for c in split.values() if c and c[0] != _DOCSTART]
    typical = [c for c in rows if c[0] and c[0] != "#" and not c[0].startswith("# ")] or rows
    if not typical:
        return Table(where=str(path), name=path.name, rows=[], per_word=True)
    width = Counter(map(len, typical)).most_common(1)[0][0]
    columns = list(zip(*[c for c in typical if len(c) == width], strict=True))
    messages: list[str] = []
    token = tag = 0
    if width > 1 or tagged:
        token, tag, messages = _choose(path, columns, token_column, tag_column)
    sentences, skipped = _sentences(path, lines, split, width, token, tag)
    if skipped:
        messages.append(f"{path.name}: {skipped} comment lines (# ...) skipped")
    return Table(
        where=str(path),
        name=path.name,
        per_word=True,
        messages=messages,
        rows=[(first, {"words": words, "tags": tags}) for first, words, tags in sentences],
    )


def _split_columns(lines: Sequence[str]) -> dict[str, list[str]]:
    """Columns of each different line, none for a blank one; lines repeat so much that this saves half the time."""
    cut = {line: line.rstrip(" \t\r") for line in lines}
    tabbed = 2 * sum("\t" in line for line in cut.values()) >= sum(map(bool, cut.values()))
    if tabbed:
        return {line: short.split("\t") if short else [] for line, short in cut.items()}
    return {line: [cell for cell in short.split(" ") if cell] for line, short in cut.items()}


def _choose(
    path: Path, columns: list[tuple[str, ...]], token: int | None, tag: int | None
) -> tuple[int, int, list[str]]:
    """Token and tag column, and a message where there was a choice."""
    width = len(columns)
    first = ", ".join(f"{n} {shown(column[0], 20)}" for n, column in enumerate(columns))
    if width < 2:
        raise RlftError(
            f"{path}: the lines have one column ({first}); expected a token and a tag, separated by a tab or blanks"
        )
    for key, given in (("token_column", token), ("tag_column", tag)):
        if given is not None and given >= width:
            raise RlftError(f"{path}: data.{key}={given}, but the lines have {width} columns, counted from 0: {first}")
    likeness = [sum(map(is_tag, set(column))) / len(set(column)) for column in columns]
    sure = [n for n in range(width) if likeness[n] == 1.0 and n != token]
    found_tag = tag if tag is not None else _tag_column(likeness, sure, token)
    found_token = token if token is not None else _token_column(columns, found_tag)
    if found_token == found_tag:
        raise RlftError(f"{path}: column {found_tag} cannot hold both tokens and tags; the columns are: {first}")
    return found_token, found_tag, _column_messages(path, width, (token, tag), (found_token, found_tag), sure)


def _tag_column(likeness: list[float], sure: list[int], token: int | None) -> int:
    if sure:
        return sure[-1]
    others = [n for n in range(len(likeness)) if n != token]
    return max(others, key=lambda n: (likeness[n], n))


def _token_column(columns: list[tuple[str, ...]], tag: int) -> int:
    others = [n for n in range(len(columns)) if n != tag]
    # A first column of nothing but numbers is the word's place in the sentence (CoNLL-U, GermEval).
    words = [n for n in others if not all(value.isdecimal() for value in set(columns[n]))]
    return (words or others)[0]


def _column_messages(
    path: Path, width: int, given: tuple[int | None, int | None], found: tuple[int, int], sure: list[int]
) -> list[str]:
    token, tag = found
    if None not in given or (width == 2 and found == (0, 1)):
        return []
    text = f"{path.name}: of {width} columns, tokens are in column {token} and tags in column {tag} (counted from 0)"
    rivals = [n for n in sure if n != tag]
    if given[1] is None and rivals:
        text += f"; column {rivals[-1]} holds tags too: data.tag_column={rivals[-1]} takes it"
    return [text]


Sentence = tuple[int, list[str], list[str]]


def _sentences(
    path: Path, lines: Sequence[str], split: dict[str, list[str]], width: int, token: int, tag: int
) -> tuple[list[Sentence], int]:
    """(line of the first token, words, tags) of each sentence, and how many comment lines there were."""
    found: list[Sentence] = []
    words: list[str] = []
    tags: list[str] = []
    skipped = 0
    for number, line in enumerate(lines, start=1):
        row = split[line]
        if not row or row[0] == _DOCSTART:
            if words:
                found.append((number - len(words), words, tags))
                words, tags = [], []
        elif not words and line.startswith("# ") and _is_comment(line, row, width, tag):
            skipped += 1
        elif len(row) != width:
            raise fault(str(path), number, _ragged(row, width))
        elif not row[token]:
            raise fault(str(path), number, "the token is empty; give it, or remove the line")
        else:
            words.append(row[token])
            tags.append(row[tag])
    if words:
        found.append((len(lines) + 1 - len(words), words, tags))
    return found, skipped


def _is_comment(line: str, row: list[str], width: int, tag: int) -> bool:
    """Tell "# sent_id = 12" before a sentence from the token "#" with its tag."""
    return len(row) != width or _KEYED_COMMENT.match(line) is not None or not is_tag(row[tag])


def _ragged(row: list[str], width: int) -> str:
    cells = ", ".join(shown(cell, 20) for cell in row[:6])
    one = "1 column" if len(row) == 1 else f"{len(row)} columns"
    return f"has {one} ({cells}), the other lines have {width}; correct the line or remove it"
