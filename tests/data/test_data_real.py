"""Every real set of three tasks loads as it is; figures agree with the cards that came with the data."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from rlft_cli.data.survey import label_counts, overlaps, rows_of

DATA = os.environ.get("RLFT_DATA")
pytestmark = pytest.mark.skipif(not DATA, reason="RLFT_DATA names no folder with the real data sets")

TAGGED = (
    "btc_twitter",
    "cluener_zh",
    "mit_movie",
    "mit_restaurant",
    "sec_filings",
    "snips_slots",
    "weibo_zh",
    "wikineural_en",
    "wnut17",
)
TEXTS = ("ag_news", "clinc150", "sms_spam", "snips_intents", "sst2", "trec6", "waimai_zh")
DIALOGUES = ("dailydialog", "kdconv_zh", "sgd", "taskmaster4_coffee")
KINDS = {
    **dict.fromkeys(TAGGED, "tagged_words"),
    **dict.fromkeys(TEXTS, "labelled_text"),
    **dict.fromkeys(DIALOGUES, "dialogue"),
}


@pytest.mark.parametrize("name", KINDS)
def test_it_loads_without_repair_and_agrees_with_its_card(files, name: str) -> None:
    folder = Path(str(DATA)) / name
    card = (folder / "DATA.md").read_text()
    splits = files(dir=folder).load(KINDS[name])
    sizes = {key: int(size) for key, size in re.findall(r"^\| (train|dev|test) \| (\d+) \|", card, flags=re.MULTILINE)}
    assert {"train": len(splits.train), "dev": len(splits.dev), "test": len(splits.test)} == sizes
    hidden = re.search(r"(\d+) tokens have no visible character", card)
    kept = sum(int(n) for n in re.findall(r": (\d+) tokens without a visible", " ".join(splits.messages)))
    assert kept == (int(hidden[1]) if hidden else 0)
    if KINDS[name] == "tagged_words":
        entities = re.findall(r"^\| (train|dev|test) \| \d+ \| (\d+) \| (\d+) \|", card, flags=re.MULTILINE)
        rows = rows_of(splits)
        for split, tokens, count in entities:
            assert sum(len(row["words"]) for row in rows[split]) == int(tokens)
            assert label_counts("tagged_words", rows[split]).total() == int(count)


@pytest.mark.parametrize("name", TEXTS)
def test_overlap_agrees_with_its_card(files, name: str) -> None:
    card = (Path(str(DATA)) / name / "DATA.md").read_text()
    wanted = re.search(r"same lower-cased text\): dev (\d+) of \d+, test (\d+) of", card)
    assert wanted is not None
    found = overlaps("labelled_text", rows_of(files(dir=Path(str(DATA)) / name).load("labelled_text")))
    assert [found[0].count, found[1].count] == [int(wanted[1]), int(wanted[2])]


@pytest.mark.parametrize("name", ["clinc150", "cluener_zh"])
def test_large_sets_load_soon(files, name: str) -> None:
    start = time.process_time()
    files(dir=Path(str(DATA)) / name).load(KINDS[name])
    assert time.process_time() - start < 4  # about 1 s on an idle laptop core; loose for a shared one
