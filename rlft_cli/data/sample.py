"""The packaged sample: small real text for trying and testing, one folder for each kind of rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from rlft_cli.data import Splits
from rlft_cli.data.checks import ColumnNames
from rlft_cli.data.locate import find_split, no_split, read_file
from rlft_cli.data.splits import Choice, assemble, require_known
from rlft_cli.data.table import Table

_FOLDERS = {
    "tagged_words": "ner",
    "labelled_text": "classification",
    "dialogue": "dialogue",
    "preference": "preference",
    "parallel_text": "translation",
    "text_summary": "summarisation",
    "question_answer": "qa_generative",
    "plain_text": "classification",  # its texts; their labels are not read
    "goals": "goal_dialogue",
}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Reads the sample of the kind that the task wants, as files are read."""

    max_train: Annotated[int, "[1, inf)"] | None
    max_dev: Annotated[int, "[1, inf)"] | None
    max_test: Annotated[int, "[1, inf)"] | None
    subsample_seed: Annotated[int, "[0, inf)"]
    match_lengths: bool
    unseen_labels: Literal["error", "drop"]
    language: Literal["en"]

    def load(self, rows: str) -> Splits:
        """Read train, dev and test of the sample."""
        require_known(rows)
        folder = Path(__file__).parent / "samples" / _FOLDERS[rows]
        names = ColumnNames(text="text", label="label", turns="turns", words=None, tags=None, source=None, target=None)
        choice = Choice(
            dev_fraction=0.1,
            max_train=self.max_train,
            max_dev=self.max_dev,
            max_test=self.max_test,
            subsample_seed=self.subsample_seed,
            match_lengths=self.match_lengths,
            unseen_labels=self.unseen_labels,
            repair=False,
            language=self.language,
        )
        return assemble(
            rows, (_read(folder, "train", rows), _read(folder, "dev", rows), _read(folder, "test", rows)), names, choice
        )


def _read(folder: Path, split: str, rows: str) -> Table:
    path = find_split(folder, split, "auto")
    if path is None:
        raise no_split(folder, split)
    return read_file(path, "auto", rows, None, None)
