"""Expert iteration: the answers tried, what they cost, what is imitated, and that it leads to the optimum."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

import pytest
import torch
from test_learner import QUICK, four_classes, trained
from test_value_pairs import faults
from torch import Tensor

from rlft_cli.algo.expert_iteration import ExpertIteration
from rlft_cli.collect import collect
from rlft_cli.episode import blank
from rlft_cli.errors import RewardFailure, UsageError
from rlft_cli.feedback.delayed import Delayed
from rlft_cli.feedback.full import Full
from rlft_cli.feedback.sentence import Sentence
from rlft_cli.learner import learn
from rlft_cli.memory.replay import Replay
from rlft_cli.model import Output
from rlft_cli.oracles.algorithms import checks
from rlft_cli.returns import action_log_prob
from rlft_cli.task import Row
from rlft_cli.training import Training
from toy_training import (
    bind,
    class_rows,
    dialogue_rows,
    differences,
    expert_iteration,
    optim,
    policy_of,
    tagged_rows,
    tiny,
    training,
)


def made(rows: list[Row], algorithm: ExpertIteration, **parts: Any) -> Training:
    task = bind(rows, tiny())
    return training(policy_of(tiny(), task), task, algorithm, count=len(rows), **parts)


# -- learning ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decisions", ["tags", "classes"])
def test_reactions_alone_lead_to_the_optimum(decisions: str) -> None:
    mine = tagged_rows(24, seed=9) if decisions == "tags" else four_classes()
    run = made(mine, expert_iteration(), passes=60.0, optim=optim(**QUICK))
    assert trained(run, 1.0, "f1" if decisions == "tags" else "accuracy") == 1.0
    assert run.counts.label_examples == run.counts.label_decisions == 0


class Even:
    """Pays every token of an even id."""

    decisions: ClassVar[tuple[str, ...]] = ("tokens",)
    contract: ClassVar[str] = "alone"

    def __call__(self, action: Tensor, mask: Tensor, batch: Any) -> Tensor:
        return ((action % 2 == 0) & mask).float()


def test_replies_learn_what_a_search_finds() -> None:
    algorithm, settings = expert_iteration(simulations=3, noise=0.5), optim(**QUICK | {"lr": 1e-2})
    run = made(dialogue_rows(4, seed=2), algorithm, reward=Even(), optim=settings, passes=14.0)
    signals = [progress.signals for progress in learn(run)]
    assert signals[0]["search_gain"] > 0.0
    assert signals[0]["reward"] < 0.8 and signals[-1]["reward"] > 0.9, [one["reward"] for one in signals]


def test_old_targets_can_be_replayed() -> None:
    memory = Replay(capacity=50, warmup_episodes=4, replay_ratio=2)
    run = made(tagged_rows(24, seed=9), expert_iteration(), memory=memory)
    assert any("loss" in progress.signals for progress in learn(run))


# -- what is tried, and what it costs ------------------------------------------------------------------------------


class Counted:
    """A reward that keeps what it judged."""

    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens")
    contract: ClassVar[str] = "none"

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def __call__(self, action: Tensor, mask: Tensor, batch: Any) -> Tensor:
        self.seen += [(str(c), str(p)) for c, p in zip(batch.contexts, batch.predictions, strict=True)]
        return torch.where(mask, action.float(), 0.0)


@pytest.mark.parametrize("feedback", [Full(), Sentence()], ids=["full", "sentence"])
def test_every_answer_tried_is_a_reaction(feedback: Any) -> None:
    reward, rows = Counted(), tagged_rows(6, seed=3, longest=4)
    run = made(rows, expert_iteration(simulations=5), reward=reward, feedback=feedback, passes=1.0)
    list(learn(run))
    assert len(reward.seen) > 6 and len(set(reward.seen)) == len(reward.seen), "none is tried twice"
    assert run.counts.reaction_episodes == len(reward.seen) <= 6 * 5
    words = sum(len(prediction.split(",")) for _, prediction in reward.seen)
    assert run.counts.reactions == (len(reward.seen) if isinstance(feedback, Sentence) else words)
    assert run.counts.reaction_decisions == words == run.decided
    assert run.counts.reaction_examples == 6 and run.counts.label_examples == 0


def test_classes_are_tried_in_the_order_of_the_policy() -> None:
    reward = Counted()
    run = made(class_rows(1), expert_iteration(simulations=3, width=3, noise=0.0), reward=reward, passes=1.0)
    with torch.no_grad():
        scores = run.policy(run.inputs([0]), torch.zeros(1, 1, dtype=torch.int64)).scores[0, 0]
    best = scores.argsort(descending=True)[:3].tolist()
    collect(run, [0])
    assert [label for _, label in reward.seen] == [run.task.labels[a] for a in best]
    held = run.memory.sample(100, 8, torch.Generator())
    assert held.action.tolist() == [[max(best)]], "of these the one that earned most"
    assert float(held.reward) == max(best)


def test_noise_draws_classes_as_the_policy_would() -> None:
    """The first class of each search is a sample of the policy; within 5 standard errors of a share of 480."""
    reward = Counted()
    run = made(class_rows(24), expert_iteration(simulations=2, width=2, noise=1.0), reward=reward)
    chances = torch.arange(1.0, 1.0 + len(run.task.labels))
    run.policy.head.score.weight.data.zero_()
    run.policy.head.score.bias.data = chances.log()
    first: list[str] = []
    for _ in range(20):
        reward.seen.clear()
        collect(run, list(range(24)))
        first += [label for _, label in reward.seen[:24]]
        assert len(set(reward.seen)) == len(reward.seen) == 48
    for share, name in zip((chances / chances.sum()).tolist(), run.task.labels, strict=True):
        assert abs(first.count(name) / 480 - share) < 5 * (share * (1 - share) / 480) ** 0.5


def test_a_reward_that_fails_leaves_all_as_it_was() -> None:
    rows = tagged_rows(6, seed=3)
    calls = []

    def fragile(action: Tensor, mask: Tensor, batch: Any) -> Tensor:
        calls.append(1)
        if len(calls) == 3:
            raise RewardFailure("gone")
        return torch.where(mask, action.float(), 0.0)

    run = made(rows, expert_iteration(), reward=fragile)
    before = run.state_dict()
    with pytest.raises(RewardFailure):
        next(learn(run))
    assert differences(before, run.state_dict()) == []


def test_late_reactions_are_refused() -> None:
    run = made(tagged_rows(6), expert_iteration(), feedback=Delayed(steps=2, random_steps=0))
    with pytest.raises(UsageError, match="feedback=bandit"):
        list(islice(learn(run), 1))


# -- the loss ------------------------------------------------------------------------------------------------------


def test_only_what_paid_is_imitated() -> None:
    # pi = (1/2, 1/4, 1/4): -log of the chosen 0 and 1 is log 2 and log 4; returns are (.9, .4) with gamma 0
    scores = torch.tensor([[[2.0, 1.0, 1.0]] * 2]).log()
    told = blank({"id": torch.tensor([0])}, torch.tensor([[0, 1]]), torch.ones(1, 2, dtype=torch.bool))
    told.reward[:] = torch.tensor([0.9, 0.4])
    output, log2 = Output(scores=scores, value=None), torch.tensor(2.0).log()
    for changes, right in (
        ({"threshold": 0.5}, [log2, 0.0]),
        ({"threshold": 0.5, "gamma": 1.0}, [log2, 0.0]),
        ({"threshold": 0.3, "gamma": 1.0}, [log2, 2 * log2]),
        ({"threshold": None}, [log2, 2 * log2]),
    ):
        found = expert_iteration(**changes).loss(output, told, None)
        assert torch.allclose(found, torch.tensor([right]))


# -- what it works with --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "way"),
    [
        (("feedback=delayed",), "feedback=bandit"),
        (("feedback=span",), "feedback=sentence"),
        (("feedback=count",), "feedback=full"),
        (("explore=epsilon_greedy",), "explore=greedy"),
        (("explore=mcts", "algo.gamma=0"), "explore=greedy"),
        (("task=goal_dialogue",), "algo=reinforce"),
    ],
)
def test_refused_with_a_way_out(words: tuple[str, ...], way: str) -> None:
    found = faults("algo=expert_iteration", *words)
    assert found and any(way in line for line in found), found


@pytest.mark.parametrize(
    "words",
    [
        ("feedback=full",),
        ("feedback=noisy",),
        ("feedback=sentence",),
        ("memory=replay",),
        ("reward=sentence_f1",),
        ("explore=sample",),
        ("task=translation", "model=t5"),
    ],
)
def test_let_through(words: tuple[str, ...]) -> None:
    assert faults("algo=expert_iteration", *words) == []


@dataclass(frozen=True, kw_only=True)
class Everything(ExpertIteration):
    """The mutation twin: what was not good enough is imitated too."""

    def loss(self, output: Output, trajectory: Any, target: Output | None) -> Tensor:
        return -action_log_prob(output.scores, trajectory.action)


@dataclass(frozen=True, kw_only=True)
class Weighted(ExpertIteration):
    """Another one: actions are learned by their number."""

    def loss(self, output: Output, trajectory: Any, target: Output | None) -> Tensor:
        log_prob: Tensor = action_log_prob(output.scores, trajectory.action)
        return -trajectory.action * log_prob


@pytest.mark.parametrize(("subject", "holds"), [(ExpertIteration, True), (Everything, False), (Weighted, False)])
@pytest.mark.parametrize("threshold", [0.5, None])
def test_the_oracle_of_imitation_tells_twins(subject: Any, holds: bool, threshold: float | None) -> None:
    settings = vars(expert_iteration(threshold=threshold)).copy()
    del settings["state"]
    (oracle,) = [one for one in checks(subject(**settings), settings) if one.name == "algo_imitation"]
    same = threshold is None and subject is Everything
    assert oracle.verify().holds is (holds or same)
