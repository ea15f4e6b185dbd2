"""rlft eval and rlft predict with decode=mcts: answers that are searched, and rewards that may not judge them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

CPU = ("hardware=cpu", "hardware.threads=1")
FEW = ("evaluation.bootstrap=2", "evaluation.max_examples=3")


def letters(contexts: Any, replies: Any, references: Any) -> list[float]:
    return [len(set(reply)) for reply in replies]


def short_words(contexts: Any, replies: Any, references: Any) -> list[float]:
    """A reward of one's own, which tells a leak too: references are empty where answers are searched."""
    assert not any(references)
    return [-sum(map(len, reply)) if isinstance(reply, list) else -len(reply) for reply in replies]


OWN = ("reward=function", f"reward.path={__name__}.short_words")
LETTERS = ("reward=function", f"reward.path={__name__}.letters")


def test_an_evaluation_of_searched_replies(rlft: Any, world: Path, here: Path) -> None:
    words = ("eval", f"checkpoint={world / 'dialogue_run'}", *LETTERS, *CPU, *FEW)
    search = ("decode=mcts", "decode.worth=reward", "decode.simulations=5")
    assert rlft(*words, "output=greedy.json").status == 0
    done = rlft(*words, *search, "output=mcts.json")
    assert done.status == 0, done
    greedy, found = (json.loads(Path(name).read_text()) for name in ("greedy.json", "mcts.json"))
    assert (greedy["decode"], found["decode"]) == ("greedy", "mcts")
    assert found["test"]["reward"]["value"] > greedy["test"]["reward"]["value"]
    assert found["test"]["perplexity"] == greedy["test"]["perplexity"]


@pytest.mark.parametrize("task", ["ner", "classification", "dialogue"])
def test_predictions_are_searched(rlft: Any, world: Path, task: str) -> None:
    words = ("predict", f"checkpoint={world / task}_run", "text=Anna visited Rome today", *CPU)
    (greedy,) = rlft(*words).out.splitlines()
    for settings in (("decode.width=1",), ("decode.simulations=2",)):
        done = rlft(*words, "decode=mcts", *settings)
        assert done.status == 0, done
        (found,) = done.out.splitlines()
        assert json.loads(found).keys() == json.loads(greedy).keys()
        assert found == greedy or "decode.width=1" not in settings


def test_tags_that_a_function_likes(rlft: Any, world: Path) -> None:
    """No reward of tags is without references but a function or a server: here few and short names of tags are liked."""
    words = ("predict", f"checkpoint={world / 'ner_run'}", "text=Anna visited Rome today", *CPU)
    done = rlft(*words, "decode=mcts", "decode.worth=reward", "decode.simulations=500", "decode.width=9", *OWN)
    assert done.status == 0, done
    assert json.loads(done.out)["tags"] == ["O"] * 4


@pytest.mark.parametrize(
    ("task", "words", "parts"),
    [
        (
            "dialogue",
            ("reward=rouge_l",),
            ("reward=rouge_l may read the reference", "decode.worth=policy"),
        ),
        ("dialogue", (), ("reward=rouge_l may read the reference",)),  # that of its own run
        ("dialogue", (*OWN, "reward.contract=none"), ("may read the reference", "type reward.contract=alone")),
        (
            "dialogue",
            ("reward=weighted_sum",),
            ("reward.terms.0 of reward=weighted_sum may read",),
        ),
        ("classification", ("reward=distinct",), ("judges tokens", "decides classes")),
        ("classification", ("decode.worth=value",), ("decides classes",)),
        ("dialogue", ("decode.worth=value",), ("learned no values", "decode.worth=policy")),
        ("ner", ("decode.width=0",), ("decode.width", "in [1, inf)")),
        ("ner", ("decode=mtcs",), ("did you mean decode=mcts",)),
    ],
)
def test_wrong_use_is_refused(
    rlft: Any, world: Path, task: str, words: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    asked = (
        "predict",
        f"checkpoint={world / task}_run",
        "text=how is Rome",
        "decode=mcts",
        "decode.worth=reward",
        *CPU,
    )
    rlft(*asked, *words).refused(2, *parts)
