"""rlft eval against=: one checkpoint before another on the same examples."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

CPU = ("hardware=cpu", "hardware.threads=1", "evaluation.bootstrap=50")


def test_a_checkpoint_against_another(rlft: Any, world: Path, here: Path) -> None:
    """The difference is that of the two evaluations, whoever comes first; against itself there is none."""
    run, other = world / "ner_run", Path(shutil.copytree(world / "ner_run", here / "other"))
    heads = other / "checkpoint/heads.safetensors"
    noise = torch.Generator().manual_seed(1)
    moved = {name: w + 0.3 * torch.randn(w.shape, generator=noise) for name, w in load_file(heads).items()}
    save_file(moved, heads)
    done = rlft("eval", f"checkpoint={run}", f"against={other}", "output=one.json", "console=json", *CPU)
    assert done.status == 0, done
    assert rlft("eval", f"checkpoint={other}", f"against={run}", "output=two.json", *CPU).status == 0
    one, two = (json.loads(Path(name).read_text()) for name in ("one.json", "two.json"))
    assert one["test"] == two["against"]["test"]
    for name, gap in one["against"]["difference"].items():
        values = [found["test"].get(name, {"value": 0.0})["value"] for found in (one, two)]
        assert abs(gap["value"] - (values[0] - values[1])) < 1e-9, name
    wins = [found["against"]["win_rate"]["value"] for found in (one, two)]
    assert sum(wins) == 1 and wins[0] != 0.5
    rows = [json.loads(line) for line in done.out.splitlines()]
    told = next(row for row in rows if row.get("metric") == "f1" and "difference" in row)
    assert told["difference"] == one["against"]["difference"]["f1"]["value"]


def test_sampled_replies_and_how_far_one_policy_is_from_another(rlft: Any, world: Path, here: Path) -> None:
    run, other = world / "dialogue_run", Path(shutil.copytree(world / "dialogue_run", here / "other"))
    weights, noise = other / "checkpoint/model.safetensors", torch.Generator().manual_seed(1)
    moved = {name: w + 0.02 * torch.randn(w.shape, generator=noise) for name, w in load_file(weights).items()}
    save_file(moved, weights, metadata={"format": "pt"})
    drawn = ("decode=sample", "console=json", *CPU)
    done = rlft("eval", f"checkpoint={other}", f"against={run}", "output=away.json", *drawn)
    assert done.status == 0, done
    assert rlft("eval", f"checkpoint={run}", f"against={run}", "output=same.json", *drawn).status == 0
    away, same = (json.loads(Path(name).read_text()) for name in ("away.json", "same.json"))
    assert away["decode"] == "sample" and away["decode_settings"]["seed"] == 1
    assert away["against"]["kl"]["value"] > 0.01 > abs(same["against"]["kl"]["value"])
    assert away["against"]["predictions"] == same["predictions"] != away["predictions"]
    assert len(away["predictions"]) == len(away["references"]) == 8
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row["kl"] for row in rows if "kl" in row] == [away["against"]["kl"]["value"]]
    told = [row["checkpoint"] for row in rows if row.get("table") == "the first replies"]
    assert told == away["predictions"][:5]
    greedy = [json.loads(line) for line in (run / "test_predictions.jsonl").read_text().splitlines()]
    assert [one["reference"] for one in greedy] == away["references"]


def test_wins_are_counted_by_the_reward_that_is_given(rlft: Any, world: Path, here: Path) -> None:
    run = world / "dialogue_run"
    done = rlft("eval", f"checkpoint={run}", f"against={run}", "reward=chrf", "output=same.json", *CPU)
    assert done.status == 0, done
    found = json.loads(Path("same.json").read_text())
    assert found["against"]["win_rate"] == {"value": 0.5, "low": 0.5, "high": 0.5}
    assert found["against"]["kl"] is None, "greedy replies are no draws from the policy"
    assert all(gap == {"value": 0, "low": 0, "high": 0} for gap in found["against"]["difference"].values())
    stored = json.loads((run / "result.json").read_text())["test"]
    assert found["test"]["rouge_l"]["value"] == stored["rouge_l"]["value"]
    assert found["test"]["reward"]["value"] != stored["reward"]["value"], "chrF and not ROUGE-L"


def test_a_reward_without_data_is_in_the_language_of_the_checkpoint(rlft: Any, world: Path, here: Path) -> None:
    run = world / "dialogue_run"
    done = rlft("eval", f"checkpoint={run}", "reward=rouge_l", "output=told.json", "evaluation.max_examples=4", *CPU)
    assert done.status == 0, done
    found = json.loads(Path("told.json").read_text())["test"]
    assert found["reward"]["value"] == found["rouge_l"]["value"]
    done = rlft("eval", f"checkpoint={run}", "reward=rouge_l", "reward.language=${data.lang}", *CPU)
    done.refused(2, "reward.language: the data of the checkpoint's run do not tell it; type reward.language=...")


def test_replies_before_and_after_training_stand_side_by_side(world: Path) -> None:
    samples = json.loads((world / "dialogue_run" / "result.json").read_text())["samples"]
    assert len(samples) == 8 and all(set(one) == {"before", "reply", "reference"} for one in samples)
    assert any(one["before"] != one["reply"] for one in samples)


def test_wrong_pairs_are_refused(rlft: Any, world: Path) -> None:
    talk = world / "dialogue_run"
    rlft("eval", f"checkpoint={talk}", f"against={world / 'ner_run'}", *CPU).refused(2, "task=ner", "task=dialogue")
    rlft("eval", f"checkpoint={talk}", "against=nowhere", *CPU).refused(2, "against=nowhere does not exist")
    rlft("eval", f"checkpoint={talk}", "reward=accuracy", *CPU).refused(2, "judges classes")
