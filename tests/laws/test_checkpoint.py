"""Law 4: a checkpoint opened in a fresh process gives the same scores, and transformers' Auto classes open it too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from rlft_cli import pipeline
from rlft_cli.episode import demonstrate
from rlft_cli.learner import learn
from toy_training import config_of

TESTS = Path(__file__).parent.parent
SMALL = [
    "hardware=cpu",
    "hardware.precision=fp32",
    "data.max_train=24",
    "data.max_dev=4",
    "data.max_test=4",
    "data.unseen_labels=drop",
    "optim.batch_tokens=256",
    "evaluation.bootstrap=2",
]
TINY = ["model=tiny", "model.width=16", "model.layers=2"]
SHORT = ["task.max_prompt_tokens=32", "task.max_reply_tokens=6"]
CASES = {
    "full": [
        "task=ner",
        "algo=dqn",
        "algo.gamma=0.5",
        "algo.loss_kind=huber",
        "algo.dueling=true",
        *TINY,
        "memory=replay",
        "memory.warmup_episodes=4",
    ],
    "freeze": ["task=classification", "algo=reinforce", "tuning=freeze", "tuning.first_layers=1", *TINY],
    "lora": ["task=ner", "algo=supervised", "tuning=lora", *TINY],
    "lora_dialogue": ["task=dialogue", "algo=supervised", "tuning=lora", *TINY, *SHORT],
    "full_dialogue": ["task=dialogue", "algo=supervised", "tuning=full", *TINY, *SHORT],
    "lstm": ["task=classification", "algo=supervised", "model=lstm", "model.hidden_width=8"],
}
MERGED = 1e-5  # W x + B A x and (W + B A) x differ in rounding only


def scores_of(setup: Any, rows: list[Any]) -> dict[str, Tensor]:
    """Scores of the reference decisions of rows."""
    task = setup.task
    ids = task.add(rows)
    setup.policy.eval()
    with torch.no_grad():
        known = demonstrate(task, task.collate(ids))
        return {"scores": setup.policy(known.observation, known.action).scores, "mask": known.mask.clone()}


def train_and_save(words: list[str], folder: Path) -> list[Any]:
    """Three steps of training, a checkpoint, its scores; returns the rows that were scored."""
    setup = pipeline.new_setup(config_of(*words, *SMALL))
    before = {name: weight.clone() for name, weight in setup.policy.named_parameters()}
    list(islice(learn(pipeline.main_training(setup)), 3))
    now = dict(setup.policy.named_parameters())
    assert any(not torch.equal(before[name], now[name]) for name in before), "nothing was learned"
    for name, weight in now.items():
        if not weight.requires_grad:
            assert torch.equal(before[name], weight)
    rows: list[Any] = setup.splits["train"][:6]
    folder.mkdir(parents=True)
    setup.save_checkpoint(folder)
    save_file(scores_of(setup, rows), folder.parent / "scores.safetensors")
    (folder.parent / "rows.json").write_text(json.dumps(rows))
    return rows


def reopen(root: Path) -> None:
    """In the fresh process: the scores that each checkpoint gives."""
    hardware = OmegaConf.create(
        {
            "_target_": "rlft_cli.hardware.Hardware",
            "device": "cpu",
            "precision": "fp32",
            "threads": 1,
        }
    )
    for run in sorted(root.iterdir()):
        torch.manual_seed(12345)
        setup = pipeline.checkpoint_setup(str(run / "checkpoint"), hardware, seed=7)
        save_file(scores_of(setup, json.loads((run / "rows.json").read_text())), run / "again.safetensors")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint for each case, and the scores before and after, the latter by a process that never saw the first."""
    root = tmp_path_factory.mktemp("runs")
    for name, words in CASES.items():
        train_and_save(words, root / name / "checkpoint")
    call = (
        f"import sys; sys.path[:0] = {[str(TESTS.parent), str(TESTS), str(Path(__file__).parent)]!r}; "
        f"import pathlib, test_checkpoint; test_checkpoint.reopen(pathlib.Path({str(root)!r}))"
    )
    subprocess.run([sys.executable, "-c", call], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, cwd=root)
    return root


@pytest.mark.parametrize("name", CASES)
def test_a_fresh_process_gives_the_same_scores(runs: Path, name: str) -> None:
    before, again = (load_file(runs / name / f"{file}.safetensors") for file in ("scores", "again"))
    assert before["scores"][before["mask"]].std() > 0
    if name.startswith("lora"):
        assert (before["scores"] - again["scores"]).abs().max() < MERGED
    else:
        assert torch.equal(before["scores"], again["scores"])


@pytest.mark.parametrize("name", ["full", "freeze", "lora"])
def test_transformers_opens_the_encoder(runs: Path, name: str) -> None:
    folder = runs / name / "checkpoint"
    encoder, note = AutoModel.from_pretrained(folder, add_pooling_layer=False, output_loading_info=True)
    assert not note["missing_keys"] and not note["unexpected_keys"]
    stored = load_file(folder / "model.safetensors")
    assert all(torch.equal(stored[key], weight) for key, weight in encoder.state_dict().items() if key in stored)
    ids = AutoTokenizer.from_pretrained(folder)("one small text", return_tensors="pt")
    assert encoder(**ids).last_hidden_state.shape[1] == ids["input_ids"].shape[1]
    assert not [key for key in stored if "lora" in key]


@pytest.mark.parametrize("name", ["full_dialogue", "lora_dialogue"])
def test_transformers_opens_the_language_model(runs: Path, name: str) -> None:
    folder = runs / name / "checkpoint"
    model, note = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not note["missing_keys"] and not note["unexpected_keys"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "a coffee please"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    setup = pipeline.checkpoint_setup(str(folder), config_of(*CASES[name], *SMALL).hardware, seed=1)
    ids = setup.task.ask([{"turns": [{"role": "user", "content": "a coffee please"}], "origin": "here"}])
    observation = setup.task.collate(ids)
    assert observation["prompt_ids"].tolist() == chat["input_ids"].tolist()
    with torch.no_grad():
        theirs = model.eval()(**chat).logits[:, -1]
        ours = setup.policy.eval()(observation, torch.zeros(1, 1, dtype=torch.int64)).scores[:, 0]
    legal = ours > -1e8
    assert (theirs - ours)[legal].abs().max() < 1e-5


def test_a_checkpoint_holds_no_pickle(runs: Path) -> None:
    suffixes = {file.suffix for file in runs.rglob("checkpoint/*")}
    assert ".safetensors" in suffixes and not suffixes & {".bin", ".pt", ".pth", ".pkl"}
