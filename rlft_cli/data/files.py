"""The user's own files: a folder with train, dev and test, or three paths."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
    """Reads CoNLL, JSONL, CSV, Parquet or plain text; a path given for a split wins over what the folder holds."""

    dir: str | None
    train: str | None
    dev: str | None
    test: str | None
    format: Literal["auto", "conll", "jsonl", "csv", "parquet", "text"]
    token_column: Annotated[int, "[0, inf)"] | None
    tag_column: Annotated[int, "[0, inf)"] | None
    words_column: str | None
    tags_column: str | None
    text_column: str
    label_column: str
    turns_column: str
    source_column: str | None
    target_column: str | None
    language: Literal["en", "zh"]
    dev_fraction: Annotated[float, "(0, 1)"]
    max_train: Annotated[int, "[1, inf)"] | None
    max_dev: Annotated[int, "[1, inf)"] | None
    max_test: Annotated[int, "[1, inf)"] | None
    subsample_seed: Annotated[int, "[0, inf)"]
    match_lengths: bool
    unseen_labels: Literal["error", "drop"]
    repair: bool

    def load(self, rows: str) -> Splits:
        """Read all splits as rows of one kind; RlftError names file and line of what is wrong."""
        require_known(rows)
        if self.dir is None and self.train is None:
            raise UsageError("data=files needs a folder, data.dir=FOLDER, or files, data.train=FILE data.test=FILE")
        names = ColumnNames(
            text=self.text_column,
            label=self.label_column,
            turns=self.turns_column,
            words=self.words_column,
            tags=self.tags_column,
            source=self.source_column,
            target=self.target_column,
        )
        choice = Choice(
            dev_fraction=self.dev_fraction,
            max_train=self.max_train,
            max_dev=self.max_dev,
            max_test=self.max_test,
            subsample_seed=self.subsample_seed,
            match_lengths=self.match_lengths,
            unseen_labels=self.unseen_labels,
            repair=self.repair,
            language=self.language,
        )
        train, dev, test = self._path("train", self.train), self._path("dev", self.dev), self._path("test", self.test)
        if train is None:
            raise no_split(Path(self.dir or ".").expanduser(), "train")
        if test is None and self.dir is None:
            raise RlftError("no test file given; add data.test=FILE")
        if test is None:
            raise no_split(Path(self.dir or ".").expanduser(), "test")
        read = {path: self._read(path, rows) for path in (train, dev, test) if path is not None}
        return assemble(rows, (read[train], None if dev is None else read[dev], read[test]), names, choice)

    def only(self, split: str) -> Files:
        """The same source with the file of one split in the place of all three: what an evaluation needs."""
        given = {"train": self.train, "dev": self.dev, "test": self.test}[split]
        if given is None and self.dir is None:
            raise UsageError(f"split={split} needs its file or a folder: data.{split}=FILE or data.dir=FOLDER")
        path = self._path(split, given)
        if path is None:
            raise no_split(Path(self.dir or ".").expanduser(), split)
        file = str(path)
        return replace(
            self,
            dir=None,
            train=file,
            dev=file,
            test=file,
            max_train=self.max_train if split == "train" else None,
            max_dev=self.max_dev if split == "dev" else None,
            max_test=self.max_test if split == "test" else None,
            match_lengths=False,
        )

    def _path(self, split: str, given: str | None) -> Path | None:
        if given is not None:
            return Path(given).expanduser()
        return None if self.dir is None else find_split(Path(self.dir).expanduser(), split, self.format)

    def _read(self, path: Path, rows: str) -> Table:
        return read_file(path, self.format, rows, self.token_column, self.tag_column)
