"""Translation, summarisation, generative answers and language modelling: what becomes an episode, and how it is scored."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from rlft_cli.errors import RlftError, UsageError
from rlft_cli.evaluation import Evaluator
from rlft_cli.model import Output
from rlft_cli.model.vocabulary import LstmCodec
from rlft_cli.task.language_modeling import LanguageModeling
from rlft_cli.task.qa_generative import QaGenerative
from rlft_cli.task.replies import ReplyTask
from rlft_cli.task.summarisation import Summarisation
from rlft_cli.task.translation import Translation

WORDS = "a b c d e f g h i j k l m n o p q r s t u v w x y z say : ."
SETTINGS: dict[str, Any] = {"keep": "begin", "max_prompt_tokens": 8, "max_reply_tokens": 4, "language": "en"}
TRANSLATION = Translation(instruction="say :", **SETTINGS)
MODELING = LanguageModeling(given_tokens=0, blocks="all", max_prompt_tokens=8, max_reply_tokens=3, language="en")


def codec() -> LstmCodec:
    return LstmCodec.train([WORDS, "一 二 三"], max_vocabulary=100, min_count=1, lowercase=False, max_tokens=64)


def bound(settings: Any) -> ReplyTask:
    task: ReplyTask = settings.build(settings.fit([]), codec())
    return task


def pair(source: str, target: str) -> dict[str, str]:
    return {"source": source, "target": target, "origin": "train.jsonl:7"}


def text(content: str) -> dict[str, str]:
    return {"text": content, "origin": "train.jsonl:7"}


def words(task: ReplyTask, ids: list[int]) -> str:
    return " ".join(task.codec.tokenizer.convert_ids_to_tokens(ids))  # type: ignore[attr-defined]


def prompts(task: ReplyTask, ids: list[int]) -> list[str]:
    return [words(task, task.collate([n])["prompt_ids"][0].tolist()) for n in ids]


def actions(task: ReplyTask, ids: list[int]) -> list[str]:
    action, mask = task.demonstration(ids)
    return [words(task, row[real].tolist()) for row, real in zip(action, mask, strict=True)]


def test_a_source_is_put_with_its_instruction_and_the_target_is_the_reply() -> None:
    task = bound(TRANSLATION)
    ids = task.add([pair(" a b ", "c d"), pair("e", "f g h i")])
    assert prompts(task, ids) == ["<user> say : a b <assistant>", "<user> say : e <assistant>"]
    assert actions(task, ids) == ["c d <eos>", "f g h i"] and task.references(ids) == ["c d", "f g h i"]
    assert task.left_out.cut_replies == 1
    bare = bound(replace(TRANSLATION, instruction=""))
    assert prompts(bare, bare.ask([pair("a", "")])) == ["<user> a <assistant>"]


@pytest.mark.parametrize(("keep", "kept"), [("begin", "a b c d"), ("end", "w x y z")])
def test_a_source_that_is_too_long_keeps_its_beginning_or_its_end(keep: Any, kept: str) -> None:
    task = bound(replace(TRANSLATION, keep=keep))
    ids = task.add([pair("a b c d e w x y z", "c"), pair("a b c d", "c")])
    assert prompts(task, ids) == [f"<user> say : {kept} <assistant>", "<user> say : a b c d <assistant>"]
    assert task.left_out.cut_prompts == 1


@pytest.mark.parametrize(("row", "what"), [(pair("\u200b", "a"), "source"), (pair("a", " "), "target")])
def test_a_side_without_visible_text_is_refused_by_its_line(row: dict[str, str], what: str) -> None:
    with pytest.raises(RlftError, match=rf"train\.jsonl:7: the {what} has no visible text"):
        bound(TRANSLATION).add([row])


def test_an_instruction_that_leaves_no_room_is_refused() -> None:
    task = bound(replace(TRANSLATION, instruction="say : say : say : say :"))
    with pytest.raises(
        UsageError, match=r"train\.jsonl:7: .*max_prompt_tokens=8 does not hold one letter.* take 10 tokens"
    ):
        task.add([pair("a", "b")])


@pytest.mark.parametrize("settings", [TRANSLATION, MODELING])
def test_lengths_that_the_model_does_not_read_are_refused(settings: Any) -> None:
    with pytest.raises(UsageError, match="the model reads 64; lower one of them by"):
        bound(replace(settings, max_prompt_tokens=70))


def test_every_token_of_a_text_is_written_exactly_once_after_what_stands_before_it() -> None:
    """Blocks of 3: a b c | d e f | g and the end. A text of 3 tokens has no room for its end."""
    task = bound(MODELING)
    ids = task.add([text("a b c d e f g"), text("x y z")])
    assert actions(task, ids) == ["a b c", "d e f", "g <eos>", "x y z"]
    assert prompts(task, ids) == ["<eos>", "<eos> a b c", "<eos> a b c d e f", "<eos>"]
    assert task.references(ids) == ["a b c", "d e f", "g", "x y z"]


def test_what_does_not_fit_before_a_block_is_its_beginning() -> None:
    task = bound(MODELING)
    ids = task.add([text("a b c d e f g h i j")])
    assert prompts(task, ids)[-1] == "b c d e f g h i"
    task.codec.prefix = task.codec.text_ids(["z"])[0]  # as of a tokenizer that begins every input so
    assert prompts(task, task.add([text("a b c d e f g h i j")])) == [
        "z",
        "z a b c",
        "z a b c d e f",
        "z c d e f g h i",
    ]


def test_a_continuation_is_the_block_after_what_is_given() -> None:
    task = bound(replace(MODELING, given_tokens=2, blocks="first"))
    ids = task.add([text("a b c d e f g"), text("a b"), text("a b c")])
    assert prompts(task, ids) == ["<eos> a b", "<eos> a b"] and actions(task, ids) == ["c d e", "c <eos>"]
    assert task.left_out.short_texts == 1
    with pytest.raises(RlftError, match=r"none of the 1 texts has more than task\.given_tokens=2 tokens"):
        bound(replace(MODELING, given_tokens=2)).add([text("a b")])


def test_a_text_is_gone_on_with_after_its_last_token() -> None:
    task = bound(MODELING)
    ids = task.ask([text("a b c d"), text("a b c d e f g h i j")])
    assert prompts(task, ids) == ["<eos> a b c d", "c d e f g h i j"] and task.left_out.cut_prompts == 1


def test_each_task_has_its_metrics_with_intervals_and_says_how_they_were_computed() -> None:
    answers = bound(QaGenerative(instruction="", **SETTINGS))
    found = answers.score(["the cat", "a dog barks"], ["Cat.", "a dog"], seed=1, resamples=20)
    assert found["exact_match"]["value"] == 0.5  # articles, case and marks are left out
    assert found["token_f1"]["value"] == pytest.approx((1 + 2 / 3) / 2)  # dog of "dog barks" and "dog": P 1/2, R 1
    assert found["token_f1"]["low"] <= found["token_f1"]["value"] <= found["token_f1"]["high"]
    summaries = bound(Summarisation(instruction="", **SETTINGS))
    found = summaries.score(["a b c"], ["a b d"], seed=1, resamples=20)
    assert found["rouge_1"]["value"] == pytest.approx(2 / 3) and found["rouge_2"]["value"] == pytest.approx(1 / 2)
    assert {"exact_match", "token_f1", "bleu"} <= set(answers.signatures()) and "rouge_2" in summaries.signatures()
    for task in (answers, summaries, bound(TRANSLATION)):
        assert task.primary in task.score(["a"], ["a"], seed=1, resamples=5)


def test_chinese_is_scored_by_characters() -> None:
    task = bound(replace(TRANSLATION, language="zh"))
    assert "tok:zh" in task.signatures()["bleu"]
    same = task.score(["我喜欢猫。"], ["我喜欢猫。"], seed=1, resamples=5)
    near = task.score(["我喜欢狗。"], ["我喜欢猫。"], seed=1, resamples=5)
    assert same["bleu"]["value"] == pytest.approx(100) and near["rouge_l"]["value"] == pytest.approx(3 / 4)
    english = bound(TRANSLATION).score(["我喜欢狗。"], ["我喜欢猫。"], seed=1, resamples=5)
    assert english["rouge_l"]["value"] == 0 and near["reply_length"]["value"] == 5


class Uniform(nn.Module):
    """Gives every token the same chance."""

    width, actions = 0, 40

    def forward(self, observation: dict[str, torch.Tensor], action: torch.Tensor) -> Output:
        return Output(scores=torch.zeros(*action.shape, 40), value=None)

    def begin(self, observation: dict[str, torch.Tensor], samples: int) -> int:
        return len(observation["id"]) * samples

    def step(self, cache: int, state: Any) -> tuple[Output, int]:
        return Output(scores=torch.zeros(cache, 40), value=None), cache


def test_perplexity_is_that_of_a_uniform_guess_and_likelihood_its_negative_logarithm() -> None:
    task = bound(MODELING)
    ids = task.add([text("a b c d"), text("a b")])

    def none(action: torch.Tensor, mask: torch.Tensor, batch: Any) -> torch.Tensor:
        return torch.zeros(action.shape)

    evaluator = Evaluator(
        task=task,
        device=torch.device("cpu"),
        autocast=torch.no_grad,
        batch_tokens=100,
        resamples=5,
        seed=0,
    )
    metrics = evaluator.evaluate(Uniform(), ids, none).metrics  # type: ignore[arg-type]  # a reward of no decisions
    assert metrics["perplexity"] == pytest.approx({"value": 40, "low": 40, "high": 40})
    assert metrics[task.primary]["value"] == pytest.approx(-math.log(40))
