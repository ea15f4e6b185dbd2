"""Dialogue as episodes: which replies are asked for, what the model reads of them, when they end, what is refused."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rlft_cli.errors import RlftError, UsageError
from rlft_cli.model.vocabulary import LstmCodec
from rlft_cli.task.dialogue import Dialogue
from rlft_cli.task.replies import ReplyTask

SETTINGS = Dialogue(context_turns=3, max_prompt_tokens=12, max_reply_tokens=4, replies="all", language="en", stop=[])
WORDS = "a b c d e f g h i j k l m n o p q r s t u v w x y z"


def row(*contents: str, first: str = "user", origin: str = "train.jsonl:7") -> dict[str, Any]:
    roles = ["user", "assistant"] if first == "user" else ["assistant", "user"]
    return {"turns": [{"role": roles[n % 2], "content": text} for n, text in enumerate(contents)], "origin": origin}


def bound(settings: Dialogue = SETTINGS) -> ReplyTask:
    codec = LstmCodec.train([WORDS], max_vocabulary=100, min_count=1, lowercase=False, max_tokens=64)
    return settings.build(settings.fit([]), codec)


def prompt_text(task: ReplyTask, number: int) -> str:
    observation = task.collate([number])
    return " ".join(task.codec.tokenizer.convert_ids_to_tokens(observation["prompt_ids"][0].tolist()))  # type: ignore[attr-defined]


def test_every_assistant_turn_that_answers_something_is_an_episode() -> None:
    task = bound()
    assert task.labels == [] and task.primary == "rouge_l"
    ids = task.add([row("a", "b", "c", "d", "e"), row("f"), row("g", "h", "i", first="assistant")])
    assert task.references(ids) == ["b", "d", "i"] and ids == [0, 1, 2]
    assert prompt_text(task, 1) == "<user> a <assistant> b <eos> <user> c <assistant>"
    assert prompt_text(task, 2) == "<assistant> g <eos> <user> h <assistant>"
    assert task.add([]) == []


def test_or_only_the_last_one() -> None:
    task = bound(replace(SETTINGS, replies="last"))
    assert task.references(task.add([row("a", "b", "c", "d", "e"), row("f")])) == ["d"]


def test_the_prompt_holds_the_last_turns_that_fit() -> None:
    task = bound()
    task.add([row("a", "b", "c", "d", "e", "f")])
    assert prompt_text(task, 2) == "<user> c <assistant> d <eos> <user> e <assistant>"  # context_turns 3
    task.add([row("a b c d e f g h", "i", "j k", "l")])
    assert prompt_text(task, 4) == "<assistant> i <eos> <user> j k <assistant>"  # the first turn does not fit 12 tokens
    assert (task.left_out.dropped_turns, task.left_out.cut_prompts) == (1, 0)


def test_a_turn_that_is_too_long_keeps_its_end_and_the_template() -> None:
    task = bound()
    task.add([row(WORDS, "a")])
    assert prompt_text(task, 0) == "<user> q r s t u v w x y z <assistant>"
    assert task.left_out.cut_prompts == 1


def said(*turns: tuple[str, str]) -> dict[str, Any]:
    return {"turns": [{"role": role, "content": text} for role, text in turns], "origin": "train.jsonl:7"}


def test_a_system_turn_stays_whatever_is_dropped() -> None:
    """It is no turn of context, and what follows it alone answers nothing."""
    task = bound()
    turns = [
        ("system", "s"),
        ("assistant", "h"),
        ("user", "a"),
        ("assistant", "b"),
        ("user", "c d"),
        ("assistant", "e"),
    ]
    ids = task.add([said(*turns)])
    assert task.references(ids) == ["b", "e"]
    assert prompt_text(task, 1) == "<user> s <user> a <assistant> b <eos> <user> c d <assistant>"
    task.add([said(turns[0], turns[2], turns[3], ("user", "i j k l m"), ("assistant", "n"))])
    assert prompt_text(task, 3) == "<user> s <assistant> b <eos> <user> i j k l m <assistant>"  # 12 tokens
    task.add([said(("system", "s t u v"), ("user", WORDS), ("assistant", "n"))])
    assert prompt_text(task, 4) == "<user> s t u v <user> v w x y z <assistant>"


def test_a_template_that_wants_the_user_first_loses_the_turn_before() -> None:
    """Turns cut off on the left begin with the assistant's; a dialogue of which nothing else is left is refused."""
    task = bound(replace(SETTINGS, context_turns=2))
    ids_of = task.codec.chat_ids

    def strict(turns: Any) -> list[int]:
        if turns[0]["role"] == "assistant":
            raise RlftError("the chat template does not take these turns (roles must alternate)")
        return ids_of(turns)

    task.codec.chat_ids = strict  # type: ignore[method-assign]
    task.add([row("a", "b", "c", "d")])
    assert prompt_text(task, 1) == "<user> c <assistant>" and task.left_out.dropped_turns == 1
    with pytest.raises(RlftError, match=r"train\.jsonl:7: the chat template does not take these turns"):
        task.ask([row("a", first="assistant")])


def test_a_reply_of_which_no_token_can_be_written_teaches_nothing() -> None:
    """It is not silence that is to be learned; its reference is scored all the same."""
    task = bound()
    ids = task.add([row("a", "unseen"), row("a", "b")])
    action, mask = task.demonstration(ids)
    assert mask.tolist() == [[False, False], [True, True]] and task.references(ids) == ["unseen", "b"]
    assert task.left_out.silent_replies == 1 and task.details([], [])["left_out"]["silent_replies"] == 1
    action, mask = task.demonstration(ids[:1])
    assert action.shape == (1, 1) and not mask.any() and task.cost(ids[:1]) == [3]


def test_a_reply_is_cut_at_the_horizon_and_its_reference_is_not() -> None:
    task = bound()
    ids = task.add([row("a", "b c d"), row("a", "b c d e"), row("a", "b")])
    action, mask = task.demonstration(ids)
    eos = task.codec.eos_id
    assert action.shape == (3, 4) and action.dtype == torch.int64
    assert (action == eos).tolist() == [[False] * 3 + [True], [False] * 4, [False, True, False, False]]
    assert mask.tolist() == [[True] * 4, [True] * 4, [True, True, False, False]]
    assert task.truncated(action, mask).tolist() == [False, True, False]
    assert task.references(ids) == ["b c d", "b c d e", "b"]
    assert task.decode(action, mask, ids) == ["b c d", "b c d e", "b"]
    assert task.left_out.cut_replies == 1


def test_decoding_stops_at_the_end_and_at_the_mask() -> None:
    task = bound()
    a, b = task.codec.text_ids(["a b"])[0]
    action = torch.tensor([[a, task.codec.eos_id, b], [a, b, a], [task.codec.eos_id, a, a]])
    mask = torch.tensor([[True] * 3, [True, True, False], [True] * 3])
    assert task.decode(action, mask, [0, 0, 0]) == ["a", "a b", ""]


def test_ids_that_no_policy_may_produce_are_not_demonstrated() -> None:
    task = bound()
    ids = task.add([row("a", "b unseen c")])
    action, mask = task.demonstration(ids)
    assert task.decode(action, mask, ids) == ["b c"] and task.left_out.unknown_tokens == 1
    assert task.codec.unk_id not in action[mask]
    assert task.references(ids) == ["b unseen c"]


def test_ordinary_words_that_serve_as_pad_and_unk_are_demonstrated() -> None:
    codec = LstmCodec.train([WORDS], max_vocabulary=100, min_count=1, lowercase=False, max_tokens=64)
    codec.pad_id, codec.unk_id = codec.text_ids(["a b"])[0]  # as of a tokenizer without such marks (GPT-2)
    task = SETTINGS.build([], codec)
    ids = task.add([row("a", "a b c"), row("a", "c")])
    action, mask = task.demonstration(ids)
    assert task.decode(action, mask, ids) == ["a b c", "c"] and task.left_out.unknown_tokens == 0


def test_observation_is_padded_on_the_left_and_masked_by_length() -> None:
    task = bound()
    ids = task.add([row("a b c", "d"), row("e", "f")])
    observation = task.collate([ids[1], ids[0]])
    assert set(observation) == {"id", "prompt_ids", "prompt_mask"}
    assert observation["id"].tolist() == [1, 0]
    assert observation["prompt_mask"].tolist() == [[False, False, True, True, True], [True] * 5]
    assert observation["prompt_ids"][0, :2].tolist() == [task.codec.pad_id] * 2
    assert task.cost(ids) == [7, 5]


def test_an_episode_ends_at_eos_or_at_the_horizon() -> None:
    task = bound()
    observation = task.collate(task.add([row("a", "b")]))
    state = task.reset(observation, 2)
    assert (state.t, state.previous.tolist(), state.length.tolist()) == (0, [-1, -1], [4, 4])
    assert not state.done.any()
    word, eos = task.codec.text_ids(["a"])[0][0], task.codec.eos_id
    done = []
    for action in ([word, word], [eos, word], [word, word], [word, word]):
        state = task.step(state, torch.tensor(action))
        done.append(state.done.tolist())
    assert done == [[False, False], [True, False], [True, False], [True, True]]
    assert state.t == 4 and state.previous.tolist() == [word, word]


def test_a_question_without_an_answer_can_be_asked() -> None:
    task = bound()
    ids = task.ask([row("a"), row("a", "b", "c")])
    assert prompt_text(task, ids[0]) == "<user> a <assistant>"
    assert prompt_text(task, ids[1]) == "<user> a <assistant> b <eos> <user> c <assistant>"
    assert task.references(ids) == ["", ""] and task.cost(ids)[0] == 4


@pytest.mark.parametrize("content", ["", "  ", "\u200b\u0007"])
@pytest.mark.parametrize(("place", "who"), [(0, "user"), (1, "assistant")])
def test_a_turn_without_visible_text_is_refused_by_its_line(content: str, place: int, who: str) -> None:
    contents = ["a", "b"]
    contents[place] = content
    with pytest.raises(RlftError, match=rf"train.jsonl:7: turn {place + 1} \({who}\) has no visible text"):
        bound().add([row(*contents)])


def test_a_dialogue_without_turns_is_refused() -> None:
    with pytest.raises(RlftError, match=r"dev\.jsonl:3: the dialogue has no turns"):
        bound().add([row(origin="dev.jsonl:3")])


def test_lengths_that_the_model_does_not_read_are_refused() -> None:
    with pytest.raises(UsageError, match="make 104 tokens, the model reads 64; lower one of them by 40"):
        bound(replace(SETTINGS, max_prompt_tokens=100))


def test_a_limit_below_the_template_is_refused() -> None:
    task = bound(replace(SETTINGS, max_prompt_tokens=2))
    with pytest.raises(UsageError, match=r"task\.max_prompt_tokens=2 does not hold one letter.* takes 2 tokens"):
        task.add([row("a", "b")])


def test_score_reports_every_metric_with_its_interval() -> None:
    metrics = bound().score(["a b c", "d e"], ["a b c", "d f"], seed=1, resamples=20)
    assert {"bleu", "rouge_l", "chrf", "distinct_1", "distinct_2", "reply_length"} <= set(metrics)
    assert metrics["rouge_l"]["low"] <= metrics["rouge_l"]["value"] <= metrics["rouge_l"]["high"]
    assert metrics["rouge_l"]["value"] == pytest.approx(0.75)  # 1 and, of two words each, one common: 1/2
    assert "13a" in bound().signatures()["bleu"]
    assert "zh" in bound(replace(SETTINGS, language="zh")).signatures()["bleu"]


@pytest.mark.skipif("RLFT_DATA" not in os.environ, reason="RLFT_DATA names no folder of data sets")
@pytest.mark.parametrize(("name", "language"), [("taskmaster4_coffee", "en"), ("kdconv_zh", "zh")])
def test_real_dialogues_become_episodes(name: str, language: Any) -> None:
    file = Path(os.environ["RLFT_DATA"]) / name / "dev.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines()[:60]
    rows = [{**json.loads(line), "origin": f"{file.name}:{n}"} for n, line in enumerate(lines, start=1)]
    texts = [turn["content"] for one in rows for turn in one["turns"]]
    codec = LstmCodec.train(texts, max_vocabulary=5000, min_count=1, lowercase=False, max_tokens=512)
    settings = replace(SETTINGS, max_prompt_tokens=64, max_reply_tokens=60, language=language)
    task = settings.build([], codec)
    ids = task.add(rows)
    assert len(ids) > 60 and max(map(len, task.collate(ids)["prompt_ids"])) <= 64
    action, mask = task.demonstration(ids)
    decoded, references = task.decode(action, mask, ids), task.references(ids)
    whole = [n for n in range(len(ids)) if not task.truncated(action, mask)[n]]
    same = [decoded[n].replace(" ", "") == references[n].replace(" ", "") for n in whole]
    assert sum(same) > 0.97 * len(same) and task.left_out.unknown_tokens == 0


# -- stop strings ----------------------------------------------------------------------------------------------------


def taken(task: ReplyTask, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Actions and mask of stepping along texts (``.`` is eos) until every episode is done."""
    ids = [
        [task.codec.eos_id if word == "." else task.codec.text_ids([word])[0][0] for word in t.split()] for t in texts
    ]
    prompts = task.ask([row("a") for _ in texts])
    state = task.reset(task.collate(prompts), 1)
    action, mask = [], []
    while not bool(state.done.all()):
        now = torch.tensor([reply[min(state.t, len(reply) - 1)] for reply in ids])
        action.append(now)
        mask.append(~state.done)
        state = task.step(state, now)
    return torch.stack(action, 1), torch.stack(mask, 1)


def test_a_stop_string_ends_a_reply_and_is_not_part_of_it() -> None:
    task = bound(replace(SETTINGS, max_reply_tokens=6, stop=["c d", "z"]))
    action, mask = taken(task, ["a c d b b b", "d c d d d d", "a b .", "c a d c b d", "z", "a b c d"])
    assert mask.sum(1).tolist() == [3, 3, 3, 6, 1, 4]
    assert task.decode(action, mask, list(range(6))) == ["a", "d", "a b", "c a d c b d", "", "a b"]
    assert task.truncated(action, mask).tolist() == [False, False, False, True, False, False]
    assert task.text(task.codec.text_ids(["a c d"])[0]).strip() == "a"


def test_what_comes_after_the_end_of_a_reply_does_not_stop_it() -> None:
    task = bound(replace(SETTINGS, max_reply_tokens=6, stop=["c d"]))
    action, mask = taken(task, ["c . d", "a b a b a b"])
    assert mask.sum(1).tolist() == [2, 6] and task.truncated(action, mask).tolist() == [False, True]


def test_a_reference_is_learned_up_to_its_stop_string() -> None:
    task = bound(replace(SETTINGS, max_reply_tokens=6, stop=["c d"]))
    ids = task.add([row("a", "b c d e"), row("a", "b c")])
    action, mask = task.demonstration(ids)
    words = [task.codec.text(reply[real].tolist()) for reply, real in zip(action, mask, strict=True)]
    assert [text.strip() for text in words] == ["b c d", "b c"]
    assert mask.sum(1).tolist() == [3, 3], "eos is learned where no stop string stands for it"
    assert task.references(ids) == ["b c d e", "b c"], "scored whole"
    assert task.truncated(action, mask).tolist() == [False, False]


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(UsageError, match="empty text"):
        bound(replace(SETTINGS, stop=["a", ""]))
