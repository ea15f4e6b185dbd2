"""Law 6: under bandit feedback no label reaches the learner."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from thinned import thinned
from torch import Tensor

from rlft_cli.episode import Trajectory
from rlft_cli.explore.epsilon_greedy import EpsilonGreedy
from rlft_cli.explore.sample import Sample
from rlft_cli.feedback import Signal, at_once
from rlft_cli.judge import Judge
from rlft_cli.learner import learn
from rlft_cli.memory.prioritised import Prioritised
from rlft_cli.memory.replay import Replay
from rlft_cli.sampler import BatchSampler
from rlft_cli.task import Row
from rlft_cli.training import Training
from toy_training import (
    bind,
    class_rows,
    differences,
    doubly_robust,
    dqn,
    expert_iteration,
    filtered_bc,
    grpo,
    ips,
    policy_of,
    ppo,
    reinforce,
    supervised,
    tagged_rows,
    tiny,
    training,
    weights,
)


class Watched:
    """A reward that writes down which decisions of which examples it judged, and how."""

    decisions = ("tags", "classes")

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.tried: dict[tuple[int, int], set[str]] = defaultdict(set)
        self.ids: list[int] = []

    def __call__(self, action: Tensor, mask: Tensor, batch: Any) -> Tensor:
        for row, real in enumerate(mask.tolist()):
            for t in range(sum(real)):
                self.tried[self.ids[row], t].add(batch.labels[action[row, t]])
        reward: Tensor = self.inner(action, mask, batch)
        return reward


def run(rows: list[Row], algorithm: Any, labels: list[str], shown: int = 0, **parts: Any) -> tuple[Training, Watched]:
    """Train on rows; the same start, data order and chance every time. The labels of the first ``shown`` are mixed in."""
    model = tiny()
    task = bind(rows, model, labels=labels)
    made = training(policy_of(model, task, algorithm.reads), task, algorithm, count=len(rows), passes=2.0, **parts)
    if shown:
        first = list(range(shown))
        made.labelled = BatchSampler(first, task.cost(first), batch_tokens=100, most=4, seed=5)
        made.label_coefficient = 0.5
    watched = Watched(made.judge.reward)
    made.judge = replace(made.judge, reward=watched)
    references = task.references

    def asked(ids: list[int]) -> list[Any]:
        watched.ids = list(ids)
        found: list[Any] = references(ids)
        return found

    task.references = asked
    for _ in learn(made):
        pass
    return made, watched


def labels_of(row: Row) -> list[str]:
    return row["tags"] if "tags" in row else [row["label"]]


def with_labels(row: Row, labels: list[str]) -> Row:
    return {**row, "tags": labels} if "tags" in row else {**row, "label": labels[0]}


def changed(rows: list[Row], watched: Watched, labels: list[str]) -> tuple[list[Row], int]:
    """Every label that no action hit becomes another one that no action hit; and how many those are."""
    result, count = [], 0
    for i, row in enumerate(rows):
        mine = list(labels_of(row))
        for t, label in enumerate(mine):
            tried = watched.tried[i, t]
            free = [other for other in labels if other not in tried and other != label]
            if label not in tried and free:
                mine[t] = free[(i + t) % len(free)]
                count += 1
        result.append(with_labels(row, mine))
    return result, count


def epsilon() -> EpsilonGreedy:
    return EpsilonGreedy(start=0.5, end=0.1, decay_fraction=1.0, schedule="linear")


def state_of(made: Training) -> dict[str, Any]:
    """All that decides what comes next; the regret is a measurement against the truth that nothing learns from."""
    return {name: value for name, value in made.state_dict().items() if name not in ("regret", "decided")}


RUNS: dict[str, Any] = {
    "dqn": lambda: (dqn(), {"explore": epsilon()}),
    "dqn_replay": lambda: (
        dqn(gamma=0.9, loss_kind="huber", dueling=True, target_tau=0.1),
        {"explore": epsilon(), "memory": Replay(capacity=100, warmup_episodes=8, replay_ratio=2)},
    ),
    "prioritised": lambda: (
        dqn(cql_coefficient=0.1),
        {
            "explore": epsilon(),
            "memory": Prioritised(capacity=100, warmup_episodes=8, replay_ratio=2, alpha=0.6, beta_start=0.4),
        },
    ),
    "ips": lambda: (ips(translation=0.5), {"explore": epsilon()}),
    "filtered_bc": lambda: (filtered_bc(), {"explore": epsilon()}),
    "expert_iteration": lambda: (expert_iteration(simulations=2), {}),
    "doubly_robust": lambda: (doubly_robust(), {"explore": epsilon()}),
    "reinforce": lambda: (reinforce(samples=2), {"explore": Sample(temperature=1.0, top_k=0, top_p=1.0)}),
    "ppo": lambda: (ppo(samples=2, epochs=2), {"explore": Sample(temperature=1.0, top_k=0, top_p=1.0)}),
    "grpo": lambda: (grpo(samples=2, epochs=2), {"explore": Sample(temperature=1.0, top_k=0, top_p=1.0)}),
    "self_critical": lambda: (
        reinforce(samples=1, baseline="self_critical", entropy_coefficient=0.01),
        {"explore": Sample(temperature=1.0, top_k=0, top_p=1.0)},
    ),
}


@pytest.mark.parametrize(
    ("rows", "name"),
    thinned(product([tagged_rows, class_rows], RUNS), lambda case: case[0] is tagged_rows or case[1] == "dqn"),
)
def test_labels_that_were_never_hit_change_nothing(rows: Any, name: str) -> None:
    """METHODS 7.2: rewards stay as they are, so that training must be the same to the last bit."""
    mine: list[Row] = rows(40, seed=6)
    labels = bind(mine, tiny()).labels
    algorithm, parts = RUNS[name]()
    first, watched = run(mine, algorithm, labels, **parts)
    others, count = changed(mine, watched, labels)
    assert count >= 10, "too few labels stayed hidden for the test to say anything"
    algorithm, parts = RUNS[name]()
    second, again = run(others, algorithm, labels, **parts)
    assert again.tried == watched.tried
    assert differences(state_of(first), state_of(second)) == []


@pytest.mark.parametrize("name", ["dqn", "self_critical", "ppo", "expert_iteration"])
def test_only_the_judge_asks_for_labels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a judge that knows nothing, a training runs on a task that would give no label away."""
    algorithm, parts = RUNS[name]()
    task = bind(tagged_rows(24), tiny())
    made = training(policy_of(tiny(), task, algorithm.reads), task, algorithm, **parts)
    monkeypatch.setattr(Judge, "tell", lambda judge, trajectory, ids: paid_by_chance(trajectory))
    monkeypatch.setattr(Judge, "mistakes", lambda judge, trajectory, ids: 0)
    monkeypatch.setattr(type(task), "references", refused)
    monkeypatch.setattr(type(task), "demonstration", refused)
    assert len(list(learn(made))) > 2
    with pytest.raises(PermissionError):
        next(learn(training(policy_of(tiny(), task), task, supervised())))


def paid_by_chance(trajectory: Trajectory) -> Signal:
    return at_once(torch.rand(trajectory.mask.shape), trajectory.mask, trajectory.mask.sum(1))


def refused(*given: Any) -> Any:
    raise PermissionError("a label was asked for")


@pytest.mark.parametrize("rows", [tagged_rows, class_rows], ids=["tags", "classes"])
def test_a_mixed_objective_reads_the_labels_it_was_shown_and_no_others(rows: Any) -> None:
    shown, mine = 8, rows(40, seed=6)
    labels = bind(mine, tiny()).labels

    def trained(some: list[Row]) -> tuple[Training, Watched]:
        sample = Sample(temperature=1.0, top_k=0, top_p=1.0)
        return run(some, reinforce(samples=2), labels, shown, explore=sample)

    first, watched = trained(mine)
    others, count = changed(mine, watched, labels)
    assert count >= 10
    second, again = trained([*mine[:shown], *others[shown:]])
    assert again.tried == watched.tried
    assert differences(first.state_dict(), second.state_dict()) == []
    third, _ = trained([*others[:shown], *mine[shown:]])
    assert differences(weights(first.policy), weights(third.policy)) != [], "it does read those it was shown"


def test_a_learner_that_reads_labels_would_be_found() -> None:
    """The mutation twin: the same change of labels under algo=supervised."""
    mine = tagged_rows(40, seed=6)
    labels = bind(mine, tiny()).labels
    _, watched = run(mine, dqn(), labels, explore=epsilon())
    others, _ = changed(mine, watched, labels)
    one, two = (run(rows, supervised(), labels)[0] for rows in (mine, others))
    assert differences(weights(one.policy), weights(two.policy)) != []


@pytest.mark.parametrize("rows", [tagged_rows, class_rows], ids=["tags", "classes"])
def test_what_a_model_reads_holds_no_label(rows: Any) -> None:
    mine: list[Row] = rows(12, seed=6)
    model = tiny()
    labels = bind(mine, model).labels
    shifted = [with_labels(row, [labels[(labels.index(x) + 1) % len(labels)] for x in labels_of(row)]) for row in mine]
    one, two = (bind(some, model, labels=labels).collate(list(range(12))) for some in (mine, shifted))
    assert differences(one, two) == []
    assert not [key for key in one if "label" in key or "tag" in key or "reference" in key]


def test_the_learner_counts_what_it_was_shown() -> None:
    mine = tagged_rows(12, seed=6)
    labels = bind(mine, tiny()).labels
    made, _ = run(mine, reinforce(samples=3), labels, explore=Sample(temperature=1.0, top_k=0, top_p=1.0))
    words = sum(len(row["words"]) for row in mine)
    assert vars(made.counts) == {
        "label_examples": 0,
        "label_decisions": 0,
        "reaction_examples": 12,
        "reaction_episodes": 2 * 3 * 12,
        "reaction_decisions": 2 * 3 * words,
        "reactions": 2 * 3 * words,
    }
