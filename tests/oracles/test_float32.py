"""The oracles with problem and subject in float32, as training computes, within a looser tolerance; wrong subjects fail still."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from functools import _lru_cache_wrapper
from types import ModuleType
from typing import Any

import pytest
import torch

import rlft_cli.oracles
from rlft_cli.oracles import Oracle, oracles
from rlft_cli.oracles.toys.chain import chain
from rlft_cli.oracles.toys.replies import replies
from rlft_cli.oracles.toys.tagging import sentence

TOLERANCE = 1e-5  # 80 times the spacing of float32 at 1: sums over 153 sequences, or over 400 steps of Adam
LOOSER = {
    "kl_k2": 2e-2,  # a difference of log-probabilities that are nearly the same, over another such
    "dpo_optimum": 1e-3,  # where gradients that are nearly 0 lead
}
SLOW = {"dqn", "dqn_double", "dqn_gamma_0", "dqn_n_step", "dqn_replay", "dqn_soft_learns", "quantiles"}  # fitted tables
SLOW |= {"bradley_terry", "cql_value", "leave_one_out_variance"}


def exact() -> list[Oracle]:
    """Oracles of tensors: not of an order or a count (tolerance 0), of statistics of draws (1 and more), or of spans (row 40)."""
    return [oracle for oracle in oracles() if 0 < oracle.tolerance < 1 and oracle.row != 40]


def modules() -> list[ModuleType]:
    names = pkgutil.walk_packages(rlft_cli.oracles.__path__, f"{rlft_cli.oracles.__name__}.")
    return [importlib.import_module(found.name) for found in names]


def forget() -> None:
    """Problems are made once and kept."""
    for module in modules():
        for value in vars(module).values():
            if isinstance(value, _lru_cache_wrapper):
                value.cache_clear()


@pytest.fixture(scope="module", autouse=True)
def single() -> Iterator[None]:
    """Every problem in float32."""
    with pytest.MonkeyPatch.context() as patch:
        for module in modules():
            if "D" in vars(module):
                patch.setattr(module, "D", torch.float32)
        forget()
        yield
    forget()


def cases(slow: bool) -> list[Any]:
    marks = [pytest.mark.slow]
    return [
        pytest.param(oracle, id=oracle.name, marks=marks if oracle.name in SLOW else [])
        for oracle in exact()
        if slow or oracle.name not in SLOW
    ]


def tolerance(oracle: Oracle) -> float:
    return LOOSER.get(oracle.name, max(TOLERANCE, oracle.tolerance))


def test_the_problems_are_in_float32() -> None:
    assert {sentence().theta.dtype, chain().reward.dtype, replies().reference.dtype} == {torch.float32}
    assert len(exact()) > 50
    assert LOOSER.keys() | SLOW <= {oracle.name for oracle in exact()}


@pytest.mark.parametrize("oracle", cases(slow=True))
def test_what_ships_holds_in_float32(oracle: Oracle) -> None:
    assert oracle.distance(oracle.subject) <= tolerance(oracle)


@pytest.mark.slow
@pytest.mark.parametrize("oracle", cases(slow=False))
def test_a_mutation_fails_in_float32(oracle: Oracle) -> None:
    twins = importlib.import_module(f"oracles.twins.{oracle.distance.__module__.rpartition('.')[2]}").TWINS
    assert not oracle.distance(twins[oracle.name][0]) <= 2 * tolerance(oracle)
