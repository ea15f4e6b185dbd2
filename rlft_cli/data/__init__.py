"""What a data source is: splits of examples, each row in the canonical form of its kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from datasets import Dataset


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Train, dev and test examples, and what was noticed while reading them.

    Rows by kind: tagged_words {"words": list[str], "tags": list[str] in BIO}, labelled_text {"text": str,
    "label": str}, dialogue {"turns": list[{"role", "content"}]}, preference {"turns": those of the prompt, "chosen": str,
    "rejected": str} (one of both None where a single reply was judged), plain_text {"text": str}; parallel_text,
    text_summary and question_answer {"source": str, "target": str}. Every row has "origin" ("train.conll:12").
    """

    train: Dataset
    dev: Dataset
    test: Dataset
    messages: list[str]  # e.g. "train.conll: IOB1 tags converted to BIO (312 tags)"


class Data(Protocol):
    """The configured side of a data source."""

    def load(self, rows: str) -> Splits:
        """Read all splits as rows of one kind; RlftError names file and line of what is wrong."""
        ...
