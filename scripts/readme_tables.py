"""Writes the tables of docs/results/*.json into README.md and docs/, between their markers, so that they cannot drift.

python scripts/readme_tables.py            # write
python scripts/readme_tables.py --check    # exit with 1 where a page differs from what would be written
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bench_training
import reproduce_dialogue_table
import reproduce_feedback_table
import reproduce_main_table
from _rows import REPOSITORY, ended, read_json

from rlft_cli.errors import RlftError


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A table that a page shows."""

    script: str  # makes docs/results/<name>.json
    markdown: Callable[[Mapping[str, Any]], str]


PAGES: dict[str, dict[str, Shown]] = {
    "README.md": {
        "main": Shown(script="reproduce_main_table", markdown=reproduce_main_table.markdown),
        "speed": Shown(script="bench_training", markdown=bench_training.markdown),
    },
    "docs/feedback.md": {
        "feedback": Shown(script="reproduce_feedback_table", markdown=reproduce_feedback_table.markdown),
    },
    "docs/dialogue.md": {
        "dialogue": Shown(script="reproduce_dialogue_table", markdown=reproduce_dialogue_table.markdown),
    },
}


def filled(text: str, name: str, table: str) -> str:
    """The text with a table between ``<!-- table:NAME -->`` and ``<!-- /table:NAME -->``; RlftError without markers."""
    begin, end = f"<!-- table:{name} -->", f"<!-- /table:{name} -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise RlftError(
            f"expected the markers {begin} and {end} once each, in this order; "
            f"found {text.count(begin)} and {text.count(end)}"
        )
    before, _, rest = text.partition(begin)
    return f"{before}{begin}\n{table.strip()}\n{end}{rest.partition(end)[2]}"


def rendered(text: str, tables: Mapping[str, Shown], results: Path) -> str:
    """The page with every table as its results file has it; RlftError where a marker or a file is missing."""
    for name, shown in tables.items():
        file = results / f"{name}.json"
        if not file.exists():
            raise RlftError(f"{file} is missing; make it with scripts/{shown.script}.py")
        text = filled(text, name, shown.markdown(read_json(file)))
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pages, or compare them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 where a page would change")
    parser.add_argument(
        "--root", type=Path, default=REPOSITORY, help="folder of README.md and docs (default: this one)"
    )
    options = parser.parse_args(arguments)
    for name, tables in PAGES.items():
        page = options.root / name
        if not page.is_file():
            raise RlftError(f"{page} does not exist; expected a text with markers, <!-- table:main --> first")
        before = page.read_text(encoding="utf-8")
        after = rendered(before, tables, options.root / "docs/results")
        if before == after:
            print(f"{name} agrees with {', '.join(f'{table}.json' for table in tables)}")
        elif options.check:
            lines = difflib.unified_diff(before.splitlines(), after.splitlines(), name, "from the results", lineterm="")
            print("\n".join(lines))
            raise RlftError(f"{name} differs from the results; run python scripts/readme_tables.py")
        else:
            page.write_text(after, encoding="utf-8")
            print(f"wrote {page}")
    return 0


if __name__ == "__main__":
    sys.exit(ended(main))
