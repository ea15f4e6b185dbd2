"""rlft verify: what ships, or one algorithm, against exact oracles; one row each: object, oracle, error, tolerance, verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence

from omegaconf import DictConfig

from rlft_cli.console import Cell, Console
from rlft_cli.errors import RlftError, UsageError
from rlft_cli.oracles import Finding, Oracle, oracles
from rlft_cli.oracles.algorithms import checks
from rlft_cli.pipeline import build, plain

COLUMNS = ["object", "oracle", "error", "tolerance", "verdict"]


def run(config: DictConfig, console: Console) -> None:
    """Verify and print; RlftError where an oracle fails, UsageError where there is nothing to verify."""
    suite = _selected(oracles() if config.algo is None else _of_algorithm(config), config.only)
    if console.mode != "json":
        console.line(f"{len(suite)} oracles in float64; all that ships take about a minute")
    found: list[Finding] = []
    for oracle in suite:
        found.append(oracle.verify())
        if console.mode == "json":
            console.row(dict(zip(COLUMNS, cells(found[-1]), strict=True)))
    if console.mode != "json":
        title = "what ships" if config.algo is None else str(config.algo["_target_"])
        console.table(title, COLUMNS, [cells(finding) for finding in found])
    failed = [finding.object for finding in found if not finding.holds]
    if failed:
        raise RlftError(f"{len(failed)} of {len(found)} oracles fail: {'; '.join(failed)}")


def cells(finding: Finding) -> list[Cell]:
    """One row; an error that is not a number is null."""
    error = finding.error if math.isfinite(finding.error) else None
    return [finding.object, finding.oracle, error, finding.tolerance, "holds" if finding.holds else "fails"]


def _of_algorithm(config: DictConfig) -> list[Oracle]:
    settings = plain(config.algo)
    return checks(build(settings), settings)


def _selected(suite: Sequence[Oracle], only: str | None) -> list[Oracle]:
    if only is None:
        return list(suite)
    text = only.lower()
    found = [one for one in suite if any(text in part.lower() for part in (one.name, one.object, one.oracle))]
    if not found:
        names = ", ".join(oracle.name for oracle in suite)
        raise UsageError(f"only={only}: no oracle has this in its name, object or truth; the names are {names}")
    return found
