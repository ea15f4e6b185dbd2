"""Rewards of tags against hand arithmetic, their sums, and their speed."""

from __future__ import annotations

import time
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlft_cli.errors import RlftError
from rlft_cli.metrics.spans import span_f1, spans
from rlft_cli.reward import Batch, Reward
from rlft_cli.reward.exact_span import ExactSpan
from rlft_cli.reward.f1_delta import F1Delta, potentials
from rlft_cli.reward.sentence_f1 import SentenceF1
from rlft_cli.reward.token_accuracy import TokenAccuracy

LABELS = ["O", "B-X", "I-X", "B-Y", "I-Y"]
Credit = Literal["close", "decided", "spread"]
tag_pairs = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), max_size=10)


def judge(reward: Reward, predictions: list[list[str]], references: list[list[str]]) -> Tensor:
    width = max(map(len, predictions))
    action = torch.tensor(
        [[LABELS.index(tag) for tag in row] + [0] * (width - len(row)) for row in predictions], dtype=torch.int64
    )
    mask = torch.tensor([[t < len(row) for t in range(width)] for row in predictions], dtype=torch.bool)
    return reward(action, mask, Batch(references=references, predictions=predictions, labels=LABELS))


def one(reward: Reward, prediction: str, reference: str) -> list[float]:
    return judge(reward, [prediction.split()], [reference.split()])[0].tolist()


def test_token_accuracy_by_hand() -> None:
    assert one(TokenAccuracy(outside_weight=1.0), "O B-X O B-Y", "O B-X B-X O") == [1, 1, 0, 0]
    assert one(TokenAccuracy(outside_weight=0.25), "O B-X O B-Y", "O B-X B-X O") == [0.25, 1, 0, 0]


def test_token_accuracy_of_a_tag_the_model_cannot_choose_is_zero() -> None:
    assert one(TokenAccuracy(outside_weight=1.0), "O B-X", "B-NEW B-X") == [0, 1]


def test_token_accuracy_refuses_lost_words() -> None:
    reward, action = TokenAccuracy(outside_weight=1.0), torch.zeros(2, 2, dtype=torch.int64)
    batch = Batch(references=[["O", "O"], ["O"]], predictions=[["O", "O"], ["O", "O"]], labels=LABELS)
    with pytest.raises(RlftError, match="episode 1: 2 decisions for 1 words"):
        reward(action, torch.ones(2, 2, dtype=torch.bool), batch)


# gold X at 0-1 and Y at 3; predicted X at 0 (wrong: too short), Y at 3 (right), X at 4-5 (wrong)
PREDICTED, GOLD = "B-X O O B-Y B-X I-X", "B-X I-X O B-Y O O"


@pytest.mark.parametrize(
    ("credit", "miss_penalty", "expected"),
    [
        ("close", 0.0, [-1, 0, 0, 1, 0, -1]),
        ("close", 0.5, [-1, -0.5, 0, 1, 0, -1]),  # the missed X at 0-1 ends at word 1
        ("decided", 0.0, [0, -1, 0, 0, 1, -1]),  # one word later, but the last at the end
        ("decided", 0.5, [0, -1, -0.5, 0, 1, -1]),
        ("spread", 0.0, [-1, 0, 0, 1, -0.5, -0.5]),
        ("spread", 0.5, [-1.25, -0.25, 0, 1, -0.5, -0.5]),
    ],
)
def test_exact_span_by_hand(credit: Credit, miss_penalty: float, expected: list[float]) -> None:
    assert one(ExactSpan(miss_penalty=miss_penalty, credit=credit), PREDICTED, GOLD) == expected


def test_exact_span_wants_the_type_too() -> None:
    assert one(ExactSpan(miss_penalty=0.5, credit="close"), "B-X I-X", "B-Y I-Y") == [0, -1.5]


@settings(max_examples=100, deadline=None)
@given(tag_pairs)
def test_exact_span_sums_to_right_minus_wrong_minus_missed(pairs: list[tuple[str, str]]) -> None:
    prediction, reference = [p for p, _ in pairs], [r for _, r in pairs]
    found, gold = spans(prediction), spans(reference)
    right = len(found & gold)
    expected = right - (len(found) - right) - 0.5 * (len(gold) - right)
    for credit in ("close", "decided", "spread"):
        reward = ExactSpan(miss_penalty=0.5, credit=credit)
        assert judge(reward, [prediction], [reference]).sum().item() == pytest.approx(expected, abs=1e-5)  # float32


def test_decided_credit_never_precedes_what_decides_it() -> None:
    """No reward before word t changes with the tags from t on: returns-to-go then give the exact gradient."""
    generator = np.random.default_rng(0)
    decided, close = ExactSpan(miss_penalty=0.5, credit="decided"), ExactSpan(miss_penalty=0.5, credit="close")
    looked_ahead = 0
    for _ in range(200):
        first, second, gold = generator.choice(LABELS, size=(3, 6)).tolist()
        t = int(generator.integers(1, 6))
        changed = first[:t] + second[t:]
        before = judge(decided, [first, changed], [gold, gold])[:, :t]
        assert torch.equal(before[0], before[1])
        ahead = judge(close, [first, changed], [gold, gold])[:, :t]
        looked_ahead += int(not torch.equal(ahead[0], ahead[1]))
    assert looked_ahead > 0  # the mutation twin: close does look ahead


def test_sentence_f1_by_hand() -> None:
    assert one(SentenceF1(), PREDICTED, GOLD) == [0, 0, 0, 0, 0, pytest.approx(2 * 1 / (3 + 2))]
    assert one(SentenceF1(), "O O", "O O") == [0, 1]  # rightly nothing
    assert one(SentenceF1(), "O B-X", "O O") == [0, 0]
    assert one(SentenceF1(), "O O", "O B-X") == [0, 0]


def test_sentence_f1_is_paid_at_each_rows_own_end() -> None:
    assert judge(SentenceF1(), [["B-X"], ["O", "B-X"]], [["B-X"], ["O", "B-X"]]).tolist() == [[1, 0], [0, 1]]


def test_f1_delta_by_hand() -> None:
    # gold X at 0-1: Phi = 0, then X at 0 alone: 0 of 1 and 1; X at 0-1: 2*1/2 = 1; then a wrong Y: 2*1/3
    assert potentials("B-X I-X B-Y".split(), "B-X I-X O".split()).tolist() == [0, 0, 1, pytest.approx(2 / 3)]
    assert one(F1Delta(), "B-X I-X B-Y", "B-X I-X O") == pytest.approx([0, 1, -1 / 3])
    # gold X at 0 alone: right after one word, spoilt by going on
    assert one(F1Delta(), "B-X I-X", "B-X O") == [1, -1]
    # nothing to find: starts at 1, lost with the first entity
    assert one(F1Delta(), "O B-X", "O O") == [0, -1]


@settings(max_examples=300, deadline=None)
@given(tag_pairs)
def test_f1_delta_is_the_change_of_f1_and_telescopes(pairs: list[tuple[str, str]]) -> None:
    prediction, reference = [p for p, _ in pairs], [r for _, r in pairs]
    phi = potentials(prediction, reference)
    assert phi.dtype == np.float64
    gold = spans(reference)
    by_definition = [span_f1(spans(prediction[:t] + ["O"] * (len(pairs) - t)), gold) for t in range(len(pairs) + 1)]
    assert phi.tolist() == pytest.approx(by_definition, abs=1e-12)
    assert np.diff(phi).sum() == pytest.approx(span_f1(spans(prediction), gold) - phi[0], abs=1e-12)
    total = judge(F1Delta(), [prediction], [reference]).sum().item()
    assert total == pytest.approx(by_definition[-1] - by_definition[0], abs=1e-6)  # as float32


def test_predictions_without_a_tag_per_word_are_refused() -> None:
    batch = Batch(references=[["O", "B-X"]], predictions=[["O"]], labels=LABELS)
    for reward in (SentenceF1(), F1Delta(), ExactSpan(miss_penalty=0.0, credit="close")):
        with pytest.raises(RlftError, match="1 predicted tags for 2 words"):
            reward(torch.zeros(1, 2, dtype=torch.int64), torch.ones(1, 2, dtype=torch.bool), batch)


def best_milliseconds(reward: Reward, repeats: int = 20) -> float:
    generator = np.random.default_rng(0)
    tags = ["O"] * 8 + LABELS[1:]
    references = generator.choice(tags, size=(64, 40)).tolist()
    predictions = generator.choice(tags, size=(64, 40)).tolist()
    action = torch.tensor([[LABELS.index(tag) for tag in row] for row in predictions])
    batch = Batch(references=references, predictions=predictions, labels=LABELS)
    mask, times = torch.ones(64, 40, dtype=torch.bool), []
    for _ in range(repeats):
        begin = time.perf_counter()
        reward(action, mask, batch)
        times.append(time.perf_counter() - begin)
    return min(times) * 1000


def test_rewards_of_a_large_batch_are_cheap() -> None:
    # about 0.4, 1.7, 1.8 and 5.8 ms for 64 x 40 decisions; several times that for slow machines
    assert best_milliseconds(TokenAccuracy(outside_weight=0.2)) < 3
    assert best_milliseconds(ExactSpan(miss_penalty=0.5, credit="close")) < 25
    assert best_milliseconds(SentenceF1()) < 25
    assert best_milliseconds(F1Delta()) < 40
