"""rlft data: figures checked by hand on tiny splits, and the command with a model that is not there."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from datasets import Dataset
from omegaconf import OmegaConf

from rlft_cli.commands.data import Report, limits, report, run, show
from rlft_cli.console import Console
from rlft_cli.data import Splits
from rlft_cli.data.survey import Limits, contradictions, invalid_tags, lengths, word_count
from rlft_cli.errors import RlftError

FREE = Limits(window_tokens=None, windows=None, prompt_tokens=None, reply_tokens=None, context_turns=None)


class LetterCodec:
    """One token a letter, one before and one after."""

    pad_id, unk_id, eos_id, max_tokens = 0, 0, 0, 64
    prefix: ClassVar[list[int]] = [1]
    suffix: ClassVar[list[int]] = [2]

    def word_pieces(self, words: Sequence[str]) -> list[list[int]]:
        return [[3] * len(word) for word in words]

    def text_ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [[3] * len(text) for text in texts]

    def chat_ids(self, turns: Sequence[dict[str, str]]) -> list[int]:
        return [3]

    def text(self, ids: Sequence[int]) -> str:
        return ""

    def save(self, folder: Path) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class AbsentModel:
    def open(self) -> Path | None:
        raise RlftError("model=nothing: weights not found")

    def codec(self, folder: Path | None, corpus: Iterable[str]) -> LetterCodec:
        raise AssertionError("not opened")


@dataclass(frozen=True, kw_only=True)
class LetterModel:
    def open(self) -> Path | None:
        return None

    def codec(self, folder: Path | None, corpus: Iterable[str]) -> LetterCodec:
        assert list(corpus)
        return LetterCodec()


@dataclass(frozen=True, kw_only=True)
class AnyTask:
    rows: str
    max_window_tokens: int


def made(kind: str, train: list[dict[str, Any]], dev: list[dict[str, Any]], test: list[dict[str, Any]]) -> Splits:
    parts = [Dataset.from_list(rows) for rows in (train, dev, test)]
    return Splits(train=parts[0], dev=parts[1], test=parts[2], messages=["m"])


def table(found: Report, title: str) -> list[list[Any]]:
    return next(t.rows for t in found.tables if t.title.startswith(title))


def tagged(words: str, tags: str) -> dict[str, Any]:
    return {"words": words.split(), "tags": tags.split(), "origin": "f:1"}


NER = made(
    "tagged_words",
    [tagged("Anna Lee runs", "B-P I-P O"), tagged("anna lee runs", "O O O"), tagged("Rome burns", "B-L O")],
    [tagged("ROME burns", "B-L O")],
    [tagged("x y z w v", "O O O O O"), tagged("Bob", "B-P")],
)


def test_lengths_by_hand() -> None:
    found = lengths(range(1, 21))
    assert (found.count, found.total, found.mean, found.p95, found.longest) == (20, 210, 10.5, 19, 20)
    assert lengths([]).longest == 0
    assert lengths([7]).p95 == 7


def test_words_of_texts_without_blanks() -> None:
    assert word_count("labelled_text", {"text": "我 爱NLP very much"}) == 5
    assert word_count("dialogue", {"turns": [{"content": "a b"}, {"content": "c"}]}) == 3


def test_invalid_tags_are_counted() -> None:
    assert invalid_tags([{"tags": ["I-A", "O", "I-A", "I-A"]}, {"tags": ["B-A", "I-B"]}]) == 3


def test_a_report_on_tagged_words() -> None:
    found = report(NER, "tagged_words", FREE, None)
    assert table(found, "Sizes") == [
        ["train", 3, 8, 2.7, 3, 3, 1, 0],
        ["dev", 1, 2, 2.0, 2, 2, 0, 0],
        ["test", 2, 6, 3.0, 5, 5, 1, 0],
    ]
    assert table(found, "Entities by type (2)") == [["L", 1, 1, 0], ["P", 1, 0, 1]]
    assert table(found, "Overlap") == [["dev in train", 1, 1], ["test in train", 0, 2], ["test in dev", 0, 2]]
    assert '1 of 1 sentences of dev are in train too, e.g. "rome burns"' in found.warnings
    assert '1 texts occur tagged in more than one way, e.g. "anna lee runs"' in found.warnings
    assert 'train: 1 sentences repeat the text of an earlier one, e.g. "anna lee runs"' in found.notes
    assert found.notes[0] == "m"


def test_what_is_windowed() -> None:
    limit = Limits(window_tokens=12, windows=None, prompt_tokens=None, reply_tokens=None, context_turns=None)
    found = report(NER, "tagged_words", limit, LetterCodec())
    assert table(found, "Lengths in model tokens; inputs longer than 12") == [
        ["train", 12.3, 13, 13, 2],
        ["dev", 11.0, 11, 11, 0],
        ["test", 6.0, 7, 7, 0],
    ]


def test_texts_that_lose_their_end_are_warned_of() -> None:
    rows = [{"text": "a" * 40, "label": "x", "origin": "f:1"}, {"text": "aaa", "label": "y", "origin": "f:2"}]
    limit = Limits(window_tokens=10, windows=4, prompt_tokens=None, reply_tokens=None, context_turns=None)
    found = report(made("labelled_text", rows, rows[1:], rows[1:]), "labelled_text", limit, LetterCodec())
    assert "train: 1 texts need more than task.max_windows=4 windows and lose their end" in found.warnings  # 40 > 4 x 8


def test_texts_with_more_than_one_label() -> None:
    rows = {
        "train": [{"text": "Hi", "label": "a"}],
        "dev": [{"text": "hi", "label": "b"}],
        "test": [{"text": "x", "label": "a"}],
    }
    assert contradictions("labelled_text", rows) == {"hi": ["a", "b"]}


def test_a_report_on_dialogues() -> None:
    turns = [("assistant", "welcome"), ("user", "one two"), ("assistant", "three"), ("user", "four")]
    row = {"turns": [{"role": role, "content": content} for role, content in turns], "origin": "f:1"}
    limit = Limits(window_tokens=None, windows=None, prompt_tokens=8, reply_tokens=5, context_turns=1)
    found = report(made("dialogue", [row], [row], [row]), "dialogue", limit, LetterCodec())
    assert table(found, "Turns")[0] == ["train", 4, 1, 1.0, 1, 1, 1, 1]
    assert table(found, "Lengths in model tokens")[:2] == [
        ["train prompts", 7.0, 7, 7, 8, 0],
        ["train replies", 6.0, 6, 6, 5, 1],
    ]


def test_a_report_on_pairs() -> None:
    row = {"source": "one two 三", "target": "uno", "origin": "f:1"}
    limit = Limits(window_tokens=None, windows=None, prompt_tokens=9, reply_tokens=3, context_turns=None)
    found = report(made("parallel_text", [row], [row], [row]), "parallel_text", limit, LetterCodec())
    assert table(found, "Sources, and what")[:2] == [["train sources", 3.0, 3, 3], ["train targets", 1.0, 1, 1]]
    assert table(found, "Lengths in model tokens")[:2] == [
        ["train prompts", 9.0, 9, 9, 9, 0],
        ["train replies", 4.0, 4, 4, 3, 1],  # with its end
    ]
    assert table(found, "Overlap")[0] == ["dev in train", 1, 1]


def test_a_report_on_plain_text() -> None:
    rows = [{"text": "one two", "origin": "f:1"}, {"text": "three", "origin": "f:2"}]
    found = report(made("plain_text", rows, rows[:1], rows[1:]), "plain_text", FREE, LetterCodec())
    assert table(found, "Lengths in model tokens")[0] == ["train", 12, 6.0, 7, 7]
    assert table(found, "Sizes")[0] == ["train", 2, 3, 1.5, 2, 2]


def test_long_lists_of_labels_are_cut_on_paper_only() -> None:
    rows = [{"text": f"t{n}", "label": f"label{n:03}", "origin": "f:1"} for n in range(100)]
    found = report(made("labelled_text", rows, rows[:1], rows[:1]), "labelled_text", FREE, None)
    plain, full = io.StringIO(), io.StringIO()
    show(found, Console("plain", plain))
    show(found, Console("json", full))
    assert "... 60 more" in plain.getvalue() and "label050" not in plain.getvalue()
    assert any(json.loads(line).get("label") == "label050" for line in full.getvalue().splitlines())


def test_examples_cannot_drive_a_terminal() -> None:
    rows = [{"text": "a \x1b[31mred", "label": "x", "origin": "f:1"}]
    found = report(made("labelled_text", rows, rows, rows), "labelled_text", FREE, None)
    assert "\x1b" not in "".join(found.warnings) and "\\x1b[31mred" in found.warnings[0]


def test_limits_come_from_the_task() -> None:
    found = limits(OmegaConf.create({"max_window_tokens": 128, "context_turns": 3, "max_windows": None}))
    assert found == Limits(window_tokens=128, windows=None, prompt_tokens=None, reply_tokens=None, context_turns=3)


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        ("LetterModel", "inputs longer than 20 are read in windows"),
        ("AbsentModel", "in words only, as the model's tokenizer cannot be had: model=nothing: weights not found"),
    ],
)
def test_the_command(model: str, wanted: str) -> None:
    data = {"_target_": "rlft_cli.data.sample.Sample", "max_train": 20, "max_dev": 5, "max_test": 5}
    data |= {"subsample_seed": 0, "match_lengths": False, "unseen_labels": "error", "language": "en"}
    task = {"_target_": f"{__name__}.AnyTask", "rows": "tagged_words", "max_window_tokens": 20}
    config = OmegaConf.create({"task": task, "data": data, "model": {"_target_": f"{__name__}.{model}"}})
    out = io.StringIO()
    run(config, Console("plain", out))
    assert wanted in out.getvalue()
    assert "train: 20 of 506 examples" in out.getvalue()
