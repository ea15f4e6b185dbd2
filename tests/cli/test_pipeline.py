"""rlft pipeline: stages one after the other, gains asked for, stopped and gone on with."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import DictConfig

from rlft_cli.commands import pipeline as command
from rlft_cli.console import Console
from rlft_cli.errors import RlftError

STAGES = """# @package _global_
# Two stages.
stages:
  one:
    words: [task=classification, algo=supervised, model=tiny]
    takes: []
    gain: {metric: accuracy, over: null, by: interval, more_than: 0.5}
  two:
    words: [task=classification, algo=reinforce, model=tiny, warm_start.fraction=0]
    takes: [init=one]
    gain: {metric: accuracy, over: null, by: value, more_than: 0.5}
"""
Trained = list[DictConfig]


@pytest.fixture
def presets(here: Path) -> tuple[str, ...]:
    """Words that run the two stages from a folder of the user's own."""
    (here / "mine/experiment").mkdir(parents=True)
    (here / "mine/experiment/two.yaml").write_text(STAGES)
    return ("pipeline", "--config-dir", "mine", "experiment=two", "run_dir=line")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    """What training is asked for, in place of doing it; an accuracy of .7 [.6, .8] comes of it."""
    calls: Trained = []

    def run(config: DictConfig, console: Console) -> None:
        calls.append(config)
        folder = Path(config.resume or config.run_dir)
        folder.mkdir(exist_ok=True)
        (folder / "config.yaml").write_text("{}")
        if config.seed == 13:
            raise RlftError("stopped in the middle")
        low, high = (0.2, 0.4) if config.seed == 99 else (0.6, 0.8)
        found = {"accuracy": {"value": (low + high) / 2, "low": low, "high": high}}
        (folder / "result.json").write_text(json.dumps({"dev": found, "test": {"accuracy": {}}}))

    monkeypatch.setattr(command.train, "run", run)
    return calls


class Knot:
    """Held by itself, as accelerate's forward holds its model: only the collector lets go of it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def left_over(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many knots of earlier runs there are when the next begins; the collector does nothing by itself meanwhile."""
    knots: list[weakref.ref[Knot]] = []
    counts: list[int] = []
    plain = command.train.run

    def run(config: DictConfig, console: Console) -> None:
        counts.append(sum(knot() is not None for knot in knots))
        knots.append(weakref.ref(Knot()))
        if config.run_dir is not None:
            plain(config, console)

    monkeypatch.setattr(command.train, "run", run)
    gc.collect()
    gc.disable()
    yield counts
    gc.enable()


def test_a_stage_does_not_keep_the_memory_of_those_before(
    rlft: Any, presets: tuple[str, ...], left_over: list[int]
) -> None:
    assert rlft(*presets, "console=json").status == 0
    assert left_over == [0, 0]


def test_a_run_of_a_sweep_does_not_keep_the_memory_of_those_before(rlft: Any, left_over: list[int]) -> None:
    assert rlft("train", "-m", "model=tiny", "seed=1,2,3", "console=json").status == 0
    assert left_over == [0, 0, 0]


def test_stages_follow_one_another(rlft: Any, presets: tuple[str, ...], trained: Trained) -> None:
    done = rlft(*presets, "two:passes=0.25", "all:seed=7", "console=json")
    assert (done.status, done.err) == (0, "")
    one, two = trained
    assert (one.algo._target_, one.init, one.run_dir) == ("rlft_cli.algo.supervised.Supervised", None, "line/one")
    assert (two.init, two.passes, two.seed, two.options.algo) == ("line/one", 0.25, 7, "reinforce")
    result = json.loads(Path("line/result.json").read_text())["stages"]
    assert [stage["run"] for stage in result] == ["line/one", "line/two"]
    assert result[1]["gain"] == {
        "metric": "accuracy", "over": None, "split": "dev", "value": pytest.approx(0.7), "low": 0.6, "high": 0.8,
    }  # fmt: skip
    last = json.loads(done.out.splitlines()[-1])
    assert (last["stage"], last["metric"], last["low"]) == ("two", "accuracy", 0.6)
    rlft("pipeline", "resume=line").refused(2, "has ended")
    rlft(*presets).refused(2, "line exists and is not empty")


def test_a_stage_without_gain_stops_the_pipeline(rlft: Any, presets: tuple[str, ...], trained: Trained) -> None:
    done = rlft(*presets, "one:seed=99")
    done.refused(1, "stage one shows no gain, accuracy on dev: 0.3 [0.2, 0.4]", "the lower end must be above 0.5")
    assert len(trained) == 1 and not Path("line/two").exists()
    rlft("pipeline", "resume=line", "one:seed=1").refused(2, "one has begun without it")
    shutil.rmtree("line/one")
    done = rlft("pipeline", "resume=line", "one:seed=1")
    assert done.status == 0, done
    assert [config.seed for config in trained] == [99, 1, 1]


@pytest.mark.slow
def test_a_stopped_pipeline_goes_on_as_it_was_configured(rlft: Any, presets: tuple[str, ...], trained: Trained) -> None:
    rlft(*presets, "one:seed=99").refused(1, "stage one shows no gain")
    rlft("pipeline", "resume=line").refused(1, "stage one shows no gain")
    rlft("pipeline", "resume=line", "split=test").refused(2, "goes on as it was configured; leave out split")
    rlft("pipeline", "resume=line", "two:pasess=1").refused(2, "did you mean passes?")
    rlft("pipeline", "resume=line", "all:seed=1").refused(2, "one has begun without it")
    assert len(trained) == 1


@pytest.mark.slow
def test_a_criterion_may_be_put_right(rlft: Any, presets: tuple[str, ...], trained: Trained) -> None:
    rlft(*presets, "stages.two.gain.metric=f1").refused(
        2, "there is no such metric; there are accuracy", "line/config.yaml"
    )
    stored = yaml.safe_load(Path("line/config.yaml").read_text())
    stored["stages"]["two"]["gain"] |= {"metric": "accuracy", "more_than": 0.9}
    Path("line/config.yaml").write_text(yaml.safe_dump(stored))
    rlft("pipeline", "resume=line").refused(1, "0.7 [0.6, 0.8], and the value must be above 0.9")
    stored["stages"]["two"]["gain"]["more_than"] = 0.65
    Path("line/config.yaml").write_text(yaml.safe_dump(stored))
    assert rlft("pipeline", "resume=line").status == 0
    assert len(trained) == 2, "nothing was trained again"


def test_it_goes_on_where_it_stopped(rlft: Any, presets: tuple[str, ...], trained: Trained) -> None:
    rlft(*presets, "two:seed=13").refused(1, "stopped in the middle")
    rlft("pipeline", "resume=line").refused(1, "stopped in the middle")
    assert [config.resume for config in trained] == [None, None, "line/two"]
    assert trained[2].run_dir is None
    shutil.rmtree("line/one")
    rlft("pipeline", "resume=line").refused(2, "stage two was trained from one, which is not there any more")


def test_wrong_use_is_refused(rlft: Any, presets: tuple[str, ...], trained: Trained, world: Path) -> None:
    rlft("pipeline").refused(2, "stages: there are none")
    for right, wrong, what in (("train", "pipeline", "wnut17_dqn"), ("pipeline", "train", "two_stage_dialogue")):
        rlft(wrong, f"experiment={what}").refused(2, f"type rlft {right} experiment={what}")
    rlft("pipeline", f"resume={world / 'ner_run'}").refused(2, "is no pipeline folder")
    rlft("pipeline", "resume=nowhere").refused(2, "is no pipeline folder")
    done = rlft(*presets, "one:passes=-1", "two:algo=reinforc", "three:seed=1")
    assert done.status == 2 and done.err.count("\n") == 4 and "3 things to put right" in done.err
    assert trained == [] and not Path("line").exists(), "nothing was started"
    shown = rlft(*presets, "--cfg", "job")
    assert shown.status == 0 and "algo=reinforce" in shown.out and "algo=supervised" in shown.out


@pytest.mark.slow
def test_stages_are_ordinary_runs(rlft: Any, world: Path, here: Path, tree: Callable[[], list[str]]) -> None:
    """Real training: untrained, supervised (above untrained by paired bootstrap), REINFORCE from there."""
    gain = {"metric": "accuracy", "over": "start", "by": "interval", "more_than": 0.0}
    words = ["task=classification", "model=tiny", "data=files", f"data.dir={world / 'classification'}"]
    words += ["hardware=cpu", "hardware.threads=1", "evaluation.bootstrap=200"]
    fast = ["optim.lr=3e-3", "optim.head_lr=3e-3", "optim.max_batch_episodes=4"]
    stages = {
        "start": {"words": [*words, "algo=supervised", "passes=0"], "takes": [], "gain": None},
        "supervised": {
            "words": [*words, "algo=supervised", "passes=20", "selection.every_passes=20", *fast],
            "takes": [],
            "gain": gain,
        },
        "reinforce": {
            "words": [*words, "algo=reinforce", "passes=1", "warm_start.fraction=0"],
            "takes": ["init=supervised"],
            "gain": gain | {"over": "supervised", "metric": "reward", "by": "value", "more_than": -0.5},
        },
    }
    (here / "mine/experiment").mkdir(parents=True)
    text = yaml.safe_dump({"stages": stages}, sort_keys=False)
    (here / "mine/experiment/three.yaml").write_text(f"# @package _global_\n# Three.\n{text}")
    done = rlft("pipeline", "--config-dir", "mine", "experiment=three", "run_dir=line", "console=plain")
    assert (done.status, done.err) == (0, ""), done
    assert {"line/config.yaml", "line/result.json", "line/supervised/gain.json"} <= set(tree())
    found = {stage["stage"]: stage["gain"] for stage in json.loads(Path("line/result.json").read_text())["stages"]}
    accuracy = [
        json.loads(Path(f"line/{name}/result.json").read_text())["dev"]["accuracy"]["value"]
        for name in ("start", "supervised")
    ]
    assert found["supervised"]["low"] > 0
    assert found["supervised"]["value"] == pytest.approx(accuracy[1] - accuracy[0])
    told = rlft("eval", "checkpoint=line/supervised", "against=line/start", "split=dev", "output=eval.json",
                "evaluation.bootstrap=200", "hardware=cpu")  # fmt: skip
    assert told.status == 0, told
    gap = json.loads(Path("eval.json").read_text())["against"]["difference"]["accuracy"]
    assert {key: found["supervised"][key] for key in gap} == gap, "rlft eval against= tells the same"
    mine = yaml.safe_load(Path("line/supervised/config.yaml").read_text())
    done = rlft("train", *stages["supervised"]["words"], "run_dir=alone")
    assert done.status == 0, done
    alone = yaml.safe_load(Path("alone/config.yaml").read_text())
    assert {key: (mine[key], alone[key]) for key in alone if mine[key] != alone[key]} == {
        "run_dir": ("line/supervised", "alone")
    }
    results = [json.loads(Path(run, "result.json").read_text())["test"] for run in ("line/supervised", "alone")]
    assert results[0] == results[1], "a stage is what rlft train gives with the same words"
