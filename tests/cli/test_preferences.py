"""From comparisons to a reward model to a policy that it teaches; DPO; and rewards that fail while a run is on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

import toy_rewards
from rlft_cli.commands.pipeline import gain_over

TINY = (
    "model=tiny", "model.width=32", "model.layers=1", "model.max_tokens=64", "tuning=full", "hardware=cpu",
    "hardware.precision=fp32", "hardware.threads=1", "evaluation.bootstrap=10", "console=plain", "data=files",
)  # fmt: skip
LIMITS = ("task.max_prompt_tokens=24", "task.max_reply_tokens=8")
NAMES = ("Anna", "Bob", "Clara", "Dirk")
KIND, RUDE = ("fine", "glad", "happy"), ("never", "go", "bad")


def comparison(n: int) -> dict[str, str]:
    """Kind words are preferred to rude ones."""
    asked = f"User: how is {NAMES[n % 4]} on day {n % 5}"
    return {
        "prompt": asked,
        "chosen": f"{KIND[n % 3]} {KIND[n // 3 % 3]}",
        "rejected": f"{RUDE[n // 2 % 3]} {RUDE[n % 3]}",
    }


def text(n: int) -> dict[str, str]:
    kind = ("rain", "sun", "wind")[n % 3]
    return {"text": f"there is {kind} on day {n}", "label": kind}


def write(folder: Path, row: Any, train: int = 48) -> None:
    folder.mkdir()
    for split, first, count in (("train", 0, train), ("dev", 100, 6), ("test", 200, 12)):
        lines = [json.dumps(row(n)) for n in range(first, first + count)]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")


def result(run: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(run, "result.json").read_text())
    return found


@pytest.mark.slow
def test_from_comparisons_to_a_policy(rlft: Any) -> None:
    """Stage 2 and 3 of three, then DPO in their place, with the checkpoints of one as the start of another."""
    write(Path("pairs"), comparison)
    files = (*TINY, *LIMITS, "data.dir=pairs")
    learned = rlft(
        "train", "task=preference", *files, "optim.lr=1e-2", "optim.head_lr=1e-2", "passes=4", "run_dir=judge"
    )
    assert learned.status == 0, learned
    accuracy = result("judge")["test"]["accuracy"]
    assert accuracy["value"] > 0.9 and accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    taught = rlft(
        "train", "task=dialogue", "algo=reinforce", *files, "reward=reward_model", "reward.checkpoint=judge",
        "reward.samples=16", "reward.contract=alone", "warm_start.fraction=0", "passes=3", "optim.lr=1e-2",
        "optim.warmup_fraction=0", "algo.kl_coefficient=0.01", "selection.every_passes=3", "run_dir=policy",
    )  # fmt: skip
    assert taught.status == 0, taught
    found, stored = result("policy"), yaml.safe_load(Path("policy/config.yaml").read_text())["reward"]
    # 0 is the mean and 1 the spread over replies of the policy as it began, which therefore it left behind
    assert found["test"]["reward"]["value"] > 0.5
    looks = [json.loads(line) for line in Path("policy/metrics.jsonl").read_text().splitlines()]
    away, looks = found["from_reference"], [row for row in looks if "dev.kl" in row and row["phase"] == "main"]
    assert away["kl"]["value"] == looks[-1]["dev.kl"] > away["kl"]["low"] > 0  # far from where it began
    assert away["sampled_reward"]["value"] == looks[-1]["dev.sampled_reward"] > 0
    assert "from_reference" not in result("judge")
    assert isinstance(stored["centre"], float) and stored["scale"] > 0
    again = rlft(
        "eval", "checkpoint=policy", "split=test", "hardware=cpu", "evaluation.bootstrap=10", "output=again.json"
    )
    assert again.status == 0, again
    assert json.loads(Path("again.json").read_text())["test"]["reward"] == found["test"]["reward"]
    matched = (*files, "data.match_lengths=true")  # as they are all
    compared = rlft("train", "task=dialogue", "algo=dpo", *matched, "init=policy", "passes=1", "run_dir=dpo")
    assert compared.status == 0, compared
    assert "rouge_l" in gain_over(Path("dpo"), Path("policy"), "dev")  # as a stage of a pipeline is measured
    assert result("dpo")["used"]["label_examples"] == 48
    judged = rlft("train", "task=preference", *files, "init=dpo", "passes=0.1", "run_dir=judge2")
    assert judged.status == 0, judged
    Path("judge").rename("elsewhere")
    alone = rlft("eval", "checkpoint=policy", "split=test", "hardware=cpu", "evaluation.bootstrap=10")
    assert alone.status == 0 and "without the reward" in alone.out + alone.err  # law 4
    Path("ask.jsonl").write_text(json.dumps(comparison(3)) + "\n")
    asked = rlft("predict", "checkpoint=elsewhere", "input=ask.jsonl", "hardware=cpu")
    assert json.loads(asked.out)["preferred"] == "chosen", asked


def weights_of(run: str) -> dict[str, Any]:
    folder = Path(run, "checkpoint")
    return {file: load_file(folder / file) for file in ("model.safetensors", "heads.safetensors")}


@pytest.mark.slow
def test_a_reward_that_fails_costs_nothing(rlft: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 3 through a failing reward, in the midst of training and in an evaluation: mended and resumed, all is the same."""
    write(Path("texts"), text, train=24)
    words = (
        "train", "task=classification", "algo=reinforce", *TINY, "data.dir=texts", "reward=function",
        "reward.path=toy_rewards.fragile", "passes=2", "optim.max_batch_episodes=6", "optim.lr=1e-2",
    )  # fmt: skip
    monkeypatch.setattr(toy_rewards.fragile, "calls", 0)
    monkeypatch.setattr(toy_rewards.fragile, "fails_at", None)
    assert rlft(*words, "run_dir=whole").status == 0
    total = toy_rewards.fragile.calls
    for fails_at in (3, total // 2, total - 2):  # training, training or dev, the last evaluation on dev
        monkeypatch.setattr(toy_rewards.fragile, "calls", 0)
        monkeypatch.setattr(toy_rewards.fragile, "fails_at", fails_at)
        run = f"failed{fails_at}"
        rlft(*words, f"run_dir={run}").refused(
            1, "the reward function toy_rewards.fragile raised ConnectionError: gone", f"rlft train resume={run}"
        )
        monkeypatch.setattr(toy_rewards.fragile, "fails_at", None)
        assert rlft("train", f"resume={run}", "console=plain").status == 0
        for file, tensors in weights_of("whole").items():
            other = weights_of(run)[file]
            assert all(tensor.equal(other[name]) for name, tensor in tensors.items()), (fails_at, file)
        assert result(run)["test"] == result("whole")["test"]
        assert result(run)["used"] == result("whole")["used"]


def test_a_reward_is_held_to_its_contract_before_anything_is_made(rlft: Any) -> None:
    write(Path("pairs"), comparison)
    words = (
        "train",
        "task=dialogue",
        "algo=reinforce",
        *TINY,
        *LIMITS,
        "data.dir=pairs",
        "reward=function",
        "run_dir=run",
    )
    found = rlft(*words, "reward.path=toy_rewards.not_a_number")
    found.refused(1, "the reward function toy_rewards.not_a_number gave nan for reply 2 of")
    found = rlft(*words, "reward.path=toy_rewards.constant")
    found.refused(1, "reward=function breaks the contract of a reward: it pays 0.5 for each of 64 different replies")
    assert not Path("run").exists()
    found = rlft(*words, "reward.path=toy_rewards.letters", "reward.contract=reference", "passes=0.1")
    assert found.status == 0, found
    assert "warning: reward=function: 32 references and as many replies to other contexts cannot tell" in found.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("task=dialogue", "algo=reward_model"), "algo=reward_model is for pairs"),
        (("task=preference", "algo=dpo"), "algo=dpo is for tokens"),
        (("task=preference", "algo=reward_model", "feedback=bandit"), "feedback=bandit"),
        (("task=dialogue", "algo=reinforce", "reward=reward_model"), "reward.checkpoint: must be given"),
        (("task=dialogue", "algo=reinforce", "reward=http", "reward.url=x", "reward.retries=-1"), "reward.retries"),
        (("task=ner", "reward=length"), "reward=length is for tokens"),
    ],
)
def test_choices_that_do_not_fit_are_refused_at_once(rlft: Any, words: tuple[str, ...], message: str) -> None:
    found = rlft("train", *words)
    assert found.status == 2 and message in found.err, found
