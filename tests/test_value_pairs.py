"""What the static check refuses of value-based algorithms, logs and prioritised replay, and what it lets through."""

from __future__ import annotations

import pytest

from rlft_cli.compose import compose
from rlft_cli.config import check, config_folder
from rlft_cli.options import Library
from rlft_cli.overrides import Override

LIBRARY = Library([config_folder()])


def faults(*words: str) -> list[str]:
    pairs = [word.split("=", 1) for word in words]
    overrides = [Override(text=f"{key}={value}", prefix="", key=key, values=(value,)) for key, value in pairs]
    composed = compose(LIBRARY, "train", [(override, override.values[0]) for override in overrides])
    assert composed is not None
    return check(LIBRARY, "train", composed, running=False)


@pytest.mark.parametrize(
    ("words", "way"),
    [
        (("algo=ips", "feedback=bandit", "memory=prioritised"), "memory=replay"),
        (("algo=doubly_robust", "feedback=bandit", "memory=prioritised"), "algo=dqn"),
        (("algo=reinforce", "memory=prioritised"), "memory=latest"),
        (("algo=ips", "feedback=bandit", "explore=ucb"), "explore=epsilon_greedy"),
        (("algo=banditnet", "feedback=bandit", "explore=greedy"), "feedback=logged"),
        (("algo=doubly_robust", "feedback=bandit", "explore=greedy"), "explore=sample"),
        (("algo=c51", "explore=noisy"), "explore=epsilon_greedy"),
        (("algo=quantile", "explore=noisy"), "explore=boltzmann"),
        (("algo=c51", "task=dialogue", "model=tiny"), "task=ner"),
        (("algo=dqnimb", "task=ner"), "task=classification"),
        (("algo=doubly_robust", "task=dialogue"), "algo=ips"),
        (("reward=shuffled", "feedback=span"), "feedback=bandit"),
        (
            ("task=language_modeling", "algo=reinforce", "reward=reward_model", "reward.checkpoint=a"),
            "type task.given_tokens=32",
        ),
    ],
)
def test_refused_with_a_way_out(words: tuple[str, ...], way: str) -> None:
    found = faults(*words)
    assert len(found) == 1 and way in found[0], found


@pytest.mark.parametrize(
    "words",
    [
        ("algo=dqn", "memory=prioritised"),
        ("algo=c51", "memory=prioritised"),
        ("algo=ips", "feedback=bandit", "explore=epsilon_greedy"),
        ("algo=ips", "feedback=bandit", "explore=sample", "memory=replay"),
        ("algo=direct_method", "feedback=bandit", "explore=greedy"),
        ("algo=cql", "feedback=bandit", "task=dialogue"),
        ("algo=dqn", "reward=shuffled"),
        ("task=goal_dialogue", "algo=supervised"),
        ("task=language_modeling", "algo=reinforce"),
        ("algo=reinforce", "reward=shuffled", "task=classification"),
        ("algo=dqnimb", "task=classification", "reward=imbalanced"),
    ],
)
def test_let_through(words: tuple[str, ...]) -> None:
    assert faults(*words) == []
