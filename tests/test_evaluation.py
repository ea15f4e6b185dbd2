"""Evaluation: every word counts, whatever the batches; intervals hold their value (P1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rlft_cli.episode import demonstrate
from rlft_cli.errors import RlftError
from rlft_cli.evaluation import Evaluator
from rlft_cli.reward.accuracy import Accuracy
from rlft_cli.reward.token_accuracy import TokenAccuracy
from rlft_cli.task import Row
from toy_training import accelerator, bind, class_rows, dialogue_rows, policy_of, tagged_rows, tiny


def evaluator(task: Any, batch_tokens: int = 300, resamples: int = 200, seed: int = 1) -> Evaluator:
    return Evaluator(
        task=task,
        device=torch.device("cpu"),
        autocast=accelerator().autocast,
        batch_tokens=batch_tokens,
        resamples=resamples,
        seed=seed,
    )


def moved(task: Any) -> Any:
    """A policy whose predictions differ from word to word."""
    policy = policy_of(tiny(), task)
    for weight in policy.parameters():
        weight.data += 0.3 * torch.randn_like(weight)
    return policy


def nothing(action: Tensor, mask: Tensor, batch: Any) -> Tensor:
    return torch.zeros(action.shape)


def long_rows() -> list[Row]:
    """Sentences of 1 to 150 words, longer than the model reads at once."""
    words = [word for row in tagged_rows(60, seed=3) for word in row["words"]]
    tags = [tag for row in tagged_rows(60, seed=3) for tag in row["tags"]]
    lengths = [150, 1, 2, 90, 40, 7]
    return [{"words": words[:n], "tags": tags[:n], "origin": f"long:{n}"} for n in lengths]


# -- every word ----------------------------------------------------------------------------------------------------


def test_every_word_is_scored() -> None:
    """P1: the scorer sees as many tags as the file has words, and its token accuracy is over all of them."""
    rows = long_rows()
    task = bind(rows, tiny(max_tokens=32), window=32)
    seen: list[tuple[Sequence[Any], Sequence[Any]]] = []
    score = task.score

    def watched(predictions: Any, references: Any, seed: int, resamples: int) -> Any:
        seen.append((predictions, references))
        return score(predictions, references, seed, resamples)

    task.score = watched
    found = evaluator(task).evaluate(moved(task), list(range(len(rows))), TokenAccuracy(outside_weight=1.0))
    ((predictions, references),) = seen
    assert references == [row["tags"] for row in rows]
    assert [len(tags) for tags in predictions] == [len(row["words"]) for row in rows]
    assert found.predictions == predictions
    pairs = [pair for p, r in zip(predictions, references, strict=True) for pair in zip(p, r, strict=True)]
    right = sum(p == r for p, r in pairs) / len(pairs)
    assert found.metrics["token_accuracy"]["value"] == pytest.approx(right)
    assert found.metrics["reward"]["value"] == pytest.approx(right * len(pairs) / len(rows))


@pytest.mark.parametrize("rows", [tagged_rows, class_rows, dialogue_rows], ids=["tags", "classes", "tokens"])
def test_batches_and_order_do_not_matter(rows: Any) -> None:
    mine: list[Row] = rows(14, seed=2)
    task = bind(mine, tiny())
    policy = moved(task)
    ids = [9, 3, 12, 0, 7, 13, 5]
    alone, together = (evaluator(task, tokens).predict(policy, ids) for tokens in (1, 5000))
    assert alone == together
    every = evaluator(task).predict(policy, list(range(14)))
    assert together == [every[i] for i in ids]
    assert len({str(prediction) for prediction in every}) > 1
    judged = [evaluator(task, tokens).evaluate(policy, ids, nothing).metrics for tokens in (1, 5000)]
    for name, metric in judged[0].items():
        assert metric == pytest.approx(judged[1][name], rel=1e-5), name


def test_the_batches_hold_every_place_once_within_the_budget() -> None:
    task = bind(tagged_rows(40), tiny())
    ids = list(range(39, -1, -1))
    batches = evaluator(task, batch_tokens=40).batches(ids)
    assert sorted(place for batch in batches for place in batch) == list(range(40))
    cost = task.cost(ids)
    assert all(len(b) == 1 or max(cost[p] for p in b) * len(b) <= 40 for b in batches)


def test_nothing_to_evaluate_is_said() -> None:
    task = bind(tagged_rows(4), tiny())
    with pytest.raises(RlftError, match="no examples"):
        evaluator(task).evaluate(moved(task), [], nothing)


def test_scores_that_are_no_numbers_are_no_result() -> None:
    task = bind(tagged_rows(4), tiny())
    policy = moved(task)
    policy.head.project.weight.data.fill_(torch.nan)
    with pytest.raises(RlftError, match="not numbers"):
        evaluator(task).evaluate(policy, [0, 1], nothing)


def test_the_greedy_episode_is_the_highest_score_among_legal_tags() -> None:
    rows = tagged_rows(10, seed=5)
    task = bind(rows, tiny())
    policy = moved(task).eval()
    for i, tags in enumerate(evaluator(task).predict(policy, list(range(10)))):
        action = torch.tensor([[task.labels.index(tag) for tag in tags]])
        scores = policy(task.collate([i]), action).scores
        assert torch.equal(scores.argmax(-1), action)
        for before, tag in zip(["O", *tags], tags, strict=False):
            assert not tag.startswith("I-") or before[2:] == tag[2:]


# -- numbers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [tagged_rows, class_rows, dialogue_rows], ids=["tags", "classes", "tokens"])
@pytest.mark.parametrize("count", [2, 14])
def test_intervals_hold_their_value(rows: Any, count: int) -> None:
    task = bind(rows(14, seed=2), tiny())
    found = evaluator(task).evaluate(moved(task), list(range(count)), nothing).metrics
    assert task.primary in found
    for name, metric in found.items():
        assert set(metric) == {"value", "low", "high"}
        assert all(map(math.isfinite, metric.values())), name
        assert metric["low"] <= metric["value"] <= metric["high"], (name, metric)


def test_intervals_follow_from_the_seed_and_narrow_with_more_examples() -> None:
    task = bind(class_rows(200, seed=2), tiny())
    policy = moved(task)

    def interval(count: int, seed: int) -> dict[str, float]:
        found = evaluator(task, 5000, 500, seed).evaluate(policy, list(range(count)), Accuracy()).metrics
        assert found["reward"]["value"] == pytest.approx(found["accuracy"]["value"])
        return found["accuracy"]

    assert interval(200, 1) == interval(200, 1) != interval(200, 2)
    wide, narrow = interval(20, 1), interval(200, 1)
    assert narrow["high"] - narrow["low"] < 0.7 * (wide["high"] - wide["low"])
    p = narrow["value"]
    expected = 2 * 1.96 * math.sqrt(p * (1 - p) / 200)  # the normal approximation of a proportion
    assert 0.7 * expected < narrow["high"] - narrow["low"] < 1.3 * expected


def test_perplexity_is_that_of_the_references_tokens() -> None:
    rows = dialogue_rows(6, seed=2)
    task = bind(rows, tiny())
    policy = moved(task).eval()
    found = evaluator(task, batch_tokens=60).evaluate(policy, list(range(6)), nothing).metrics["perplexity"]
    total, tokens = 0.0, 0
    with torch.no_grad():
        for i in range(6):  # one by one, nothing padded, by torch's own cross-entropy
            known = demonstrate(task, task.collate([i]))
            scores = policy(known.observation, known.action).scores[0]
            total += float(torch.nn.functional.cross_entropy(scores, known.action[0], reduction="sum"))
            tokens += known.action.shape[1]
            assert int(known.action[0, -1]) == task.codec.eos_id, "its end counts"
    assert found["value"] == pytest.approx(math.exp(total / tokens), rel=1e-4)


def test_evaluation_leaves_no_trace_in_the_random_state() -> None:
    """Else looking at dev would change training (law 3)."""
    task = bind(tagged_rows(8), tiny(dropout=0.3))
    policy = moved(task)
    torch.manual_seed(5)
    np.random.seed(5)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]
    evaluator(task).evaluate(policy, list(range(8)), TokenAccuracy(outside_weight=1.0))
    assert torch.equal(before, torch.get_rng_state())
    assert numpy_before == np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]
