"""Rows of preferences: pairs and judged replies, prompts as labelled lines or as turns, and what is refused."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from rlft_cli.commands.data import report
from rlft_cli.config import config_folder
from rlft_cli.data import Splits
from rlft_cli.data.preference import prompt_turns
from rlft_cli.data.survey import Limits, compared, contradictions, rows_of
from rlft_cli.errors import RlftError, UsageError
from rlft_cli.model.vocabulary import LstmCodec
from rlft_cli.pipeline import build

PAIR = {"prompt": "User: tea?", "chosen": "yes please", "rejected": "it rains"}


def read(folder: Path, *rows: dict[str, Any], kind: str = "preference", **keys: Any) -> Splits:
    """What data=files makes of the rows, which are all splits."""
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = OmegaConf.to_container(OmegaConf.load(config_folder() / "data" / "files.yaml"))
    given = {"train": str(path), "dev": str(path), "test": str(path), **keys}
    splits: Splits = build({**files, **given}).load(kind)  # type: ignore[dict-item]
    return splits


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        ("User: a\nAssistant: b\nUser: c", ["user a", "assistant b", "user c"]),
        ("Assistant: a\nUser: b", ["assistant a", "user b"]),
        ("User: a\nmore of it\n\nAssistant: b", ["user a\nmore of it\n", "assistant b"]),
        ("User: a\nUser: b", ["user a\nb"]),  # one speaker, one turn
        (
            "Assistant (API call): {}\nAPI: 5\nAssistant: five",
            ["assistant (API call) {}", "user API: 5", "assistant five"],
        ),
        ("Human: a\nAI: b", ["user a", "assistant b"]),
        ("what is this: a test", ["user what is this: a test"]),
    ],
)
def test_turns_of_a_prompt(text: str, turns: list[str]) -> None:
    found, _ = prompt_turns(text)
    assert [f"{turn['role']} {turn['content']}" for turn in found] == turns


def test_pairs_and_judged_replies(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "tea?"}]
    rows = [
        PAIR,
        {"prompt": turns, "chosen": [{"role": "assistant", "content": "yes"}], "rejected": "no"},
        {"prompt": "User: tea?", "completion": "Assistant: yes", "label": True},
        {"prompt": "User: tea?", "completion": "no", "label": 0},
    ]
    found = read(tmp_path, *rows).train.to_list()
    assert [row["turns"] for row in found] == [turns] * 4
    assert [(row["chosen"], row["rejected"]) for row in found] == [
        ("yes please", "it rains"), ("yes", "no"), ("yes", None), (None, "no"),
    ]  # fmt: skip
    assert found[2]["origin"] == "rows.jsonl:3"


def test_a_speaker_is_taken_from_a_reply_only_where_the_prompt_names_speakers(tmp_path: Path) -> None:
    found = read(tmp_path, {**PAIR, "prompt": "plain", "chosen": "User: is a word"}).train.to_list()
    assert found[0]["chosen"] == "User: is a word"


def test_pairs_read_as_dialogues_end_with_the_preferred_reply(tmp_path: Path) -> None:
    (found,) = read(tmp_path, PAIR, kind="dialogue").train.to_list()
    assert found["turns"] == [{"role": "user", "content": "tea?"}, {"role": "assistant", "content": "yes please"}]
    assert found["rejected"] == "it rains"


def test_the_pairs_of_a_prompt_stay_in_one_split(tmp_path: Path) -> None:
    rows = [{**PAIR, "prompt": f"User: {n}?", "chosen": f"yes {k}"} for n in range(8) for k in range(3)]
    splits = read(tmp_path, *rows, dev=None, dev_fraction=0.25)
    dev = {row["turns"][0]["content"] for row in splits.dev}
    assert len(splits.dev) == 6 and not dev & {row["turns"][0]["content"] for row in splits.train}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**PAIR, "prompt": ""}, r"rows\.jsonl:1: the prompt is empty; correct it, or data\.repair=true"),
        ({**PAIR, "prompt": 3}, "prompt is 3, expected a text, or a list of turns"),
        ({"prompt": "a", "chosen": "b"}, "reads prompt, chosen, rejected .two replies.* found: prompt, chosen"),
        ({"prompt": "a", "completion": "b", "label": "good"}, "label is 'good', expected true"),
        ({**PAIR, "chosen": None}, "chosen is None, expected a text"),
        ({**PAIR, "chosen": " "}, "the chosen reply is empty; correct it, or data.repair=true"),
        ({**PAIR, "rejected": "yes please"}, "chosen and rejected are the same reply"),
        ({**PAIR, "rejected": "\ud800"}, "half of a surrogate pair"),
    ],
)
def test_what_is_refused(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(RlftError, match=message):
        read(tmp_path, row)


def test_repair_leaves_equal_and_empty_replies_out_and_counts_them(tmp_path: Path) -> None:
    splits = read(tmp_path, PAIR, {**PAIR, "rejected": "yes please"}, {**PAIR, "chosen": ""}, repair=True)
    assert len(splits.train) == 1
    assert any("repaired 1 times: pairs of two equal replies are left out" in message for message in splits.messages)


def test_rows_of_another_task_are_named(tmp_path: Path) -> None:
    with pytest.raises(RlftError, match="Rows with prompt, chosen, rejected fit task=preference"):
        read(tmp_path, PAIR, kind="labelled_text")


def test_the_report_says_what_length_alone_decides(tmp_path: Path) -> None:
    rows = [
        PAIR,  # 10 letters against 8
        {**PAIR, "chosen": "no"},
        {**PAIR, "chosen": "it pours"},  # as long as the other
        {"prompt": "User: tea?", "completion": "yes", "label": True},
        {"prompt": "User: tea?", "completion": "no", "label": False},
    ]
    splits = read(tmp_path, *rows)
    size = compared(splits.train.to_list())
    assert (size.pairs, size.good, size.bad, size.longer) == (3, 1, 1, 0.5)
    assert size.chosen.count == 4 and size.chosen.mean == (2 + 1 + 2 + 1) / 4
    limits = Limits(window_tokens=None, windows=None, prompt_tokens=8, reply_tokens=3, context_turns=2)
    texts = [text for row in splits.train for text in (row["chosen"], row["rejected"], "tea?") if text]
    codec = LstmCodec.train(texts, max_vocabulary=50, min_count=1, lowercase=False, max_tokens=64)
    found = report(splits, "preference", limits, codec)
    assert "0 comparisons are decided both ways" in found.notes
    assert found.tables[1].rows[0] == ["train", 3, 1, 1, 1.5, 1.8, 0.5]
    assert ["train replies", 2.6, 3, 3, 3, 0] in found.tables[2].rows  # words and an end mark


def by_length(rows: Sequence[dict[str, Any]]) -> Counter[tuple[bool, int]]:
    """How many rows there are, single replies apart, of each difference of words between the preferred and the other reply."""
    sizes = [(len((row["chosen"] or "").split()), len((row["rejected"] or "").split())) for row in rows]
    return Counter((0 in pair, pair[0] - pair[1]) for pair in sizes)


def test_of_matched_comparisons_length_tells_nothing(tmp_path: Path) -> None:
    chance = random.Random(1)
    said = [" ".join("w" for _ in range(chance.randint(1, 6))) for _ in range(200)]
    rows = [
        {
            "prompt": f"User: {n}?",
            "chosen": f"a {' '.join(one.split()[: chance.randint(1, 4)])}",
            "rejected": f"b {one}",
        }
        for n, one in enumerate(said)
    ]
    rows += [{"prompt": f"User: {n}?", "completion": one, "label": n % 3 > 0} for n, one in enumerate(said[:90])]
    splits = read(tmp_path, *rows, match_lengths=True)
    before, kept = by_length(splits.dev.to_list()), by_length(splits.train.to_list())
    assert before.total() == 290  # what is held out stays as it is
    for single, more in before:
        assert kept[single, more] == min(before[single, more], before[single, -more])
    assert 90 < kept.total() < before.total()
    assert f"train: {kept.total()} of 290 comparisons, in which length tells nothing" in " ".join(splits.messages)
    again = read(tmp_path, *rows[::-1], match_lengths=True).train.to_list()
    assert {row["turns"][0]["content"] for row in again} == {row["turns"][0]["content"] for row in splits.train}
    places = [rows.index(_typed(row)) for row in splits.train.to_list()]
    assert places == sorted(places)
    assert len(read(tmp_path, *rows, match_lengths=True, max_train=20).train) == 20


def _typed(row: dict[str, Any]) -> dict[str, Any]:
    """A canonical row as it stands in the file."""
    prompt = f"User: {row['turns'][0]['content']}"
    if row["chosen"] and row["rejected"]:
        return {"prompt": prompt, "chosen": row["chosen"], "rejected": row["rejected"]}
    return {"prompt": prompt, "completion": row["chosen"] or row["rejected"], "label": row["chosen"] is not None}


def test_what_is_evaluated_is_not_matched(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(PAIR) + "\n" + json.dumps({**PAIR, "chosen": "no"}) + "\n")
    files = OmegaConf.to_container(OmegaConf.load(config_folder() / "data" / "files.yaml"))
    given = build({**files, "test": str(path), "match_lengths": True})  # type: ignore[dict-item]
    assert len(given.only("test").load("preference").test) == 2


def test_where_nothing_can_be_matched(tmp_path: Path) -> None:
    with pytest.raises(RlftError, match="in no two comparisons is the preferred reply once the longer"):
        read(tmp_path, {**PAIR, "chosen": "yes"}, match_lengths=True)
    with pytest.raises(UsageError, match="is for comparisons of two replies"):
        read(tmp_path, PAIR, kind="dialogue", match_lengths=True)


def test_comparisons_that_contradict_one_another_are_found(tmp_path: Path) -> None:
    turned = {**PAIR, "chosen": PAIR["rejected"], "rejected": PAIR["chosen"]}
    splits = read(tmp_path, PAIR, turned, {**turned, "prompt": "User: milk?"})
    assert list(contradictions("preference", rows_of(splits)).values()) == [["yes please", "it rains"]]


@pytest.mark.skipif("RLFT_DATA" not in os.environ, reason="RLFT_DATA names no folder of data sets")
@pytest.mark.parametrize(
    ("name", "stem", "pairs", "single"),
    [
        ("dailydialog_pp_pref", "", 470, 0),
        ("taskmaster4_reward", "", 79, 0),
        ("taskmaster4_reward", "unpaired_", 0, 379),
    ],
)
def test_real_preferences(name: str, stem: str, pairs: int, single: int) -> None:
    folder = Path(os.environ["RLFT_DATA"]) / name
    files = OmegaConf.to_container(OmegaConf.load(config_folder() / "data" / "files.yaml"))
    given = {split: str(folder / f"{stem}{split}.jsonl") for split in ("train", "dev", "test")}
    found = build({**files, **given, "repair": True}).load("preference").dev.to_list()  # type: ignore[dict-item]
    size = compared(found)
    assert (size.pairs, size.good + size.bad) == (pairs, single)
    turns = [turn for row in found for turn in row["turns"]]
    assert {turn["role"] for turn in turns} == {"user", "assistant"} and all(turn["content"].strip() for turn in turns)
    assert sum(row["turns"][-1]["role"] == "user" for row in found) > 0.9 * len(found)
