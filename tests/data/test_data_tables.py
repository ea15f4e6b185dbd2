"""JSONL, JSON, CSV and Parquet: rows as written, every fault with its line."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlft_cli.data.tables import read_table
from rlft_cli.errors import RlftError


def read(tmp_path: Path, name: str, text: str | bytes):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return read_table(path, {".csv": "csv", ".tsv": "csv"}.get(path.suffix, "jsonl")).rows


def test_jsonl_lines_end_at_newlines_alone(tmp_path: Path) -> None:
    rows = read(tmp_path, "a.jsonl", '{"text": "a\u2028b\x85c"}\r\n\n{"text": "d"}\n')
    assert rows == [(1, {"text": "a\u2028b\x85c"}), (3, {"text": "d"})]


def test_a_json_array_knows_its_lines(tmp_path: Path) -> None:
    rows = read(tmp_path, "a.json", '[\n  {"text": "a",\n   "label": "x"},\n\n  {"text": "b"}\n]\n')
    assert [line for line, _ in rows] == [2, 5]
    assert read(tmp_path, "a.json", "[]") == []


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{"a": 1}\n{"a": }\n', r"a\.json:2: is not JSON: Expecting value at column 7"),
        ('{"a": 1}\n{"a": 1', r"a\.json:2: is not JSON"),
        ('{"a": 1}\n{"a": 1} {"b": 2}\n', r"a\.json:2: has more than one JSON value"),
        ('{"a": 1, "a": 2}\n', r"a\.json:1: the key 'a' stands twice"),
        ('{\n "a": 1\n}\n', r"a\.json:1: is not JSON.*one whole object a line"),
        ('"text"\n', r"a\.json:1: expected an object such as .*found 'text'"),
        ('[{"a": 1},\n{"a" 1}]', r"a\.json:2: is not JSON"),
        ('[{"a": 1}\n{"a": 1}]', r"a\.json:2: is not JSON: expected , or \]"),
        ('[{"a": 1},\n]', r"a\.json:2: is not JSON"),
        ('[{"a": 1},\n', r"a\.json:2: is not JSON"),
        ("[" * 100_000, r"a\.json:1: is (JSON nested too deeply|not JSON)"),
    ],
)
def test_what_does_not_parse_is_named_with_its_line(tmp_path: Path, text: str, wanted: str) -> None:
    with pytest.raises(RlftError, match=wanted):
        read(tmp_path, "a.json", text)


def test_invalid_utf8_in_jsonl(tmp_path: Path) -> None:
    with pytest.raises(RlftError, match=r"a\.jsonl:2: is not UTF-8: byte 0xff at byte offset 13"):
        read(tmp_path, "a.jsonl", b'{"a": "b"}\n{"\xff": 1}\n')


def test_csv_cells_with_line_ends_keep_their_first_line(tmp_path: Path) -> None:
    rows = read(tmp_path, "a.csv", 'text,label\n"one\ntwo",x\n\nNA,"y,z"\n')
    assert rows == [(2, {"text": "one\ntwo", "label": "x"}), (5, {"text": "NA", "label": "y,z"})]


def test_tsv_is_csv_with_tabs(tmp_path: Path) -> None:
    assert read(tmp_path, "a.tsv", "text\tlabel\na, b\tx\n") == [(2, {"text": "a, b", "label": "x"})]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("text,label\na,x\nb\n", r"a\.csv:3: has 1 columns, the header has 2 \(text, label\)"),
        ("text,text\na,x\n", r"a\.csv:1: the column 'text' stands twice"),
        ('text,label\n"a,x\nb,y\n', r"a\.csv:3: is not CSV: .*quotation mark"),
    ],
)
def test_csv_faults(tmp_path: Path, text: str, wanted: str) -> None:
    with pytest.raises(RlftError, match=wanted):
        read(tmp_path, "a.csv", text)


def test_parquet_rows_and_named_labels(tmp_path: Path) -> None:
    features = datasets.Features(
        {
            "tokens": datasets.List(datasets.Value("string")),
            "ner_tags": datasets.List(datasets.ClassLabel(names=["O", "B-X"])),
        }
    )
    made = datasets.Dataset.from_dict({"tokens": [["a", "b"]], "ner_tags": [[0, 1]]}, features=features)
    made.to_parquet(tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet", "parquet").rows == [(1, {"tokens": ["a", "b"], "ner_tags": ["O", "B-X"]})]


def test_plain_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "label": ["x"]}), tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet", "parquet").rows == [(1, {"text": "a", "label": "x"})]


def test_broken_parquet(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text(json.dumps({"no": "parquet"}))
    with pytest.raises(RlftError, match=r"a\.parquet: is not Parquet that can be read"):
        read_table(tmp_path / "a.parquet", "parquet")
