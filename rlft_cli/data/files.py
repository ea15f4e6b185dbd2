"""The user's own files: a folder with train, dev and test, or three paths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from rlft_cli.data import Splits
from rlft_cli.data.checks import ColumnNames
from rlft_cli.data.locate import find_split, no_split, read_file
from rlft_cli.data.splits import Choice, assemble, require_known
from rlft_cli.data.table import Table
from rlft_cli.errors import RlftError, UsageError


@dataclass(frozen=True, kw_only=True)
class Files:
    """Reads CoNLL, JSONL, CSV or Parquet; a path given for a split wins over what the folder holds."""

    dir: str | None
    train: str | None
    dev: str | None
    test: str | None
    format: Literal["auto", "conll", "jsonl", "csv", "parquet"]
    token_column: Annotated[int, "[0, inf)"] | None
    tag_column: Annotated[int, "[0, inf)"] | None
    words_column: str | None
    tags_column: str | None
    text_column: str
    label_column: str
    turns_column: str
    dev_fraction: Annotated[float, "(0, 1)"]
    max_train: Annotated[int, "[1, inf)"] | None
    max_dev: Annotated[int, "[1, inf)"] | None
    max_test: Annotated[int, "[1, inf)"] | None
    subsample_seed: Annotated[int, "[0, inf)"]
    unseen_labels: Literal["error", "drop"]
    repair: bool

    def load(self, rows: str) -> Splits:
        """Read all splits as rows of one kind; RlftError names file and line of what is wrong."""
        require_known(rows)
        if self.dir is None and self.train is None:
            raise UsageError("data=files needs a folder, data.dir=FOLDER, or files, data.train=FILE data.test=FILE")
        names = ColumnNames(
            text=self.text_column, label=self.label_column, turns=self.turns_column,
            words=self.words_column, tags=self.tags_column,
        )
        choice = Choice(
            dev_fraction=self.dev_fraction, max_train=self.max_train, max_dev=self.max_dev, max_test=self.max_test,
            subsample_seed=self.subsample_seed, unseen_labels=self.unseen_labels, repair=self.repair,
        )
        train, dev, test = self._path("train", self.train), self._path("dev", self.dev), self._path("test", self.test)
        if train is None:
            raise no_split(Path(self.dir or ".").expanduser(), "train")
        if test is None and self.dir is None:
            raise RlftError("no test file given; add data.test=FILE")
        if test is None:
            raise no_split(Path(self.dir or ".").expanduser(), "test")
        tables = (self._read(train, rows), None if dev is None else self._read(dev, rows), self._read(test, rows))
        return assemble(rows, tables, names, choice)

    def _path(self, split: str, given: str | None) -> Path | None:
        if given is not None:
            return Path(given).expanduser()
        return None if self.dir is None else find_split(Path(self.dir).expanduser(), split, self.format)

    def _read(self, path: Path, rows: str) -> Table:
        return read_file(path, self.format, rows, self.token_column, self.tag_column)
