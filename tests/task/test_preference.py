"""Preferences as episodes: how replies are shown, what the model reads of them, and how comparisons are scored."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from rlft_cli.errors import RlftError, UsageError
from rlft_cli.model.vocabulary import LstmCodec
from rlft_cli.task.preference import Preference, PreferenceTask

SETTINGS = Preference(context_turns=2, max_prompt_tokens=12, max_reply_tokens=4)
WORDS = "a b c d e f g h i j k l m n o p q r s t u v w x y z"


def row(chosen: str | None, rejected: str | None, prompt: str = "a") -> dict[str, Any]:
    turns = [{"role": "user", "content": prompt}]
    return {"turns": turns, "chosen": chosen, "rejected": rejected, "origin": "train.jsonl:7"}


def bound(settings: Preference = SETTINGS) -> PreferenceTask:
    codec = LstmCodec.train([WORDS], max_vocabulary=100, min_count=1, lowercase=False, max_tokens=64)
    return settings.build(settings.fit([]), codec)


def text(task: PreferenceTask, ids: torch.Tensor) -> str:
    return task.codec.text(ids.tolist()).strip()


def test_the_order_of_replies_is_a_fair_coin_and_always_the_same() -> None:
    rows = [row(f"{a} {b}", f"{b} {c}") for a in "abcdef" for b in "ghijkl" for c in "mnopqr"]
    task, again = bound(), bound()
    better = [task.demonstration([n])[0].item() for n in task.add(rows)]
    assert 80 < sum(better) < 136  # 108 of 216, and four standard deviations of 7.3 around it
    assert better == [again.demonstration([n])[0].item() for n in again.add(rows)]
    swapped = [{**one, "chosen": one["rejected"], "rejected": one["chosen"]} for one in rows]
    other = [task.demonstration([n])[0].item() for n in task.add(swapped)]
    assert all(a != b for a, b in zip(better, other, strict=True))  # the places say nothing, the preference does


def test_what_the_model_reads() -> None:
    task = bound()
    ids = task.ask([row("b c", "d", prompt="x y z"), row("e", None)])
    seen = task.collate(ids)
    assert seen["reply_ids"].shape == (2, 2, 3)
    assert seen["reply_mask"].tolist() == [[[True] * 3, [True, True, False]], [[True, True, False], [False] * 3]]
    assert [text(task, reply) for reply in seen["reply_ids"][0]] == ["b c", "d"]  # asked: as it was given
    assert seen["reply_ids"][0, 0, 2] == task.codec.eos_id
    assert seen["prompt_mask"].sum(1).tolist() == [5, 3] and not seen["prompt_mask"][1, 0]  # padded on the left
    assert task.cost(ids) == [2 * 5 + 3 + 2, 3 + 2]
    assert task.contexts(ids) == [[{"role": "user", "content": "x y z"}], [{"role": "user", "content": "a"}]]


def test_a_single_reply_is_compared_with_nothing() -> None:
    task = bound()
    ids = task.add([row("b", None), row(None, "c")])
    assert task.references(ids) == ["first", "second"]
    assert [text(task, reply[0]) for reply in task.collate(ids)["reply_ids"]] == ["b", "c"]


def test_a_long_reply_is_judged_by_its_beginning() -> None:
    task = bound()
    seen = task.collate(task.ask([row("b c d e f", "g")]))
    assert text(task, seen["reply_ids"][0, 0]) == "b c d e" and task.left_out.cut_replies == 1


def test_scores_are_the_part_that_is_right() -> None:
    task = bound()
    ids = task.add([row("b", None, prompt=prompt) for prompt in ("a", "a", "c", "a")])
    told = task.decode(torch.tensor([[0], [1], [0], [0]]), torch.ones(4, 1, dtype=torch.bool), ids)
    expected = (("first", 0), ("second", 0), ("first", 1))
    assert told[:3] == [{"preferred": place, "prompt": n, "longer": None} for place, n in expected]
    found = task.score(told, ["first"] * 4, seed=1, resamples=50)
    assert set(found) == {"accuracy"} and found["accuracy"]["value"] == 0.75
    assert found["accuracy"]["low"] <= 0.75 <= found["accuracy"]["high"]
    worse = [{**one, "preferred": "second"} for one in told]
    assert task.compare(told, worse, ["first"] * 4, seed=1, resamples=50)["accuracy"]["value"] == 0.75


def test_scores_apart_by_which_reply_is_the_longer_one() -> None:
    task = bound()
    pairs = [("b c", "d"), ("d", "b c"), ("e f g", "h"), ("b", "c"), ("b", None)]
    ids = task.ask([row(chosen, rejected) for chosen, rejected in pairs])  # the better one is always the first
    told = task.decode(torch.tensor([[0], [1], [1], [1], [0]]), torch.ones(5, 1, dtype=torch.bool), ids)
    assert [one["longer"] for one in told] == ["first", "second", "first", None, None]
    found = task.score(told, ["first"] * 5, seed=1, resamples=50)
    assert {name: one["value"] for name, one in found.items()} == {
        "accuracy": 0.4,
        "accuracy_longer": 0.5,  # the first and the third
        "accuracy_shorter": 0.0,  # the second
    }
    right = [{**one, "preferred": "first"} for one in told]
    gains = task.compare(right, told, ["first"] * 5, seed=1, resamples=50)
    assert {name: one["value"] for name, one in gains.items()} == {
        "accuracy": 0.6,
        "accuracy_longer": 0.5,
        "accuracy_shorter": 1.0,
    }


def test_what_is_refused() -> None:
    with pytest.raises(RlftError, match=r"train\.jsonl:7: has no reply to judge"):
        bound().add([row(None, None)])
    with pytest.raises(RlftError, match="nothing to score"):
        bound().score([], [], 1, 10)
    with pytest.raises(UsageError, match="make 104 tokens, the model reads 64"):
        bound(replace(SETTINGS, max_prompt_tokens=100))
