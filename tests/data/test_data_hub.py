"""data=hub: local folders through the datasets library, names of labels, and a Hub that is out of reach."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest

from rlft_cli.errors import RlftError, UsageError

OTHER = "data=files data.dir=FOLDER reads your own files, data=sample the packaged ones"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def saved(tmp_path: Path, names: list[str], tags: list[list[int]], *, split: str = "test") -> str:
    features = datasets.Features(
        {
            "tokens": datasets.List(datasets.Value("string")),
            "ner_tags": datasets.List(datasets.ClassLabel(names=names)),
        }
    )
    rows = {"tokens": [[f"w{k}" for k in range(len(row))] for row in tags], "ner_tags": tags}
    made = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": made, "validation": made, split: made}).save_to_disk(tmp_path / "set")
    return str(tmp_path / "set")


def test_numbers_become_the_names_of_their_feature(hub, tmp_path: Path) -> None:
    name = saved(tmp_path, ["O", "B-PER", "I-PER"], [[0, 1, 2], [1]])
    splits = hub(name=name).load("tagged_words")
    assert splits.train[0]["tags"] == ["O", "B-PER", "I-PER"]
    assert splits.dev[1]["origin"] == f"{name}/validation:2"


def test_a_folder_of_plain_files(hub, tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text('{"text": "a", "label": "x"}\n{"text": "b", "label": "x"}\n')
    splits = hub(name=tmp_path).load("labelled_text")
    assert list(splits.test["text"]) == ["a", "b"]
    assert len(splits.train) == len(splits.dev) == 1
    assert splits.messages[0].startswith("no dev split: 1 of 2")


def test_a_number_without_name_is_refused(hub, tmp_path: Path) -> None:
    made = datasets.Dataset.from_dict(
        {"text": ["a"], "label": [-1]},
        features=datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["x"])}),
    )
    datasets.DatasetDict({"train": made, "test": made}).save_to_disk(tmp_path / "set")
    with pytest.raises(RlftError, match=r"train:1: column label has -1, which names no label"):
        hub(name=tmp_path / "set").load("labelled_text")


def test_a_split_that_is_not_there(hub, tmp_path: Path) -> None:
    name = saved(tmp_path, ["O"], [[0]], split="test_a")
    with pytest.raises(RlftError, match=r"no split 'test'; it has train, validation, test_a; .*data\.test=test_a"):
        hub(name=name).load("tagged_words")


def test_faults_name_split_and_row(hub, tmp_path: Path) -> None:
    name = saved(tmp_path, ["O", "B-X", "I-X"], [[1], [0, 2]])
    with pytest.raises(RlftError, match=r"set/train:2: I-X of 'w1' \(word 2\) comes after O"):
        hub(name=name).load("tagged_words")


def test_no_name(hub) -> None:
    with pytest.raises(UsageError, match=r"data=hub needs the name of a data set, e\.g\. data\.name="):
        hub().load("dialogue")


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (ConnectionError("Couldn't reach 'x/y'\n(OfflineModeIsEnabled)"), "cannot be loaded from the Hugging Face Hub"),
        (OSError("timed out"), "cannot be loaded from the Hugging Face Hub"),
        (datasets.exceptions.DatasetNotFoundError("no"), "the Hub has no data set 'x/y' that you may read"),
        (ValueError("Config name is missing.\nPlease pick one"), "give one with data.config=NAME"),
        (RuntimeError("Dataset scripts are no longer supported, but found y.py"), "data.revision=refs/convert/parquet"),
    ],
)
def test_failures_are_one_line_that_says_what_else_can_be_done(
    hub, monkeypatch: pytest.MonkeyPatch, error: Exception, wanted: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(RlftError) as caught:
        hub(name="x/y").load("dialogue")
    assert wanted in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unreachable_names_the_other_sources(hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(RlftError, match=OTHER):
        hub(name="x/y").load("dialogue")
