"""Stages of a pipeline: how words override one another, what is taken from earlier stages, and every fault at once."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from rlft_cli.compose import compose
from rlft_cli.config import check, config_folder, resolved
from rlft_cli.options import Library
from rlft_cli.overrides import Override
from rlft_cli.stages import composed_stage, is_more, more_word, stage_faults, stages_of

LIBRARY = Library([config_folder()])
PIPELINES = [
    name for name, path in LIBRARY.options["experiment"].items() if "stages" in LIBRARY.read(path).values
]  # fmt: skip
GAIN = {"metric": "accuracy", "over": "one", "by": "interval", "more_than": 0.0}
VALUES: dict[str, Any] = {
    "stages": {
        "one": {"words": ["task=classification", "algo=supervised", "model=tiny"], "takes": [], "gain": None},
        "two": {"words": ["task=classification", "algo=reinforce", "model=tiny"], "takes": ["init=one"], "gain": GAIN},
    },
    "more": [],
    "resume": None,
}


def changed(**changes: Any) -> dict[str, Any]:
    """VALUES with keys of the second stage, or of the whole, changed."""
    values = copy.deepcopy(VALUES)
    for key, value in changes.items():
        (values if key in values else values["stages"]["two"])[key] = value
    return values


def test_a_stage_is_words_of_train() -> None:
    (one, two), faults = stages_of(changed(more=["two:passes=0.5", "all:seed=3"]))
    assert faults == [] and stage_faults(LIBRARY, VALUES) == []
    assert one.words == [*VALUES["stages"]["one"]["words"], "seed=3"]
    words = two.train_words(Path("here"))
    assert words[-4:] == ["seed=3", "passes=0.5", "init=here/one", "run_dir=here/two"]
    composed, lines = composed_stage(LIBRARY, two, Path("here"))
    assert lines == [] and composed.chosen["algo"] == "reinforce" and composed.values["passes"] == 0.5
    assert composed.values["init"] == "here/one"


def test_of_words_the_last_stand() -> None:
    words = ["data=files", "data.dir=x", "passes=1", "optim.lr=1"]
    (stage, *_), _ = stages_of(
        changed(
            stages={"one": {"words": words, "takes": [], "gain": None}}, more=["one:data=sample", "all:passes=2"]
        )
    )  # fmt: skip
    assert stage.words == ["optim.lr=1", "passes=2", "data=sample"], (
        "the keys of an option that is not chosen go with it"
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"stages": {}}, "there are none"),
        ({"takes": ["init=on"]}, "stages.two.takes: init=on names no earlier stage; did you mean one?"),
        ({"takes": ["init=two"]}, "names no earlier stage"),
        ({"gain": GAIN | {"over": "too"}}, "stages.two.gain.over: too names no earlier stage"),
        ({"more": ["three:passes=1"]}, "there is no stage three; there are one, two, all"),
        ({"more": ["passes"]}, "more: passes: expected STAGE:KEY=VALUE"),
        ({"more": ["two:pases=1"]}, "stage two: pases: no such key; did you mean passes?"),
        ({"more": ["two:seed=1", "two:run_dir=x"]}, "stage two: run_dir=x: the pipeline sets this itself"),
        ({"words": ["task=ner", "algo=reinforce"]}, "stages.two.gain.over: one is of another task"),
        ({"words": ["task=classification", "explore=sampel"]}, "stage two: explore=sampel: no such option"),
    ],
)
def test_faults_are_found_before_anything_starts(changes: dict[str, Any], told: str) -> None:
    assert any(told in line for line in stage_faults(LIBRARY, changed(**changes)))


def test_words_for_single_stages_are_told_from_others() -> None:
    assert is_more("one:passes=1") and is_more("all:model=tiny") and is_more("one:data.dir=C:/x")
    assert not is_more("passes=one:2") and not is_more("run_dir=a:b=c") and not is_more("one:passes")
    assert more_word(["one:a=1", "two:b='x'"]) == r"more=['one:a=1','two:b=\'x\'']"


def test_data_that_are_nowhere_are_given_in_the_only_way_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RLFT_DATA", raising=False)
    chosen = Override(text="", prefix="", key="experiment", values=("two_stage_dialogue",))
    composed = compose(LIBRARY, "pipeline", [(chosen, "two_stage_dialogue")])
    assert composed is not None
    (line,) = check(LIBRARY, "pipeline", composed)
    assert line.partition(": ")[2].startswith(
        "the environment variable RLFT_DATA is not set; type export RLFT_DATA=..."
    )
    assert "give stages." not in line, "the words of a stage cannot be typed"


@pytest.mark.parametrize("name", PIPELINES)
def test_every_shipped_pipeline_can_start(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLFT_DATA", "data")
    composed = compose(LIBRARY, "pipeline", [(Override(text="", prefix="", key="experiment", values=(name,)), name)])
    assert composed is not None and check(LIBRARY, "pipeline", composed) == []
    if name == "three_stage_dialogue" and "preference" not in LIBRARY.options["task"]:
        pytest.skip("the reward model is not here yet")
    assert stage_faults(LIBRARY, resolved(composed.values)[0]) == []
