"""Pairs of a source and a target, questions with answers, plain text: what loads, what is refused, which language it is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rlft_cli.data.writing import is_chinese
from rlft_cli.errors import RlftError


def jsonl(*rows: object) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("kind", "row", "given", "source"),
    [
        ("parallel_text", {"source": "ja", "target": "yes"}, {}, "ja"),
        ("text_summary", {"dialogue": "ja", "summary": "yes"}, {}, "ja"),
        ("question_answer", {"source": "ja", "target": "yes", "answer_start": 0}, {}, "ja"),
        ("question_answer", {"question": "ja?", "answer": "yes", "context": "c"}, {}, "question: ja? context: c"),
        ("question_answer", {"question": "ja?", "answer": "yes"}, {}, "question: ja?"),
        ("parallel_text", {"de": "ja", "en": "yes"}, {"source_column": "de", "target_column": "en"}, "ja"),
        (
            "parallel_text",
            {"translation": {"de": "ja", "en": "yes"}},
            {"source_column": "translation.de", "target_column": "translation.en"},
            "ja",
        ),
    ],
)
def test_what_loads(files, folder, kind: str, row: dict[str, Any], given: dict[str, str], source: str) -> None:
    splits = files(dir=folder(".jsonl", jsonl(row), None), test=folder(".jsonl", jsonl(row)) / "test.jsonl", **given)
    rows = splits.load(kind).train
    assert rows.to_list() == [{"source": source, "target": "yes", "origin": "train.jsonl:1"}]


@pytest.mark.parametrize(
    ("kind", "row", "wanted"),
    [
        ("parallel_text", {"source": "ja"}, r"no column target; found: source\. .*data\.target_column=NAME"),
        ("parallel_text", {"soruce": "ja", "target": "a"}, r"no column source; .*data\.source_column=soruce"),
        ("text_summary", {"turns": []}, r"Rows with turns fit task=dialogue"),
        ("parallel_text", {"source": ["ja"], "target": "a"}, r"source is \['ja'\], expected a text"),
        ("question_answer", {"question": "a", "context": 3, "answer": "b"}, r"context is 3, expected a text"),
        ("parallel_text", {"source": "ja", "target": " "}, r"the target is empty; .*data\.repair=true: pairs with an"),
        ("plain_text", {"text": ""}, r"the text is empty; .*data\.repair=true"),
        ("plain_text", {"content": "a"}, r"no column text; found: content"),
    ],
)
def test_what_is_refused_by_its_line(files, folder, kind: str, row: dict[str, Any], wanted: str) -> None:
    good = {"source": "x", "target": "y", "text": "z", "question": "q", "context": "c", "answer": "a"}
    with pytest.raises(RlftError, match=r"train\.jsonl:2: .*" + wanted):
        files(dir=folder(".jsonl", jsonl(good, row), jsonl(good), jsonl(good))).load(kind)


def test_an_empty_side_is_left_out_where_that_is_wanted(files, folder) -> None:
    rows = jsonl({"source": "a", "target": ""}, {"source": "b", "target": "c"})
    splits = files(dir=folder(".jsonl", rows), repair=True).load("parallel_text")
    assert splits.train["source"] == ["b"]
    assert "train.jsonl: repaired 1 times: pairs with an empty side are left out" in splits.messages


def test_plain_text_is_a_text_a_line(files, folder) -> None:
    """As .txt, in any format with a text, and never as the lines of another kind of rows."""
    where = folder(".txt", "one two\r\n\nthree\n")
    splits = files(dir=where).load("plain_text")
    assert splits.train.to_list() == [
        {"text": "one two", "origin": "train.txt:1"},
        {"text": "three", "origin": "train.txt:3"},
    ]
    assert files(dir=where, format="text").load("plain_text").train["text"] == ["one two", "three"]
    with pytest.raises(RlftError, match=r"lines of plain text \(data\.format=text\), which fit task=language_modeling"):
        files(dir=where, format="text").load("labelled_text")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("我喜欢猫。", True),
        ("我用 Python 写", True),
        ("the sign says 出口 in the hall", False),
        ("cats", False),
        ("123", False),
    ],
)
def test_which_texts_are_chinese(text: str, wanted: bool) -> None:
    assert is_chinese(text) == wanted


@pytest.mark.parametrize(("language", "other"), [("en", "zh"), ("zh", "en")])
def test_a_language_that_the_targets_are_not_in_is_said(files, folder, language: str, other: str) -> None:
    """What is read does not count: a translation from Chinese is written in English."""
    right, wrong = ("yes", "是的") if language == "en" else ("是的", "yes")
    where = folder(".jsonl", jsonl({"source": right, "target": wrong}, {"source": "x", "target": wrong}))
    messages = files(dir=where, language=language).load("parallel_text").messages
    assert any(f"type data.language={other}" in message for message in messages)
    where = folder(".jsonl", jsonl({"source": wrong, "target": right}, {"source": wrong, "target": right}))
    assert files(dir=where, language=language).load("parallel_text").messages == []
