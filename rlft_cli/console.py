"""The only module that prints: rich on a terminal, plain lines otherwise, or one JSON object a line."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Literal, TextIO

from rich.console import Console as RichConsole
from rich.table import Table

Mode = Literal["auto", "rich", "plain", "json"]
Cell = str | int | float | bool | None


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
            text = "  ".join(f"{key} {_short(value)}" for key, value in facts.items() if value is not None)
            self.line(text)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """Print a table; in JSON mode one object a row."""
        if self.mode == "json":
            for row in rows:
                self._json({"table": title, **dict(zip(columns, row, strict=True))})
        elif self.mode == "rich":
            table = Table(title=title, title_justify="left")
            for n, column in enumerate(columns):
                table.add_column(column, justify="left" if n == 0 else "right")
            for row in rows:
                table.add_row(*[_escape(_short(cell)) for cell in row])
            self._rich.print(table)
        else:
            self._plain_table(title, columns, rows)

    def _plain_table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        cells = [list(columns)] + [[_short(cell) for cell in row] for row in rows]
        widths = [max(len(row[n]) for row in cells) for n in range(len(columns))]
        print(title, file=self.stream)
        for row in cells:
            print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(),
                  file=self.stream)
        self.stream.flush()

    def _json(self, facts: Mapping[str, object]) -> None:
        print(json.dumps(facts, ensure_ascii=False), file=self.stream, flush=True)


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
