"""Writes the tables of docs/results/*.json into README.md, between their markers, so that they cannot drift.

python scripts/readme_tables.py            # write
python scripts/readme_tables.py --check    # exit with 1 where README.md differs from what would be written
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import bench_training
import reproduce_main_table
from _rows import REPOSITORY, ended, read_json

from rlft_cli.errors import RlftError

TABLES: dict[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "main": ("main.json", reproduce_main_table.markdown),
    "speed": ("speed.json", bench_training.markdown),
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


def rendered(text: str, results: Path) -> str:
    """The README with every table as its results file has it; RlftError where a marker or a file is missing."""
    for name, (file, markdown) in TABLES.items():
        if not (results / file).exists():
            raise RlftError(
                f"{results / file} is missing; make it with scripts/"
                f"{'reproduce_main_table' if name == 'main' else 'bench_training'}.py"
            )
        text = filled(text, name, markdown(read_json(results / file)))
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Write README.md, or compare it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 where README.md would change")
    parser.add_argument("--readme", type=Path, default=REPOSITORY / "README.md", help="default: that of this checkout")
    parser.add_argument("--results", type=Path, default=REPOSITORY / "docs/results", help="folder of the JSON files")
    options = parser.parse_args(arguments)
    if not options.readme.is_file():
        raise RlftError(f"{options.readme} does not exist; expected a text with markers, <!-- table:main --> first")
    before = options.readme.read_text(encoding="utf-8")
    after = rendered(before, options.results)
    if before == after:
        print(f"{options.readme.name} agrees with {', '.join(file for file, _ in TABLES.values())}")
        return 0
    if options.check:
        old, new = before.splitlines(), after.splitlines()
        print("\n".join(difflib.unified_diff(old, new, "README.md", "from the results", lineterm="")))
        raise RlftError(f"{options.readme.name} differs from the results; run python scripts/readme_tables.py")
    options.readme.write_text(after, encoding="utf-8")
    print(f"wrote {options.readme}")
    return 0


if __name__ == "__main__":
    sys.exit(ended(main))
