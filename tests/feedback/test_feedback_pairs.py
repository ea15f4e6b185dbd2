"""Which feedback goes with what: refused before torch is imported, with what to type instead."""

from __future__ import annotations

import pytest

from rlft_cli.compose import compose
from rlft_cli.config import check, config_folder, is_text_key
from rlft_cli.options import Library
from rlft_cli.overrides import parse

LIBRARY = Library([config_folder()])


def faults(words: str) -> list[str]:
    options: dict[str, list[str]] = {key: [] for key in LIBRARY.root("train").values}
    options |= {group: list(LIBRARY.options.get(group, {})) for group in LIBRARY.groups("train")}
    overrides, problems = parse(
        words.split(), multirun=False, is_text=lambda key: is_text_key(LIBRARY, "train", key), options=options
    )
    assert problems == []
    composed = compose(LIBRARY, "train", [(override, override.values[0]) for override in overrides])
    assert composed is not None
    return check(LIBRARY, "train", composed)


@pytest.mark.parametrize(
    "words",
    [
        "feedback=span",
        "feedback=span algo=reinforce",
        "feedback=count",
        "feedback=count algo=reinforce",
        "feedback=sentence",
        "feedback=sentence algo=reinforce",
        "feedback=sentence task=classification",
        "feedback=sentence task=dialogue algo=reinforce",
        "feedback=noisy",
        "feedback=noisy algo=reinforce feedback.correct=true feedback.gaussian=0.1",
        "feedback=noisy feedback.correct=true feedback.flip_zero=0",
        "feedback=noisy feedback.correct=true",
        "feedback=noisy feedback.correct=true feedback.gaussian=0.1 algo.loss_kind=softmax",
        "feedback=noisy feedback.unit=episode task=dialogue",
        "task=goal_dialogue algo=reinforce algo.gamma=0 algo.credit=episode",
        "task=goal_dialogue algo=dqn",
        "task=dialogue algo=grpo algo.kl_target=2",
        "feedback=delayed",
        "feedback=logged feedback.log=a.jsonl",
        "feedback=logged feedback.log=a.jsonl memory=replay task=classification",
    ],
)
def test_pairs_that_work_as_typed(words: str) -> None:
    assert faults(words) == []


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("feedback=span task=classification", "the task decides classes, feedback=span is for tags"),
        ("feedback=count task=dialogue", "the task decides tokens, feedback=count is for tags"),
        ("feedback=span reward=constant", "reward=constant is a control"),
        ("feedback=sentence recipe/feedback=null", "only the last decision hears of it; type algo.gamma=1 algo.loss_kind=huber"),
        ("feedback=noisy feedback.gaussian=1", "type feedback.gaussian=0 or algo.loss_kind=mse"),
        ("feedback=span feedback.rejected=-1", "type feedback.rejected=0 or algo.loss_kind=mse"),
        ("feedback=noisy task=dialogue", "type feedback.unit=episode"),
        ("feedback=noisy reward=sentence_f1", "type feedback.unit=episode"),
        ("feedback=noisy feedback.unit=episode", "only the last decision hears of it"),
        ("task=goal_dialogue algo=reinforce algo.gamma=0", "pays one number at the end of an episode; with algo.gamma=0"),
        ("task=goal_dialogue algo=c51 algo.gamma=0", "only the last decision hears of it; type algo.gamma=1"),
        ("task=dialogue algo=ppo algo.gamma=0", "reward=rouge_l: pays one number at the end of an episode"),
        ("algo=reinforce algo.kl_target=2", "type algo.kl_coefficient=0.05"),
        ("task=dialogue algo=reinforce algo.kl_target=2 algo.kl_in=loss", "algo.kl_in=reward or algo.kl_target=null"),
        ("feedback=delayed algo=reinforce", "feedback=delayed tells of older acts"),
        ("feedback=logged feedback.log=a algo=reinforce", "feedback=logged tells of older acts"),
        ("feedback=bandit algo=supervised", "feedback=bandit reveals rewards only"),
        ("feedback=logged feedback.log=a algo=supervised", "feedback=logged reveals rewards only"),
        ("feedback=logged", "feedback.log: must be given"),
        ("feedback=noisy feedback.missing=1", "expected a number in [0, 1)"),
    ],
)  # fmt: skip
def test_pairs_that_cannot_work(words: str, part: str) -> None:
    (line,) = faults(words)
    assert part in line
