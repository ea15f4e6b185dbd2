"""Expected gradients of the policy-based algorithms, and of wrong variants of them."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from rlft_cli.oracles import Oracle
from rlft_cli.oracles.policy_algorithms import ORACLES

TWINS: dict[str, list[Any]] = importlib.import_module("oracles.twins.policy_algorithms").TWINS  # tests/ is on the path


@pytest.mark.parametrize("oracle", ORACLES, ids=lambda oracle: oracle.name)
def test_expected_gradient(oracle: Oracle) -> None:
    found = oracle.verify()
    assert found.holds, f"{found.error} > {found.tolerance}"
    assert TWINS[oracle.name]
    for wrong in TWINS[oracle.name]:
        assert not oracle.distance(wrong) <= 10 * oracle.tolerance, "a wrong variant passes: the oracle proves nothing"
