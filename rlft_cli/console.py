"""The only module that prints: rich on a terminal, plain lines otherwise, or one JSON object a line."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Literal, TextIO

from rich.console import Console as RichConsole
from rich.table import Table

from rlft_cli.errors import RlftError

Mode = Literal["auto", "rich", "plain", "json"]
Cell = str | int | float | bool | None
_FIXED = frozenset("-.0123456789")  # letters of a number that is not written as 1e-05


class Console:
    """Where a command says things; ``mode`` is resolved once."""

    def __init__(self, mode: Mode = "auto", stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout
        self.mode: Mode = ("rich" if self.stream.isatty() else "plain") if mode == "auto" else mode
        self._rich = RichConsole(file=self.stream, highlight=False, soft_wrap=True)

    def line(self, text: str, **facts: Cell) -> None:
        """Say one sentence; in JSON mode its facts (or the sentence, where there are none)."""
        if self.mode == "json":
            self._json({"message": text, **facts})
        elif self.mode == "rich":
            self._rich.print(text, markup=False)
        else:
            print(text, file=self.stream, flush=True)

    def output(self, line: str) -> None:
        """Print a line of a command's product as it is, whatever the mode."""
        print(line, file=self.stream, flush=True)

    def piece(self, text: str) -> None:
        """Print a part of a line as it comes; in JSON mode nothing (``facts`` tells the whole)."""
        if self.mode != "json":
            print(text, end="", file=self.stream, flush=True)

    def end_line(self) -> None:
        """End a line of pieces."""
        if self.mode != "json":
            print(file=self.stream, flush=True)

    def facts(self, **facts: Cell) -> None:
        """In JSON mode one object; nothing otherwise."""
        if self.mode == "json":
            self._json(facts)

    def ask(self, prompt: str) -> str | None:
        """A line that the user types, None at the end of input; the prompt is shown on a terminal only.

        RlftError where the input is not UTF-8.
        """
        try:
            if sys.stdin.isatty() and self.mode != "json":
                return input(prompt)  # which lets the line be edited
            line = sys.stdin.readline()
        except EOFError:
            return None
        except UnicodeDecodeError as problem:
            raise RlftError(
                "standard input is not UTF-8; convert it: iconv -f latin1 -t utf-8 FILE | rlft ..."
            ) from problem
        return line.removesuffix("\n") if line else None

    def warn(self, text: str) -> None:
        """Say that something needs attention; never stops."""
        if self.mode == "json":
            self._json({"warning": text})
        elif self.mode == "rich":
            self._rich.print(f"[yellow]warning:[/yellow] {_escape(text)}")
        else:
            print(f"warning: {text}", file=self.stream, flush=True)

    def row(self, facts: Mapping[str, Cell]) -> None:
        """Print one row of a running table (training progress), the same keys each time."""
        if self.mode == "json":
            self._json(dict(facts))
        else:
            text = "  ".join(f"{key} {_brief(value)}" for key, value in facts.items() if value is not None)
            self.line(text)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """Print a table; in JSON mode one object a row."""
        if self.mode == "json":
            for row in rows:
                self._json({"table": title, **dict(zip(columns, row, strict=True))})
        elif self.mode == "rich":
            table = Table(title=title, title_justify="left")
            for column, right in zip(columns, _are_numbers(columns, rows), strict=True):
                table.add_column(column, justify="right" if right else "left", overflow="fold")
            for row in _cells(rows):
                table.add_row(*[_escape(cell) for cell in row])
            self._rich.print(table, soft_wrap=False)
        else:
            self._plain_table(title, columns, rows)

    def _plain_table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        cells = [list(columns), *_cells(rows)]
        widths = [max(len(row[n]) for row in cells) for n in range(len(columns))]
        right = _are_numbers(columns, rows)
        print(title, file=self.stream)
        for row in cells:
            line = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)]
            print("  " + "  ".join(line).rstrip(), file=self.stream)
        self.stream.flush()

    def _json(self, facts: Mapping[str, object]) -> None:
        print(json.dumps(facts, ensure_ascii=False), file=self.stream, flush=True)


def _brief(value: Cell) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _are_numbers(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[bool]:
    """Which columns hold no text, and are put to the right."""
    return [not any(isinstance(row[n], str) for row in rows) for n in range(len(columns))]


def _cells(rows: Sequence[Sequence[Cell]]) -> list[list[str]]:
    """Cells as text; the fractions of a column have the same number of decimals, so that points stand below points."""
    texts = [[_short(cell) for cell in row] for row in rows]
    for n in range(len(rows[0]) if rows else 0):
        fractions = [k for k, row in enumerate(rows) if isinstance(row[n], float) and set(texts[k][n]) <= _FIXED]
        decimals = max((len(texts[k][n].partition(".")[2]) for k in fractions), default=0)
        for k in fractions:
            whole, _, part = texts[k][n].partition(".")
            texts[k][n] = f"{whole}.{part.ljust(decimals, '0')}" if part else whole
    return texts


def _short(value: Cell) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e-3 or abs(value) >= 1e4 else f"{value:.4f}".rstrip("0").rstrip(".")
    return str(value)


def _escape(text: str) -> str:
    return text.replace("[", "\\[")


def fail(text: str) -> None:
    """Print an error to standard error."""
    print(f"rlft: error: {text}", file=sys.stderr, flush=True)
