"""Sampled answers, and the KL between two policies that is measured on them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from rlft_cli.decode import Aids
from rlft_cli.decode.greedy import Greedy
from rlft_cli.decode.sample import Sample
from rlft_cli.errors import UsageError
from rlft_cli.evaluation import Evaluator
from rlft_cli.model import Output
from toy_training import accelerator, bind, dialogue_rows, policy_of, tagged_rows, tiny

POLICY = Sample(temperature=1.0, top_k=0, top_p=1.0, seed=1)


def evaluator(task: Any, decode: Any = POLICY, batch_tokens: int = 5000) -> Evaluator:
    return Evaluator(
        task=task,
        device=torch.device("cpu"),
        autocast=accelerator().autocast,
        batch_tokens=batch_tokens,
        resamples=200,
        seed=1,
        decode=decode,
    )


def moved(task: Any, by: float = 0.3, seed: int = 0) -> Any:
    policy, chance = policy_of(tiny(), task), torch.Generator().manual_seed(seed)
    for weight in policy.parameters():
        weight.data += by * torch.randn(weight.shape, generator=chance)
    return policy


@pytest.mark.parametrize("rows", [tagged_rows, dialogue_rows], ids=["tags", "tokens"])
def test_what_is_drawn_depends_on_seed_and_example_alone(rows: Any) -> None:
    task = bind(rows(12, seed=2), tiny())
    policy, ids = moved(task), [9, 3, 11, 0, 7]
    together, alone = (evaluator(task, batch_tokens=tokens).predict(policy, ids) for tokens in (5000, 1))
    assert together == alone == evaluator(task).predict(policy, ids[::-1])[::-1]
    assert together != evaluator(task, replace(POLICY, seed=2)).predict(policy, ids)
    cold = replace(POLICY, temperature=1e-4)
    greedy = evaluator(task, Greedy()).predict(policy, ids)
    assert evaluator(task, cold).predict(policy, ids) == greedy != together


def test_tags_are_drawn_as_often_as_the_policy_says() -> None:
    """2,000 examples that read alike, of one word: 4 standard deviations of a share are at most 4 sqrt(.25 / 2000) = .045."""
    same = [{"words": ["Anna"], "tags": ["B-PER"], "origin": "toy:1"}] * 2000
    task = bind([*same, *tagged_rows(8)], tiny())
    policy = moved(task).eval()
    with torch.no_grad():
        scores = policy(task.collate([0]), torch.zeros(1, 1, dtype=torch.int64)).scores[0, 0]
    wanted = dict(zip(task.labels, torch.softmax(scores, -1).tolist(), strict=True))
    drawn = [tags[0] for tags in evaluator(task).predict(policy, range(2000))]
    for label, chance in wanted.items():
        assert abs(drawn.count(label) / 2000 - chance) < 0.045, label


def test_comparisons_are_not_drawn() -> None:
    task = bind(tagged_rows(4), tiny())
    POLICY.require(task, Aids())
    task.decisions = "pairs"
    with pytest.raises(UsageError, match="the checkpoint decides pairs; type decode=greedy"):
        POLICY.require(task, Aids())


@pytest.mark.parametrize(
    ("changes", "is_policy"),
    [({}, True), ({"temperature": 0.9}, False), ({"top_k": 5}, False), ({"top_p": 0.9}, False)],
)
def test_a_kl_is_measured_on_the_policy_itself(changes: Any, is_policy: bool) -> None:
    assert replace(POLICY, **changes).draws_from_policy is is_policy


def test_the_kl_of_replies_is_the_sum_over_their_decisions() -> None:
    """Held against a loop over replies and decisions in float64; batches of replies of unlike length are padded."""
    task = bind(dialogue_rows(20, seed=3), tiny())
    ours, theirs, ids = moved(task).eval(), moved(task, seed=1).eval(), list(range(20))
    judge = evaluator(task)
    actions = judge.evaluate(ours, ids, None).actions
    assert len({len(action) for action in actions}) > 1
    nats = 0.0
    for i, action in zip(ids, actions, strict=True):
        with torch.no_grad():
            here, there = (
                torch.log_softmax(one(task.collate([i]), action[None]).scores[0].double(), -1) for one in (ours, theirs)
            )
        for t in range(len(action)):
            nats += float((here[t].exp() * (here[t] - there[t])).sum())
    found = judge.divergence(ours, theirs, ids, actions)
    assert found["value"] == pytest.approx(nats / 20, rel=1e-4) and found["low"] < found["value"] < found["high"]
    assert judge.divergence(ours, ours, ids, actions)["value"] == pytest.approx(0, abs=1e-6)


def test_padding_of_a_kl_may_hold_anything() -> None:
    task = bind(dialogue_rows(6, seed=3), tiny())
    policy, ids = moved(task).eval(), list(range(6))
    actions = evaluator(task).evaluate(policy, ids, None).actions
    actions[0] = actions[0][:1]

    def broken(observation: dict[str, torch.Tensor], action: torch.Tensor) -> Output:
        output: Output = policy(observation, action)
        scores = output.scores.clone()
        scores[(action == 0) & (torch.arange(action.shape[1]) > 0)] = torch.nan
        return replace(output, scores=scores)

    assert evaluator(task).divergence(policy, broken, ids, actions)["value"] == pytest.approx(0, abs=1e-6)


def test_likelihood_can_be_left_out() -> None:
    task = bind(dialogue_rows(4), tiny())
    found = [evaluator(task).evaluate(moved(task), [0, 1], None, likelihood=told).metrics for told in (True, False)]
    assert "perplexity" in found[0] and "perplexity" not in found[1]
