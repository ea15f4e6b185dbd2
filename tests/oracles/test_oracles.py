"""Every oracle holds for what ships and fails for its mutation twins (METHODS 7.0); the form of the suite."""

from __future__ import annotations

import importlib
import math
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from thinned import thinned

from rlft_cli.oracles import Finding, Oracle, oracles

TWINS = Path(__file__).parent / "twins"
SECONDS = 120  # of processor time, for all of them (issue 3)
LONG = {  # whole runs and many draws, a second and more
    "thompson",
    "epsilon_constant",
    "epsilon_inverse",
    "ucb1",
    "dqn_replay",
    "dqn_n_step",
    "prioritised_draws",
    "search_whole",
    "leave_one_out_variance",
}
ROWS = {*range(1, 41)} - {19, 38, 39}  # 19 are twins of 15; EWC, FGM and KD do not exist yet


@cache
def twins(module: str) -> dict[str, list[Any]]:
    """Wrong subjects by the name of the oracle, from the file that mirrors the module of rlft_cli/oracles/."""
    loaded = importlib.import_module(f"oracles.twins.{module}")  # tests/ is on the path
    found: dict[str, list[Any]] = loaded.TWINS
    return found


def home(oracle: Oracle) -> str:
    return oracle.distance.__module__.rpartition(".")[2]


def mutations() -> list[Any]:
    found = [(oracle, n) for oracle in oracles() for n in range(len(twins(home(oracle)).get(oracle.name, [None])))]
    return [
        pytest.param(oracle, n, id=f"{oracle.name}-{n}", marks=[pytest.mark.slow] if n or oracle.name in LONG else [])
        for oracle, n in found
    ]


@cache
def measured(name: str) -> tuple[Finding, float]:
    """What an oracle finds, and its seconds of processor time."""
    (oracle,) = [oracle for oracle in oracles() if oracle.name == name]
    before = time.process_time()
    return oracle.verify(), time.process_time() - before


@pytest.mark.parametrize("name", thinned([oracle.name for oracle in oracles()], lambda name: name not in LONG))
def test_what_ships_holds(name: str) -> None:
    found, _ = measured(name)
    assert found.holds, f"{found.error} > {found.tolerance}"


@pytest.mark.parametrize("name", ["reinforce_moving_average", "propensity_sample", "replay_even"])
def test_the_error_is_the_same_every_time(name: str) -> None:
    (oracle,) = [oracle for oracle in oracles() if oracle.name == name]
    assert oracle.verify() == measured(name)[0]


@pytest.mark.parametrize(("oracle", "n"), mutations())
def test_a_mutation_fails(oracle: Oracle, n: int) -> None:
    subjects = twins(home(oracle)).get(oracle.name)
    assert subjects, f"tests/oracles/twins/{home(oracle)}.py has no twin of {oracle.name}"
    assert not oracle.distance(subjects[n]) <= 2 * oracle.tolerance, "a wrong variant passes: the oracle proves nothing"


def test_twins_are_of_oracles() -> None:
    names = {oracle.name for oracle in oracles()}
    assert len(names) == len(oracles())
    held = {name for path in TWINS.glob("*.py") for name in twins(path.stem)}
    assert held - names == set()


def test_every_row_of_the_table_is_there() -> None:
    assert ROWS - {oracle.row for oracle in oracles()} == set()


@pytest.mark.slow
def test_all_together_take_less_than_two_minutes() -> None:
    assert sum(measured(oracle.name)[1] for oracle in oracles()) < SECONDS


@pytest.mark.parametrize(
    ("error", "holds"), [(0.5, True), (1.0, True), (1.1, False), (math.nan, False), (math.inf, False)]
)
def test_an_error_that_is_no_number_does_not_hold(error: float, holds: bool) -> None:
    assert Finding(object="a", oracle="b", error=error, tolerance=1.0).holds == holds
