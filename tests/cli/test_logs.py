"""Logs through the real command line: written, learned from, and asked what another policy would have earned."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from thinned import every_other

from rlft_cli import pipeline
from rlft_cli.episode import demonstrate
from rlft_cli.pipeline import checkpoint_setup

LABELS = ["rain", "sun", "wind"]
TEXTS = ["there is rain in Paris on day 0", "there is sun in Rome on day 1"]
PROPENSITY = {"rain": 0.5, "sun": 0.25, "wind": 0.25}
EARNED = {TEXTS[0]: {"rain": 1.0, "sun": -0.5, "wind": 0.25}, TEXTS[1]: {"rain": -1.0, "sun": 0.75, "wind": 0.5}}
HEADER: dict[str, Any] = {"rlft_log": 1, "task": "classification", "labels": LABELS}
CPU = ("hardware=cpu", "hardware.threads=1", "hardware.precision=fp32", "evaluation.bootstrap=20")


def write(path: Path, lines: list[Any], end: str = "\n") -> Path:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + end)
    return path


def episode(**changes: Any) -> dict[str, Any]:
    return {"text": TEXTS[0], "action": ["rain"], "reward": [1], "propensity": [0.5]} | changes


def whole_log(path: Path) -> Path:
    """Every text with every action as often as the logging policy takes it, twice in a row: once for each fold.

    The mean over such a log is the expectation over the logging policy, in each fold and together.
    """
    lines = [
        episode(text=text, action=[label], reward=[EARNED[text][label]], propensity=[PROPENSITY[label]])
        for text in TEXTS
        for label in ("rain", "rain", "sun", "wind")
        for _ in range(2)
    ]
    return write(path, [HEADER, *lines])


def policy_of(run: Path, temperature: float) -> dict[str, list[float]]:
    """pi(. | text) of a checkpoint, computed beside the command: {text: one probability a label}."""
    setup = checkpoint_setup(str(run), HARDWARE, 1)
    rows = [{"text": text, "label": "sun", "origin": "x:1"} for text in TEXTS]
    with torch.no_grad():
        known = demonstrate(setup.task, setup.task.collate(setup.task.add(rows)))
        scores = setup.policy.eval()(known.observation, known.action).scores[:, 0].double()
    assert setup.task.labels == LABELS
    found = torch.softmax(scores / temperature, -1) if temperature else torch.eye(3)[scores.argmax(-1)]
    return dict(zip(TEXTS, found.tolist(), strict=True))


HARDWARE = {"_target_": "rlft_cli.hardware.Hardware", "device": "cpu", "precision": "fp32", "threads": 1}


def value_of(policy: dict[str, list[float]]) -> float:
    """V = mean over texts of sum_a pi(a | x) r(x, a)."""
    return sum(p * EARNED[x][a] for x in TEXTS for a, p in zip(LABELS, policy[x], strict=True)) / 2


# -- exact -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", every_other([0.5, 0]))
def test_the_estimates_are_the_enumerated_value(rlft: Any, world: Path, here: Path, temperature: float) -> None:
    """IPS, SNIPS and DR equal V on a log that holds its own expectation; the mean weight is 1. Tolerance 1e-6: the
    scores are those of a float32 network."""
    run = world / "classification_run"
    done = rlft(
        "ope", f"log={whole_log(here / 'log.jsonl')}", f"policy={run}", f"temperature={temperature}", "output=found.json",
        *CPU,
    )  # fmt: skip
    assert done.status == 0, done
    found = json.loads((here / "found.json").read_text())
    expected = value_of(policy_of(run, temperature))
    for name in ("ips", "clipped_ips", "snips", "dr"):
        assert found["value"][name]["value"] == pytest.approx(expected, abs=1e-6), name
    assert found["mean_weight"]["value"] == pytest.approx(1, abs=1e-6) and found["supported"]
    logged = sum(PROPENSITY[a] * EARNED[x][a] for x in TEXTS for a in LABELS) / 2
    assert found["value"]["logged"]["value"] == pytest.approx(logged, abs=1e-12)
    assert (found["rows"], found["weights"], found["episodes"]) == (16, "decision", 16)
    weights = [policy_of(run, temperature)[x][LABELS.index(a)] / PROPENSITY[a] for x in TEXTS for a in LABELS]
    mu = [PROPENSITY[a] * 8 for x in TEXTS for a in LABELS]
    squares = sum(n * w * w for n, w in zip(mu, weights, strict=True))
    assert found["effective_rows"] == pytest.approx(16**2 / squares, rel=1e-5)


def test_wrong_propensities_give_another_value(rlft: Any, world: Path, here: Path) -> None:
    """The mutation twin: the same log, its propensities said to be uniform."""
    lines = whole_log(here / "log.jsonl").read_text().splitlines()
    wrong = [{**json.loads(line), "propensity": [1 / 3]} for line in lines[1:]]
    write(here / "wrong.jsonl", [HEADER, *wrong])
    run = world / "classification_run"
    assert rlft("ope", "log=wrong.jsonl", f"policy={run}", "output=found.json", "temperature=0.5", *CPU).status == 0
    found = json.loads((here / "found.json").read_text())["value"]["ips"]["value"]
    assert abs(found - value_of(policy_of(run, 0.5))) > 0.01


# -- written, learned from, asked ------------------------------------------------------------------------------------


def test_a_log_from_a_checkpoint_and_back(rlft: Any, world: Path, here: Path) -> None:
    run, data = world / "ner_run", f"data.dir={world / 'ner'}"
    done = rlft(
        "simulate-logs", f"checkpoint={run}", "output=log.jsonl", "explore=epsilon_greedy", "explore.start=0.5", *CPU
    )
    assert done.status == 0, done
    header, *lines = map(json.loads, (here / "log.jsonl").read_text().splitlines())
    assert header["task"] == "ner" and header["deterministic"] is False and len(lines) == 24
    assert all("tags" not in line and len(line["action"]) == len(line["words"]) for line in lines)
    legal = {p for line in lines for p in line["propensity"]}
    assert all(0 < p <= 1 for p in legal) and len(legal) > 1
    words = sum(len(line["words"]) for line in lines)
    done = rlft(
        "train", "task=ner", "algo=dqn", "model=tiny", "data=files", data, "feedback=logged", "feedback.log=log.jsonl",
        "warm_start.fraction=0", "passes=2", "run_dir=learned", *CPU,
    )  # fmt: skip
    assert done.status == 0, done
    used = json.loads((here / "learned" / "result.json").read_text())["used"]
    assert used == {
        "label_examples": 0,
        "label_decisions": 0,
        "reaction_examples": 24,
        "reaction_episodes": 48,
        "reaction_decisions": 2 * words,
        "reactions": 2 * words,
        "contexts_repeat": True,
        "episodes_per_reacted_example": 2.0,
    }
    done = rlft("ope", "log=log.jsonl", "policy=learned", "console=json", *CPU)
    assert done.status == 0, done
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row["estimator"] for row in rows if "estimator" in row] == [
        "logged",
        "dm",
        "ips",
        "clipped_ips",
        "snips",
        "dr",
    ]
    assert next(row for row in rows if "effective_rows" in row)["rows"] == words


def test_a_log_of_replies(rlft: Any, world: Path, here: Path) -> None:
    """Actions are ids of tokens: episode weights, no direct method, and only for the same tokenizer."""
    run = world / "dialogue_run"
    done = rlft("simulate-logs", f"checkpoint={run}", "output=log.jsonl", "explore=sample", *CPU)
    assert done.status == 0, done
    lines = [json.loads(line) for line in (here / "log.jsonl").read_text().splitlines()]
    assert len(lines) == 25 and all(isinstance(a, int) for line in lines[1:] for a in line["action"])
    assert [turn["role"] for turn in lines[1]["turns"]] == ["user"]
    done = rlft("ope", "log=log.jsonl", f"policy={run}", "temperature=1", "output=found.json", *CPU)
    assert done.status == 0, done
    found = json.loads((here / "found.json").read_text())
    assert found["weights"] == "episode" and "dr" not in found["value"]
    assert found["value"]["ips"]["value"] == pytest.approx(found["value"]["logged"]["value"], abs=1e-4)
    lines[0]["tokenizer"] = "another"
    write(here / "other.jsonl", lines)
    rlft("ope", "log=other.jsonl", f"policy={run}", *CPU).refused(
        1, "other.jsonl:1: the actions are ids of another tokenizer"
    )


@pytest.mark.parametrize("explore", every_other(["ucb", "greedy"]))
def test_the_log_of_a_policy_without_propensities(rlft: Any, world: Path, here: Path, explore: str) -> None:
    run = world / "classification_run"
    done = rlft("simulate-logs", f"checkpoint={run}", "output=log.jsonl", f"explore={explore}", "console=plain", *CPU)
    assert done.status == 0 and "warning: this exploration has no propensities" in done.out
    rlft("ope", "log=log.jsonl", f"policy={run}", *CPU).refused(1, "log.jsonl: was written by a deterministic policy")

    rlft(
        "train", "task=classification", "algo=ips", "model=tiny", "data=files", f"data.dir={world / 'classification'}",
        "feedback.log=log.jsonl", "run_dir=learned", *CPU,
    ).refused(1, "log.jsonl: was written by a deterministic policy")  # fmt: skip


def test_a_policy_from_a_log(rlft: Any, world: Path, here: Path) -> None:
    """Without a label, and its checkpoint, which has a reward model beside the policy, opens again."""
    whole_log(here / "log.jsonl")
    done = rlft(
        "train", "task=classification", "algo=doubly_robust", "algo.loss_kind=mse", "model=tiny", "data=files",
        f"data.dir={world / 'classification'}", "feedback.log=log.jsonl", "passes=2", "run_dir=learned", *CPU,
    )  # fmt: skip
    assert done.status == 0, done
    assert json.loads((here / "learned" / "result.json").read_text())["used"]["label_examples"] == 0
    assert sum(policy_of(here / "learned", 1.0)[TEXTS[0]]) == pytest.approx(1)


def test_an_exploration_that_a_checkpoint_was_not_built_for(rlft: Any, world: Path, here: Path) -> None:
    done = rlft(
        "simulate-logs", f"checkpoint={world / 'classification_run'}", "output=log.jsonl", "explore=noisy", *CPU
    )
    done.refused(2, "this exploration needs a policy that was built for it (noise)")
    assert not (here / "log.jsonl").exists()


def test_a_log_that_cannot_answer(rlft: Any, world: Path, here: Path) -> None:
    """299 of 300 rows are of actions that the policy never takes: one row has all the weight."""
    run = world / "classification_run"
    policy = policy_of(run, 0)[TEXTS[0]]
    best, other = LABELS[policy.index(1.0)], LABELS[policy.index(0.0)]
    lines = [episode(action=[other])] * 299 + [episode(action=[best])]
    write(here / "log.jsonl", [HEADER, *lines])
    rlft("ope", "log=log.jsonl", f"policy={run}", *CPU).refused(
        1, "the log cannot answer: of 300 weighted decisions only 1.0 count"
    )


def test_support_that_is_missing_is_said(rlft: Any, world: Path, here: Path) -> None:
    """Where the logger tries the policy's action less often than its propensities say, the mean weight is below 1."""
    run = world / "classification_run"
    policy = policy_of(run, 0)[TEXTS[0]]
    best, other = LABELS[policy.index(1.0)], LABELS[policy.index(0.0)]
    lines = [episode(action=[other])] * 90 + [episode(action=[best])] * 10
    write(here / "log.jsonl", [HEADER, *lines])
    done = rlft("ope", "log=log.jsonl", f"policy={run}", "console=plain", *CPU)
    assert done.status == 0 and "warning: the mean weight is below 1: about 80%" in done.out


# -- bad input -------------------------------------------------------------------------------------------------------

FAULTS: dict[str, tuple[Any, str]] = {
    "no_propensity": ({"text": "a b", "action": ["sun"], "reward": [1]}, "has no propensity"),
    "propensity_0": (episode(propensity=[0]), "the propensity 0 is not a probability in (0, 1]"),
    "propensity_above": (episode(propensity=[1.5]), "the propensity 1.5 is not a probability in (0, 1]"),
    "propensity_nan": (episode(propensity=[math.nan]), "the propensity nan is not a probability in (0, 1]"),
    "unknown_action": (episode(action=["hail"]), "the action 'hail' is not among the log's labels rain, sun, wind"),
    "reward_nan": (episode(reward=[math.nan]), "the reward nan is not a number"),
    "reward_range": (episode(reward=[3]), "the reward 3 is outside the reward_range [-1, 1] of the header"),
    "reward_text": (episode(reward=["good"]), "the reward 'good' is not a number"),
    "no_text": ({"action": ["sun"], "reward": [1], "propensity": [0.5]}, "has no text"),
    "lengths": (episode(reward=[1, 0]), "reward has 2 values, expected 1, one a decision"),
    "not_json": ("{text:", "is not a JSON object"),
}


@pytest.mark.parametrize("name", every_other(FAULTS))
def test_a_line_with_a_fault_is_refused_by_its_number(rlft: Any, world: Path, here: Path, name: str) -> None:
    line, part = FAULTS[name]
    write(here / "log.jsonl", [HEADER, episode(), line, episode()])
    done = rlft("ope", "log=log.jsonl", f"policy={world / 'classification_run'}", *CPU)
    done.refused(1, f"log.jsonl:3: {part}")


def test_all_faults_are_named_together(rlft: Any, world: Path, here: Path) -> None:
    write(here / "log.jsonl", [HEADER, *(line for line, _ in FAULTS.values()), *[episode(reward=[9])] * 30])
    done = rlft("ope", "log=log.jsonl", f"policy={world / 'classification_run'}", *CPU)
    assert done.status == 1 and "log.jsonl: 41 faults, the first 20 of them; nothing was started:" in done.err
    assert done.err.count("\n  log.jsonl:") == 20
    assert all(part in done.err for _, part in FAULTS.values())


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (episode(), "log.jsonl:1: is not the header of a log"),
        ({**HEADER, "task": "ner"}, "log.jsonl:1: is a log of task=ner, and task=classification is asked for"),
        ({**HEADER, "labels": [*LABELS, "hail"]}, "log.jsonl:1: the labels hail are not among those of the model"),
        ({**HEADER, "reward_range": [1, 0]}, "log.jsonl:1: reward_range is [1, 0]"),
    ],
)
def test_a_header_that_does_not_fit(rlft: Any, world: Path, here: Path, header: Any, part: str) -> None:
    write(here / "log.jsonl", [header, episode()])
    rlft("ope", "log=log.jsonl", f"policy={world / 'classification_run'}", *CPU).refused(1, part)


def test_a_log_that_is_cut_off(rlft: Any, world: Path, here: Path) -> None:
    write(here / "log.jsonl", [HEADER, episode(), '{"text": "there is su'], end="")
    done = rlft("ope", "log=log.jsonl", f"policy={world / 'classification_run'}", *CPU)
    done.refused(1, "log.jsonl:3: is cut off: the file ends in the middle of it")
    (here / "empty.jsonl").touch()
    rlft("ope", "log=empty.jsonl", f"policy={world / 'classification_run'}", *CPU).refused(1, "empty.jsonl: is empty")


def test_training_from_a_bad_log_is_refused_too(rlft: Any, world: Path, here: Path) -> None:
    write(here / "log.jsonl", [HEADER, episode(propensity=[2])])
    words = ("train", "task=classification", "algo=dqn", "model=tiny", "data=files", "feedback=logged", *CPU)
    data = f"data.dir={world / 'classification'}"
    rlft(*words, data, "feedback.log=log.jsonl").refused(1, "log.jsonl:2: the propensity 2 is not a probability")
    rlft(*words, data).refused(2, "feedback.log: must be given")
    rlft(*words, data, "feedback.log=log.jsonl", "algo=reinforce").refused(2, "algo=reinforce is on-policy")
    assert not (here / "runs").exists()


def test_the_mark_of_a_tokenizer_is_that_of_its_words(world: Path) -> None:
    marks = []
    for task in ("dialogue", "dialogue", "ner"):
        setup = checkpoint_setup(str(world / f"{task}_run"), HARDWARE, 1)
        marks.append(pipeline.tokenizer_mark(setup.task.codec))
    assert marks[0] == marks[1] != marks[2]
