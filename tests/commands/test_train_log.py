"""What `rlft train` says while it trains, of a run that is made up."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rlft_cli.commands.train_log import against_few_samples, log, show_baselines
from rlft_cli.commands.train_state import Run
from rlft_cli.console import Console
from rlft_cli.learner import Progress


@pytest.mark.parametrize(
    ("break_even", "samples", "told"),
    [
        (None, 4, None),
        (1.0, 2, None),
        (3.9, 4, None),
        (4.0, 4, "type algo.samples=5 or algo.baseline=moving_average"),
        (5.5, 4, "type algo.samples=6 or algo.baseline=moving_average"),
        (1e6, 4, "type algo.baseline=moving_average"),
    ],
)
def test_leave_one_out_needs_more_samples_than_the_break_even(
    break_even: float | None, samples: int, told: str | None
) -> None:
    found = against_few_samples({} if break_even is None else {"break_even": break_even}, samples)
    assert found is None if told is None else found is not None and found.endswith(told)


def test_too_few_samples_are_logged_always_and_said_once(tmp_path: Path) -> None:
    said = io.StringIO()
    parts: Any = SimpleNamespace()
    run = Run(folder=tmp_path, config=parts, setup=parts, console=Console("plain", stream=said), reward=parts)
    training: Any = SimpleNamespace(
        optim=SimpleNamespace(lr=1.0, factor=lambda done: 1.0),
        algorithm=SimpleNamespace(samples=4),
        decided=0,
        target=None,
    )
    for step in (10, 20, 30):
        run.window = [{"break_even": 9.0}, {"break_even": 11.0}]
        log(run, training, Progress(step=step, passes=1.0, done=0.5, pass_ended=False, signals={}))
    assert said.getvalue().count("warning") == 1 and "algo.samples=11" in said.getvalue()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["break_even"] for line in lines] == [10.0] * 3


def test_policies_that_a_task_brings_along_stand_beside_the_trained_one() -> None:
    said = io.StringIO()
    names = {"trained": 0.75, "hand_written": 0.5, "random": 0.125}
    found = {name: {"success": {"value": v, "low": v - 0.0625, "high": v + 0.0625}} for name, v in names.items()}
    others = {name: metrics for name, metrics in found.items() if name != "trained"}
    show_baselines(Console("plain", stream=said), found["trained"], others, "success")
    told = [line.split() for line in said.getvalue().splitlines()][-3:]
    assert {name: float(value) for name, value, _, _ in told} == names
    assert [name for name, *_ in told] == list(names), "the trained one comes first"
