"""The sampler: every example once a pass, within the budget, and resumable anywhere."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlft_cli.sampler import BatchSampler, budget_batches

COSTS = st.lists(st.integers(1, 60), min_size=1, max_size=80)


def one_pass(sampler: BatchSampler) -> list[list[int]]:
    batches, ended = [], False
    while not ended:
        batch, ended = sampler.next()
        batches.append(batch)
    return batches


@settings(max_examples=80, deadline=None)
@given(cost=COSTS, tokens=st.integers(1, 200), most=st.integers(1, 12), seed=st.integers(0, 99))
def test_each_example_once_a_pass_and_the_budget_kept(cost: list[int], tokens: int, most: int, seed: int) -> None:
    ids = [1000 + 7 * n for n in range(len(cost))]
    sampler = BatchSampler(ids, cost, batch_tokens=tokens, most=most, seed=seed)
    price = dict(zip(ids, cost, strict=True))
    for _ in range(3):
        batches = one_pass(sampler)
        assert Counter(i for batch in batches for i in batch) == Counter(ids)
        for batch in batches:
            assert 1 <= len(batch) <= most
            assert len(batch) == 1 or max(price[i] for i in batch) * len(batch) <= tokens


@settings(max_examples=80, deadline=None)
@given(cost=COSTS, tokens=st.integers(1, 200), most=st.integers(1, 12))
def test_budget_batches_are_as_full_as_their_order_allows(cost: list[int], tokens: int, most: int) -> None:
    order = list(range(len(cost)))
    batches = list(budget_batches(order, cost, tokens, most))
    assert [place for batch in batches for place in batch] == order
    for batch, following in itertools.pairwise(batches):
        longer = [*batch, following[0]]
        assert len(longer) > most or max(cost[p] for p in longer) * len(longer) > tokens


def test_passes_differ_and_the_seed_decides() -> None:
    def passes(seed: int) -> list[list[list[int]]]:
        sampler = BatchSampler(range(50), [5] * 50, batch_tokens=20, most=4, seed=seed)
        return [one_pass(sampler) for _ in range(2)]

    first, second = passes(3)
    assert first != second
    assert passes(3) == [first, second] and passes(4) != [first, second]


def test_examples_of_like_length_come_together() -> None:
    cost = np.random.default_rng(0).integers(5, 60, size=2000).tolist()
    batches = one_pass(BatchSampler(range(2000), cost, batch_tokens=500, most=64, seed=1))
    padded = sum(max(cost[i] for i in batch) * len(batch) for batch in batches)
    assert padded < 1.1 * sum(cost)
    short = [max(cost[i] for i in batch) for batch in batches]
    assert short != sorted(short), "batches come in a random order, not the short ones first"


@pytest.mark.parametrize("stop", [0, 1, 5, 12, 13, 30])
def test_a_place_is_found_again(stop: int) -> None:
    def made(seed: int = 2) -> BatchSampler:
        return BatchSampler(range(40), list(range(1, 41)), batch_tokens=80, most=8, seed=seed)

    through = made()
    for _ in range(stop):
        through.next()
    again = made()
    again.load_state_dict(through.state_dict())
    assert [again.next() for _ in range(40)] == [through.next() for _ in range(40)]


def test_length_is_that_of_a_pass() -> None:
    assert len(BatchSampler(range(7), [1] * 7, batch_tokens=3, most=3, seed=0)) == 7
