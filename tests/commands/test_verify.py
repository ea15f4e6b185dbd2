"""rlft verify: rows and exit status; shipped algorithms hold, a user's own is put through the same, a wrong one fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from thinned import every_other, thinned

from rlft_cli.cli import main
from rlft_cli.config import config_folder
from rlft_cli.options import Library

TOP = Path(__file__).parent.parent.parent
KEYS = ["object", "oracle", "error", "tolerance", "verdict"]
OWN = '''
"""A policy gradient of one's own."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from rlft_cli.episode import Trajectory
from rlft_cli.model import Output
from rlft_cli.returns import action_log_prob, returns_to_go


@dataclass(frozen=True, kw_only=True)
class Own:
    on_policy: ClassVar[bool] = True
    needs: ClassVar[str] = "rewards"
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens")
    samples: ClassVar[int] = 1
    epochs: ClassVar[int] = 1

    gamma: Annotated[float, "[0, 1]"]
    state: dict[str, Tensor] = field(init=False, default_factory=dict)

    @property
    def reads(self) -> frozenset[str]:
        return frozenset()

    @property
    def uses_target(self) -> bool:
        return False

    def values(self, scores: Tensor) -> Tensor:
        return scores

    def prepare(self, trajectory: Trajectory) -> Trajectory:
        reward = trajectory.reward
        return replace(trajectory, advantage=returns_to_go(REWARD, trajectory.mask, self.gamma))

    def loss(self, output: Output, trajectory: Trajectory, target: Output | None) -> Tensor:
        loss = -trajectory.advantage * action_log_prob(output.scores, trajectory.action)
        return LOSS
'''


def process(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{TOP}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "rlft_cli", "verify", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def rows(output: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in output.splitlines()]


def write_own(folder: Path, reward: str = "reward", loss: str = "loss") -> list[str]:
    (folder / "algo").mkdir()
    name = f"own_{abs(hash((reward, loss)))}"  # a module is imported once in a process
    (folder / f"{name}.py").write_text(OWN.replace("REWARD", reward).replace("LOSS", loss), encoding="utf-8")
    text = f"# One's own.\n_target_: {name}.Own\n# Weight of later rewards, 0 to 1.\ngamma: 1.0\n"
    (folder / "algo" / "own.yaml").write_text(text, encoding="utf-8")
    return ["--config-dir", str(folder), "algo=own"]


@pytest.mark.slow
def test_json_rows_have_the_five_keys(tmp_path: Path) -> None:
    done = process(tmp_path, "only=KL", "console=json")
    assert done.returncode == 0, done.stderr
    found = rows(done.stdout)
    assert len(found) >= 8 and all(list(row) == KEYS for row in found)
    assert {row["verdict"] for row in found} == {"holds"}
    assert all(isinstance(row["error"], float) and row["error"] <= row["tolerance"] for row in found)
    assert list(tmp_path.iterdir()) == [], "nothing is written"


@pytest.mark.slow
def test_a_wrong_algorithm_of_ones_own_fails(tmp_path: Path) -> None:
    """Credit for the reward at hand only: right for one decision, wrong for a reward at the end."""
    words = write_own(tmp_path, reward="reward, trajectory.mask, 0.0) + 0 * returns_to_go(reward")
    done = process(tmp_path, *words, "console=json")
    assert done.returncode == 1, done.stderr
    verdicts = {row["object"]: row["verdict"] for row in rows(done.stdout)}
    assert verdicts["expected gradient of one decision"] == "holds"
    assert verdicts["expected gradient of a reward at the end"] == "fails"
    assert done.stderr.startswith("rlft: error: 1 of 6 oracles fail: expected gradient of a reward at the end")
    assert "Traceback" not in done.stderr


def verify(*words: str) -> int:
    return main(["verify", *words, "console=json"])


ALGORITHMS = Library([config_folder()]).options["algo"]


@pytest.mark.parametrize("algo", thinned(ALGORITHMS, lambda algo: algo in ("reinforce", "supervised", "dpo")))
def test_every_shipped_algorithm_holds_as_it_is_set(algo: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(f"algo={algo}") == 0, capsys.readouterr()
    assert len(rows(capsys.readouterr().out)) >= 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "count"),
    every_other(
        [
            (["algo=reinforce", "algo.gamma=1", "algo.samples=2", "algo.baseline=self_critical"], 6),
            (
                [
                    "algo=reinforce",
                    "algo.samples=1",
                    "algo.baseline=moving_average",
                    "algo.credit=episode",
                    "algo.gamma=1",
                ],
                6,
            ),
            (
                [
                    "algo=reinforce",
                    "algo.samples=1",
                    "algo.baseline=value",
                    "algo.gamma=1",
                    "algo.entropy_coefficient=0",
                ],
                6,
            ),
            (["algo=actor_critic", "algo.samples=1", "algo.gamma=1", "algo.gae_lambda=0.5"], 6),
            (["algo=ppo", "algo.samples=1", "algo.gamma=1", "algo.gae_lambda=0.5", "algo.value_clip_range=0.2"], 6),
            (["algo=grpo", "algo.samples=2", "algo.gamma=1", "algo.credit=episode"], 6),
            (["algo=dqn", "algo.gamma=0.8", "algo.loss_kind=mse", "algo.backup=max"], 6),
            (["algo=dqn", "algo.gamma=1", "algo.loss_kind=huber", "algo.backup=soft"], 3),
        ]
    ),
)
def test_other_settings_hold(words: list[str], count: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(*words) == 0, capsys.readouterr()
    assert len(rows(capsys.readouterr().out)) == count


def test_what_must_not_hold_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    """Off-policy n-step targets of a max backup do not settle at Q* (METHODS 2.3)."""
    assert verify("algo=dqn", "algo.gamma=0.8", "algo.loss_kind=mse", "algo.backup=max", "algo.n_step=3") == 1
    assert "1 of 6 oracles fail: fixed point" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({"loss": "loss.mean().expand_as(loss)"}, "loss is [N, T], each episode's its own"),
        ({"loss": "loss.mean()"}, "loss is [N, T], each episode's its own"),
        ({"loss": "loss * len(loss)"}, "loss of a batch in parts"),
        ({"reward": "reward - reward.mean()"}, "NaN in decisions that do not exist"),
        ({"loss": "-loss"}, "expected gradient of one decision"),
        (
            {"loss": "loss * (trajectory.action + 1)"},
            "expected gradient of one decision",
        ),
    ],
)
def test_each_fault_has_its_row(
    change: dict[str, str],
    broken: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    assert verify(*write_own(tmp_path, **change)) == 1
    verdicts = {row["object"]: row["verdict"] for row in rows(capsys.readouterr().out)}
    assert verdicts[broken] == "fails"


def test_an_algorithm_of_ones_own_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["verify", *write_own(tmp_path), "console=plain"]) == 0, capsys.readouterr()
    out = capsys.readouterr().out
    assert "object" in out and "verdict" in out and out.count("holds") == 6


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["only=nothing like this"], "no oracle has this"),
        (["algo=reinforce", "algo.samples=64"], "type algo.samples=8"),
        (["onyl=kl"], "did you mean only"),
        (["algo=reinforc"], "did you mean algo=reinforce"),
        (["algo=reinforce", "algo.gamma=2"], "a number in [0, 1]"),
    ],
)
def test_wrong_use_is_refused(words: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(*words) == 2
    assert text in capsys.readouterr().err
