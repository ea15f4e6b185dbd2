"""Law 6 for every feedback: labels that it did not reveal may be any, and training is the same to the last bit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from thinned import every_other
from torch import Tensor

from rlft_cli.config import config_folder
from rlft_cli.explore.epsilon_greedy import EpsilonGreedy
from rlft_cli.explore.sample import Sample
from rlft_cli.feedback import Signal, at_once
from rlft_cli.feedback.bandit import Bandit
from rlft_cli.feedback.count import Count
from rlft_cli.feedback.delayed import Delayed
from rlft_cli.feedback.full import Full
from rlft_cli.feedback.logged import Logged
from rlft_cli.feedback.noisy import Noisy
from rlft_cli.feedback.sentence import Sentence
from rlft_cli.feedback.span import Span
from rlft_cli.learner import learn
from rlft_cli.memory.replay import Replay
from rlft_cli.metrics.spans import spans
from rlft_cli.ring import DECISION
from rlft_cli.task import Row
from rlft_cli.training import Training
from toy_training import (
    bind,
    class_rows,
    differences,
    dqn,
    policy_of,
    reinforce,
    tagged_rows,
    tiny,
    training,
    weights,
)

LABELS = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]


class Watched:
    """A feedback that writes down what was predicted for which example."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.reveals, self.reads_reward, self.fresh = inner.reveals, inner.reads_reward, inner.fresh
        self.predicted: dict[int, list[Any]] = defaultdict(list)

    def __call__(self, reward: Tensor, trajectory: Any, batch: Any, generator: torch.Generator) -> Signal:
        ids = trajectory.observation["id"].repeat_interleave(trajectory.samples).tolist()
        for i, prediction in zip(ids, batch.predictions, strict=False):  # a log has none
            self.predicted[i].append(prediction)
        signal: Signal = self.inner(reward, trajectory, batch, generator)
        return signal


def noisy(**changes: Any) -> Noisy:
    settings: dict[str, Any] = {
        "flip_zero": 0.2,
        "flip_one": 0.2,
        "gaussian": 0.0,
        "missing": 0.0,
        "correct": False,
        "unit": "decision",
    }
    return Noisy(**(settings | changes))


# -- changes of labels that a feedback did not reveal ----------------------------------------------------------------


def of_spans(length: int, found: Any) -> list[str]:
    tags = ["O"] * length
    for start, end, kind in found:
        tags[start:end] = [f"B-{kind}"] + [f"I-{kind}"] * (end - start - 1)
    return tags


def never_hit(row: Row, predictions: list[Any]) -> Row:
    """Every label that no action was equal to becomes O, or another one that none was equal to."""
    single = "label" in row
    mine = [row["label"]] if single else list(row["tags"])
    tried = [{p} for p in predictions] if single else [set(p) for p in zip(*predictions, strict=True)]
    if single:
        tried = [set().union(*tried)]
    known = sorted({str(x) for x in CLASSES}) if single else LABELS
    for t, label in enumerate(mine):
        free = [other for other in known if other not in tried[t] and other != label]
        if label not in tried[t] and free:
            mine[t] = free[t % len(free)]
    return {**row, "label": mine[0]} if single else {**row, "tags": mine}


def never_marked(row: Row, predictions: list[list[str]]) -> Row:
    """Entities that were never predicted are no entities any more."""
    marked = set().union(*(spans(p) for p in predictions))
    return {**row, "tags": of_spans(len(row["tags"]), spans(row["tags"]) & marked)}


def other_places(row: Row, predictions: list[list[str]]) -> Row:
    """As many entities of each type, at other words: the sentence in a mirror."""
    length = len(row["tags"])
    return {**row, "tags": of_spans(length, {(length - e, length - s, k) for s, e, k in spans(row["tags"])})}


def anything(row: Row, predictions: list[Any]) -> Row:
    return {**row, "tags": [LABELS[(LABELS.index(tag) + 1) % 2] for tag in row["tags"]]}


CLASSES = [row["label"] for row in class_rows(40, seed=6)]
Change = Callable[[Row, list[Any]], Row]
OPTIONS: dict[str, tuple[Callable[[], Any], Change]] = {
    "bandit": (Bandit, never_hit),
    "full": (Full, never_hit),
    "sentence": (Sentence, never_hit),
    "noisy": (lambda: noisy(flip_one=0.1, missing=0.3), never_hit),
    "delayed": (lambda: Delayed(steps=2, random_steps=2), never_hit),
    "span": (lambda: Span(rejected=0.0), never_marked),
    "count": (Count, other_places),
    "logged": (lambda: Logged(log="a.jsonl"), anything),
}
ON_POLICY = [name for name in OPTIONS if name not in ("delayed", "logged")]


def test_every_feedback_is_here() -> None:
    assert sorted(OPTIONS) == sorted(path.stem for path in (config_folder() / "feedback").glob("*.yaml"))


def made(rows: list[Row], feedback: Any, algorithm: Any, **parts: Any) -> Training:
    """The same start, data order and chance every time."""
    model = tiny()
    task = bind(rows, model, labels=LABELS if "tags" in rows[0] else sorted(set(CLASSES)))
    explore = Sample(temperature=1.0, top_k=0, top_p=1.0) if algorithm.on_policy else epsilon()
    policy = policy_of(model, task, algorithm.reads)
    result = training(
        policy, task, algorithm, count=len(rows), feedback=feedback, explore=explore, **{"passes": 2.0, **parts}
    )
    if isinstance(feedback, Logged) or isinstance(getattr(feedback, "inner", None), Logged):
        result.log = log_of(rows)
    return result


def epsilon() -> EpsilonGreedy:
    return EpsilonGreedy(start=0.5, end=0.1, decay_fraction=1.0, schedule="linear")


def log_of(rows: list[Row]) -> dict[int, Any]:
    """What someone did with the rows, whatever their labels."""
    chance = np.random.default_rng(3)
    log = {}
    for i, row in enumerate(rows):
        log[i] = np.zeros(len(row["words"]), DECISION)
        log[i]["action"] = chance.choice([0, 1, 3], len(row["words"]))
        log[i]["reward"], log[i]["observed"] = chance.integers(2, size=len(row["words"])), True
        log[i]["log_prob"] = np.log(1 / 3)
    return log


def trained(rows: list[Row], feedback: Any, algorithm: Any, **parts: Any) -> Training:
    result = made(rows, feedback, algorithm, **parts)
    for _ in learn(result):
        pass
    return result


def state_of(result: Training) -> dict[str, Any]:
    """All that decides what comes next; the regret, which is counted with the labels for reports, does not."""
    return {name: value for name, value in result.state_dict().items() if name not in ("regret", "decided")}


def algorithm_of(kind: str, option: str) -> Any:
    whole = option == "sentence"
    if kind == "reinforce":
        return reinforce(samples=2, gamma=1.0 if whole else 0.0, entropy_coefficient=0.01)
    return dqn(gamma=1.0, loss_kind="huber", dueling=True) if whole else dqn()


@pytest.mark.parametrize(
    ("kind", "option"),
    every_other([("dqn", name) for name in OPTIONS] + [("reinforce", name) for name in ON_POLICY]),
)
def test_labels_that_were_not_revealed_change_nothing(kind: str, option: str) -> None:
    rows = tagged_rows(40, seed=6)
    make, change = OPTIONS[option]
    watched = Watched(make())
    parts = {"memory": Replay(capacity=60, warmup_episodes=8, replay_ratio=1)} if kind == "dqn" else {}
    first = trained(rows, watched, algorithm_of(kind, option), **parts)
    others = [change(row, watched.predicted[i]) for i, row in enumerate(rows)]
    assert sum(a["tags"] != b["tags"] for a, b in zip(rows, others, strict=True)) >= 10, "too little stayed hidden"
    parts = {"memory": Replay(capacity=60, warmup_episodes=8, replay_ratio=1)} if kind == "dqn" else {}
    second = trained(others, make(), algorithm_of(kind, option), **parts)
    assert first.counts.reactions > 0
    assert differences(state_of(first), state_of(second)) == []


@pytest.mark.parametrize("option", ["sentence", "noisy", "delayed"])
def test_classes_that_were_never_chosen_change_nothing(option: str) -> None:
    rows = class_rows(40, seed=6)
    make, change = OPTIONS[option]
    watched = Watched(make())
    first = trained(rows, watched, dqn())
    others = [change(row, watched.predicted[i]) for i, row in enumerate(rows)]
    assert sum(a["label"] != b["label"] for a, b in zip(rows, others, strict=True)) >= 10
    assert differences(state_of(first), state_of(trained(others, make(), dqn()))) == []


class TellsOfMisses(Span):
    """The mutation twin of Span: a word that should have been marked is told so."""

    def __call__(self, reward: Tensor, trajectory: Any, batch: Any, generator: torch.Generator) -> Signal:
        signal = super().__call__(reward, trajectory, batch, generator)
        missed = torch.zeros_like(signal.observed)
        for n, reference in enumerate(batch.references):
            for t, tag in enumerate(reference):
                missed[n, t] = tag != "O" and not signal.observed[n, t]
        return at_once(signal.reward, signal.observed | missed, signal.reactions)


def test_a_feedback_that_tells_of_misses_would_be_found() -> None:
    rows = tagged_rows(40, seed=6)
    watched = Watched(TellsOfMisses(rejected=0.0))
    first = trained(rows, watched, dqn())
    others = [never_marked(row, watched.predicted[i]) for i, row in enumerate(rows)]
    second = trained(others, TellsOfMisses(rejected=0.0), dqn())
    assert differences(weights(first.policy), weights(second.policy)) != []


def test_a_decision_without_a_reaction_gets_no_gradient() -> None:
    """With span feedback and a policy that can mark nothing, no weight moves, not even by decay."""
    rows = [{**row, "tags": ["O"] * len(row["tags"])} for row in tagged_rows(12, seed=6)]
    for algorithm in (dqn(), reinforce(samples=2, entropy_coefficient=0.1)):
        model = tiny()
        task = bind(rows, model, labels=["O"])
        policy = policy_of(model, task, algorithm.reads)
        before = weights(policy)
        result = training(
            policy,
            task,
            algorithm,
            count=len(rows),
            feedback=Span(rejected=0.0),
            explore=Sample(temperature=1.0, top_k=0, top_p=1.0),
        )
        for progress in learn(result):
            assert "loss" not in progress.signals
        assert differences(before, weights(policy)) == []
        assert result.counts.reactions == 0 and result.counts.reaction_examples == 0


class Half(Bandit):
    """Every second decision is not observed."""

    def __call__(self, reward: Tensor, trajectory: Any, batch: Any, generator: torch.Generator) -> Signal:
        seen = trajectory.mask & (torch.arange(reward.shape[1]) % 2 == 0)
        return at_once(reward, seen, seen.sum(1))


class Flipped(Half):
    """As Half, and what it does not show is another reward."""

    def __call__(self, reward: Tensor, trajectory: Any, batch: Any, generator: torch.Generator) -> Signal:
        signal = super().__call__(reward, trajectory, batch, generator)
        hidden = trajectory.mask & ~signal.observed
        return Signal(**{**vars(signal), "reward": torch.where(hidden, 1 - reward, signal.reward)})


def test_rewards_that_are_not_observed_are_not_learned_from() -> None:
    """gamma 0: whatever stands where nobody looked, every algorithm learns the same. With gamma it would be summed."""
    rows = tagged_rows(24, seed=6)
    for algorithm in (dqn, reinforce):
        settings = {"baseline": "none"} if algorithm is reinforce else {}
        one, other = (trained(rows, feedback, algorithm(**settings)) for feedback in (Half(), Flipped()))
        assert differences(weights(one.policy), weights(other.policy)) == []
        assert differences(weights(one.policy), weights(trained(rows, Bandit(), algorithm(**settings)).policy)) != []


# -- stopped and gone on with ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["noisy", "delayed", "logged", "span"])
def test_stopped_and_gone_on_with_equals_never_stopped(option: str) -> None:
    rows, make = tagged_rows(40, seed=6), OPTIONS[option][0]
    whole = trained(rows, make(), dqn())
    stopped = made(rows, make(), dqn())
    for _ in islice(learn(stopped), 4):
        pass
    assert option != "delayed" or len(stopped.on_the_way) > 0
    again = made(rows, make(), dqn())
    again.load_state_dict(stopped.state_dict())
    for _ in learn(again):
        pass
    assert differences(whole.state_dict(), again.state_dict()) == []
