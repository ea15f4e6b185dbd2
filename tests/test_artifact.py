"""The run folder: written whole or not at all, never over another, and refused where it is damaged."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

from rlft_cli import artifact, durable
from rlft_cli.config import config_folder
from rlft_cli.errors import RlftError, UsageError
from rlft_cli.pipeline import build, plain
from toy_training import differences


def full_disk(*given: Any, **named: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# -- where a run goes ----------------------------------------------------------------------------------------------


def test_runs_get_folders_of_their_own(tmp_path: Path) -> None:
    made = [artifact.create_run_folder(None, str(tmp_path), "ner", "dqn") for _ in range(4)]
    assert len(set(made)) == 4 and all(folder.parent == tmp_path / "ner" / "dqn" and folder.is_dir() for folder in made)


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    assert artifact.create_run_folder(str(mine), "unused", "ner", "dqn") == mine
    artifact.create_run_folder(str(mine), "unused", "ner", "dqn")  # nothing in it yet
    (mine / "result.json").write_text("precious")
    with pytest.raises(UsageError, match=r"mine exists and is not empty.*never overwritten"):
        artifact.create_run_folder(str(mine), "unused", "ner", "dqn")
    assert (mine / "result.json").read_text() == "precious"
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError):
        artifact.create_run_folder(str(tmp_path / "file"), "unused", "ner", "dqn")


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for run_dir, runs in ((str(tmp_path / "file" / "run"), "unused"), (None, str(tmp_path / "file"))):
        with pytest.raises(RlftError, match=r"cannot write .*file"):
            artifact.create_run_folder(run_dir, runs, "ner", "dqn")


# -- whole or not at all -------------------------------------------------------------------------------------------


def test_text_replaces_text(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    durable.write_json(path, {"f1": 0.5, "name": "Zoë"})
    durable.write_json(path, {"f1": 0.6, "name": "Zoë"})
    assert json.loads(path.read_text("utf-8")) == {"f1": 0.6, "name": "Zoë"}
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


def test_a_full_disk_keeps_the_old_text_and_leaves_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result.json"
    durable.write_text(path, "old")
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(RlftError, match=r"result\.json.*full|No space") as caught:
        durable.write_text(path, "new")
    assert caught.value.exit_status == 1
    assert path.read_text() == "old" and [file.name for file in tmp_path.iterdir()] == ["result.json"]


def write(folder: Path, word: str) -> None:
    (folder / "a").write_text(word)
    (folder / "sub").mkdir()
    (folder / "sub" / "b").write_text(word)


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    for word in ("one", "two"):
        durable.replace_folder(folder, lambda new, word=word: write(new, word))  # type: ignore[misc]
    assert (folder / "a").read_text() == (folder / "sub" / "b").read_text() == "two"
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize("stop", ["full disk", "Ctrl-C", "fsync", "rename"])
def test_what_stops_the_writing_leaves_the_old_folder_whole(
    stop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "checkpoint"
    durable.replace_folder(folder, lambda new: write(new, "old"))

    def fill(new: Path) -> None:
        write(new, "new")
        if stop == "full disk":
            full_disk()
        if stop == "Ctrl-C":
            raise KeyboardInterrupt

    if stop == "fsync":
        monkeypatch.setattr(os, "fsync", full_disk)
    if stop == "rename":
        rename = Path.rename

        def killed(self: Path, target: Any) -> Any:  # between the two renames
            if self.name.endswith(".new"):
                raise KeyboardInterrupt
            return rename(self, target)

        monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt if stop in ("Ctrl-C", "rename") else RlftError):
        durable.replace_folder(folder, fill)
    monkeypatch.undo()
    assert (durable.current(folder) / "sub" / "b").read_text() == "old"
    durable.replace_folder(folder, lambda new: write(new, "newer"))  # what was left behind is no hindrance
    assert (durable.current(folder) / "a").read_text() == "newer"
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint"]


def test_full_disk_through_safetensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors import SafetensorError

    def failing(*given: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    durable.replace_folder(tmp_path / "state", lambda folder: durable.save_nested(folder, STATE))
    monkeypatch.setattr(durable, "save_file", failing)
    with pytest.raises(RlftError, match="disk is full"):
        durable.replace_folder(tmp_path / "state", lambda folder: durable.save_nested(folder, {}))
    assert differences(durable.load_nested(tmp_path / "state"), STATE) == []


# -- the log -------------------------------------------------------------------------------------------------------


def test_the_log_is_cut_where_a_resumed_run_begins(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    artifact.truncate_log(path, "main", 3)  # nothing yet
    rows = [
        {"phase": "warm_start", "step": 9},
        *({"phase": "main", "step": n, "word": "a\u2028b"} for n in (1, 2, 3, 4, 5)),
    ]
    for row in rows:
        durable.append_line(path, row)
    with path.open("a") as file:
        file.write('{"phase": "main", "st')  # a kill in the middle of a line
    artifact.truncate_log(path, "main", 3)
    assert [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1]] == rows[:4]


# -- state ---------------------------------------------------------------------------------------------------------

STATE: dict[str, Any] = {
    "weights": {"a.b/c": torch.randn(3, 4), "empty": torch.zeros(0, 2), "half": torch.ones(2, dtype=torch.bfloat16)},
    "bytes": torch.get_rng_state(),
    "number": 7,
    "rate": 0.1,
    "none": None,
    "flag": True,
    "text": "ä",
    "list": [torch.tensor(3), {"x": torch.tensor([True, False])}, [], 1e-320],
    "by_number": {0: {"step": torch.tensor(1.0)}, 1: {}},
    "strided": torch.arange(12).view(3, 4).t(),
}


def test_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    shared = torch.ones(5)
    state = {**STATE, "one": shared, "two": shared}  # safetensors refuses memory that is shared
    durable.save_nested(tmp_path, state)
    assert differences(durable.load_nested(tmp_path), state) == []
    assert {file.suffix for file in tmp_path.iterdir()} == {".safetensors", ".json"}


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["cut", "gone", "empty", "noise"])
def test_a_damaged_state_is_refused(name: str, damage: str, tmp_path: Path) -> None:
    durable.save_nested(tmp_path, STATE)
    harm(tmp_path / name, damage)
    with pytest.raises(RlftError, match="damaged or incomplete"):
        durable.load_nested(tmp_path)


def harm(path: Path, damage: str) -> None:
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(
            {"cut": content[: len(content) * 2 // 3], "empty": b"", "noise": b"\xff" * len(content)}[damage]
        )


# -- checkpoints ---------------------------------------------------------------------------------------------------

CARD = artifact.Card(config={"task": {"_target_": "x"}, "seed": 1}, labels=["O", "B-Ä"], precision="fp32")


def checkpoint(run: Path) -> Path:
    folder = run / "checkpoint"
    folder.mkdir(parents=True)
    save_file({"w": torch.randn(50)}, folder / "model.safetensors")
    save_file({"h": torch.randn(50)}, folder / "heads.safetensors")
    (folder / "tokenizer.json").write_text('{"model": {}}')
    artifact.write_card(folder, CARD)
    return folder


def test_a_checkpoint_is_found_by_run_or_folder(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "run")
    for given in (tmp_path / "run", folder):
        assert artifact.find_checkpoint(str(given), "checkpoint") == folder
    assert artifact.read_card(folder) == CARD


def test_no_checkpoint_is_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(UsageError, match=r"checkpoint=.*run has no checkpoint in it"):
        artifact.find_checkpoint(str(tmp_path / "run"), "checkpoint")
    with pytest.raises(UsageError, match=r"init=.*none does not exist"):
        artifact.find_checkpoint(str(tmp_path / "none"), "init")
    (tmp_path / "run" / "config.yaml").write_text("seed: 1")
    with pytest.raises(UsageError, match="rlft train resume="):
        artifact.find_checkpoint(str(tmp_path / "run"), "checkpoint")


@pytest.mark.parametrize("name", ["model.safetensors", "heads.safetensors", "rlft.json", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["cut", "gone", "empty"])
def test_a_damaged_checkpoint_is_refused(name: str, damage: str, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path)
    harm(folder / name, damage)
    with pytest.raises(RlftError, match="damaged or incomplete") as caught:
        artifact.read_card(folder)
    assert str(folder) in str(caught.value)


def test_a_kill_between_the_renames_loses_no_checkpoint(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path)
    folder.rename(tmp_path / ".checkpoint.old")
    assert artifact.find_checkpoint(str(tmp_path), "checkpoint") == folder
    assert artifact.read_card(folder) == CARD


# -- what a result says of its making ------------------------------------------------------------------------------


def test_versions_and_commit() -> None:
    found = artifact.versions()
    assert {"rlft", "python", "torch", "transformers", "numpy", "processor"} <= set(found)
    commit = artifact.git_commit()
    assert commit is None or len(commit.removesuffix("+dirty")) == 40


def test_config_round_trip(tmp_path: Path) -> None:
    config = {"task": {"name": "Zoë", "x": [1, 2.5, None]}, "lr": 1e-05, "text": "yes"}
    artifact.write_config(tmp_path, config)
    assert artifact.read_config(tmp_path) == config
    shutil.copy(tmp_path / "config.yaml", tmp_path / "copy.yaml")
    (tmp_path / "config.yaml").write_text("a: [1, 2")
    with pytest.raises(RlftError, match=r"config\.yaml is damaged"):
        artifact.read_config(tmp_path)


def test_a_component_as_another_version_stored_it_is_named() -> None:
    stored = plain(OmegaConf.load(config_folder() / "data" / "sample.yaml"))
    del stored["match_lengths"]
    with pytest.raises(RlftError, match=r"sample\.Sample lacks match_lengths: another version of rlft wrote it"):
        build({"data": {**stored}})
    with pytest.raises(RlftError, match="lacks match_lengths and has lengths, which is no key of it"):
        build({"data": {**stored, "lengths": True}})
