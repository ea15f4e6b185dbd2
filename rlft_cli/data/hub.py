"""Any data set of the Hugging Face Hub, through ``datasets``; a local folder in its formats too."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal

import datasets

from rlft_cli.data import Splits
from rlft_cli.data.checks import ColumnNames
from rlft_cli.data.splits import Choice, assemble, require_known
from rlft_cli.data.table import Table, named
from rlft_cli.data.tables import with_names
from rlft_cli.errors import RlftError, UsageError

_DEV = ("validation", "dev", "valid", "val")
_OTHER = "data=files data.dir=FOLDER reads your own files, data=sample the packaged ones"


@dataclass(frozen=True, kw_only=True)
class Hub:
    """Reads splits by name; numbers of ClassLabel features become their names."""

    name: str | None
    config: str | None
    revision: str | None
    train: str
    dev: str | None
    test: str
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
        """Fetch (or find in the cache) and read all splits; RlftError if the Hub cannot be reached."""
        require_known(rows)
        if self.name is None:
            raise UsageError("data=hub needs the name of a data set, e.g. data.name=OWNER/NAME")
        found = fetch(self.name, self.config, self.revision)
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
        dev = self.dev or next((name for name in _DEV if name in found), None)
        tables = (
            _table(self.name, found, "train", self.train),
            None if dev is None else _table(self.name, found, "dev", dev),
            _table(self.name, found, "test", self.test),
        )
        return assemble(rows, tables, names, choice)


def fetch(name: str, config: str | None, revision: str | None) -> datasets.DatasetDict:
    """Load a data set by name or folder; every failure is one line that says what else can be done."""
    datasets.disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # each of its retries would print a warning of its own
    try:
        if (Path(name) / "dataset_dict.json").is_file():
            found = datasets.load_from_disk(name)
        else:
            found = datasets.load_dataset(name, config, revision=revision)
    except Exception as error:  # foreign code: datasets, huggingface_hub, httpx and fsspec raise many kinds
        raise RlftError(_why(name, error)) from error
    if not isinstance(found, datasets.DatasetDict):
        raise RlftError(f"{name}: is one table without splits; expected named splits such as train and test")
    return found


def _why(name: str, error: Exception) -> str:
    reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
    if isinstance(error, datasets.exceptions.DatasetNotFoundError):
        return f"the Hub has no data set {name!r} that you may read; check data.name, or: {_OTHER}"
    if "scripts are no longer supported" in reason:
        return f"{name}: is built by a script, which datasets no longer runs; try data.revision=refs/convert/parquet"
    if "Config name is missing" in reason or ("BuilderConfig" in reason and "not found" in reason):
        return f"{name}: {reason}; give one with data.config=NAME"
    return f"{name}: cannot be loaded from the Hugging Face Hub ({reason}); {_OTHER}"


def _table(name: str, found: datasets.DatasetDict, split: str, wanted: str) -> Table:
    there = [str(key) for key in found]
    if wanted not in there:
        near = (get_close_matches(wanted, there, n=1) or there)[0]
        raise RlftError(f"{name}: no split {wanted!r}; it has {named(there)}; name one with data.{split}={near}")
    where = f"{name}/{wanted}"
    rows = list(with_names(where, found[wanted].to_list(), found[wanted].features))
    return Table(where=where, name=where, rows=rows)
