"""Exploration against exact oracles (METHODS 7.1, rows 31 to 34), each with twins that fail."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from rlft_cli.oracles.exploration import ORACLES

TWINS: dict[str, list[Any]] = importlib.import_module("oracles.twins.exploration").TWINS


@pytest.mark.parametrize("oracle", ORACLES, ids=lambda oracle: oracle.name)
def test_holds(oracle: Any) -> None:
    found = oracle.verify()
    assert found.holds, f"{found.error} > {found.tolerance}"


@pytest.mark.parametrize(("name", "n"), [(name, n) for name, some in TWINS.items() for n in range(len(some))])
def test_a_twin_fails(name: str, n: int) -> None:
    oracle = next(oracle for oracle in ORACLES if oracle.name == name)
    assert not oracle.distance(TWINS[name][n]) <= 10 * oracle.tolerance


def test_every_row_and_oracle_is_there() -> None:
    assert {oracle.row for oracle in ORACLES} == {31, 32, 33, 34}
    assert {oracle.name for oracle in ORACLES} == TWINS.keys()
