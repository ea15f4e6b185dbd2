"""Contracts over every option that is shipped: it builds, makes a step, and its checkpoint gives the same scores."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice, product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from thinned import every_other, thinned

from rlft_cli import pipeline
from rlft_cli.config import config_folder
from rlft_cli.data import Splits
from rlft_cli.data.sample import Sample
from rlft_cli.episode import demonstrate
from rlft_cli.errors import UsageError
from rlft_cli.learner import learn
from rlft_cli.options import Library, read_choices
from rlft_cli.sources import read_target
from rlft_cli.training import Training
from toy_rewards import PREFERENCE, serving, untrained
from toy_training import config_of, differences, weights

LIBRARY = Library([config_folder()])
SMALL = [
    "hardware=cpu",
    "hardware.precision=fp32",
    "data.max_train=32",
    "data.max_dev=4",
    "data.max_test=4",
    "data.unseen_labels=drop",
    "optim.batch_tokens=300",
    "optim.max_batch_episodes=6",
    "optim.warmup_fraction=0",
    "warm_start.fraction=0",
]
MODELS = {
    "tiny": ["model=tiny", "model.width=16", "model.layers=1", "model.max_tokens=64"],
    "lstm": ["model=lstm", "model.hidden_width=8", "model.embedding_width=8"],
    "tiny_t5": ["model=tiny_t5", "model.width=16", "model.layers=1", "model.max_tokens=64"],
}
SHORT = ["task.max_prompt_tokens=32", "task.max_reply_tokens=6"]
TASKS = {
    "ner": ["task=ner"],
    "classification": ["task=classification"],
    "dialogue": ["task=dialogue", *SHORT],
    "preference": ["task=preference", *SHORT],
    "translation": ["task=translation", *SHORT],
    "summarisation": ["task=summarisation", *SHORT],
    "qa_generative": ["task=qa_generative", *SHORT],
    "language_modeling": ["task=language_modeling", "task.blocks=first", *SHORT],
    "goal_dialogue": ["task=goal_dialogue", "task.users_per_goal=1", "task.max_turns=8"],
}
# A task without text has its own model.
OWN = {"goal_dialogue": ["model=mlp", "model.hidden_width=8", "model.head_width=8"]}
# Tasks of writing are one episode with other rows and metrics: what an algorithm does with it is tried on dialogue.
WRITING = ("translation", "summarisation", "qa_generative", "language_modeling")


@pytest.fixture(autouse=True)
def sample_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The packaged sample is the same for all of these; reading it takes longer than a step."""
    monkeypatch.setattr(Sample, "load", _splits)


LOAD: Callable[[Sample, str], Splits] = Sample.load


@cache
def _splits(sample: Sample, rows: str) -> Splits:
    return LOAD(sample, rows)


def options(group: str) -> list[str]:
    return list(LIBRARY.options[group])


def traits(group: str, name: str) -> dict[str, Any]:
    source = LIBRARY.option(group, name)
    assert source is not None
    return dict(read_target(str(source.values["_target_"])).traits)


def home(group: str, name: str) -> str:
    """A task that an option is for."""
    able = traits(group, name).get("decisions")
    kind = {
        "ner": "tags", "classification": "classes", "dialogue": "tokens", "goal_dialogue": "acts", "preference": "pairs"
    }  # fmt: skip
    return next(task for task in kind if able is None or kind[task] in able)


def ready(*words: str) -> tuple[pipeline.Setup, Training]:
    """A setup and its training; a replay memory waits for a handful of episodes only."""
    small = [*words, *SMALL]
    if "warmup_episodes" in config_of(*small).memory:
        small.append("memory.warmup_episodes=1")
    setup = pipeline.new_setup(config_of(*small))
    return setup, pipeline.main_training(setup)


def one_step(setup: pipeline.Setup, training: Training) -> None:
    """Train one step: there is a finite loss, some weight moves, and no frozen one does."""
    frozen = {name for name, weight in setup.policy.named_parameters() if not weight.requires_grad}
    before = weights(setup.policy)
    (progress,) = islice(learn(training), 1)
    assert progress.step == 1 and progress.signals["loss"] == progress.signals["loss"]
    now = weights(setup.policy)
    assert all(torch.isfinite(weight).all() for weight in now.values())
    moved = {name for name in before if not torch.equal(before[name], now[name])}
    assert not moved & frozen
    earned = training.algorithm.needs == "labels" or progress.signals["grad_norm"] > 0
    assert moved or not earned


def scores(setup: pipeline.Setup, rows: list[Any]) -> Any:
    ids = setup.task.add(rows)
    with torch.no_grad():
        known = demonstrate(setup.task, setup.task.collate(ids))
        return setup.policy.eval()(known.inputs, known.action).scores


def same_after_saving(setup: pipeline.Setup, folder: Path, tolerance: float) -> None:
    folder.mkdir()
    setup.save_checkpoint(folder)
    saved = pipeline.checkpoint_setup(str(folder), setup.config.hardware, 1)
    assert saved.task.labels == setup.task.labels
    rows = setup.splits["train"][:3]
    one, two = scores(setup, rows), scores(saved, rows)
    assert torch.equal(one, two) if tolerance == 0 else (one - two).abs().max() < tolerance


# -- task x algorithm ----------------------------------------------------------------------------------------------


def told_apart(pair: tuple[str, str]) -> bool:
    """NER with what tags allow, and each algorithm for other decisions once; the usual algorithms with every task."""
    task, algo = pair
    return task == "ner" or algo in ("supervised", "reinforce", "dqn") or task == home("algo", algo)


@pytest.mark.parametrize(("task", "algo"), thinned(product(options("task"), options("algo")), told_apart))
def test_every_task_with_every_algorithm(task: str, algo: str, tmp_path: Path) -> None:
    """As composed, recipes included, on model=tiny: a step, a checkpoint, and a resume state that loads."""
    if traits("task", task)["decisions"] not in traits("algo", algo)["decisions"]:
        pytest.skip("the algorithm is not for such decisions")
    if task in WRITING and algo not in ("supervised", "reinforce", "dqn"):
        pytest.skip("tried on dialogue")
    words = [*TASKS[task], f"algo={algo}", *OWN.get(task, MODELS["tiny"]), "tuning=full"]
    source = LIBRARY.option("algo", algo)
    assert source is not None
    if any(choice.option == "logged" for choice in read_choices(source) or []):
        if traits("task", task)["decisions"] not in traits("feedback", "logged")["decisions"]:
            pytest.skip("the algorithm is for logs, and there are none of such decisions")
        words.append("feedback=bandit")  # what there is to learn from without a file
    setup, training = ready(*words)
    one_step(setup, training)
    same_after_saving(setup, tmp_path / "checkpoint", 0)
    again = pipeline.main_training(setup)
    again.load_state_dict(training.state_dict())
    assert differences(training.state_dict(), again.state_dict()) == []


def by_default(task: str) -> str:
    """An algorithm for the task that the tests of models and seeds use."""
    return "algo=reward_model" if task == "preference" else "algo=reinforce"


@pytest.mark.parametrize(
    "task", thinned([task for task in options("task") if task not in OWN], lambda task: task not in WRITING)
)
def test_every_task_with_an_lstm(task: str, tmp_path: Path) -> None:
    setup, training = ready(*TASKS[task], by_default(task), *MODELS["lstm"], "tuning=full")
    one_step(setup, training)
    same_after_saving(setup, tmp_path / "checkpoint", 0)


@pytest.mark.parametrize(
    ("task", "tuning"), every_other(product(["dialogue", "translation"], ["full", "freeze", "lora"]))
)
def test_an_encoder_decoder_with_every_tuning(task: str, tuning: str, tmp_path: Path) -> None:
    """Learns from what it wrote and values it; frozen weights stay, and a checkpoint gives the same scores."""
    algo = "actor_critic" if tuning == "full" else "supervised"
    setup, training = ready(*TASKS[task], f"algo={algo}", *MODELS["tiny_t5"], f"tuning={tuning}")
    one_step(setup, training)
    frozen = {name for name, weight in setup.policy.named_parameters() if not weight.requires_grad}
    assert bool(frozen) == (tuning != "full")
    same_after_saving(setup, tmp_path / "checkpoint", 1e-5 if tuning in MERGED else 0)


MERGED = ("lora", "dora", "ia3", "loha", "lokr")  # additions that are merged when they are saved: rounding


# -- every option of the small groups ------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["ner", "dialogue"])
@pytest.mark.parametrize("tuning", options("tuning"))
def test_every_tuning(tuning: str, task: str, tmp_path: Path) -> None:
    if traits("task", task)["decisions"] not in traits("tuning", tuning).get("decisions", ("tags", "tokens")):
        pytest.skip("the tuning is not for such decisions")
    # tiny's language model has no biases
    model = MODELS["lstm" if (tuning, task) == ("bitfit", "dialogue") else "tiny"]
    setup, training = ready(*TASKS[task], "algo=supervised", *model, f"tuning={tuning}")
    one_step(setup, training)
    trained = {name.partition(".")[0] for name, weight in setup.policy.named_parameters() if weight.requires_grad}
    assert ("prompt" if tuning == "prompt" else "body") in trained
    same_after_saving(setup, tmp_path / "checkpoint", 1e-5 if tuning in MERGED else 0)


@pytest.mark.parametrize(("tuning", "task"), every_other(product(MERGED, ["ner", "dialogue"])))
def test_additions_begin_at_the_pretrained_model(tuning: str, task: str, recwarn: pytest.WarningsRecorder) -> None:
    """The scores before any step are those without them, only they and the heads train, and nothing is warned of."""
    scores = []
    for words in (["tuning=full"], [f"tuning={tuning}"]):
        setup, training = ready(*TASKS[task], "algo=supervised", *MODELS["tiny"], *words)
        known = demonstrate(setup.task, {"id": torch.tensor(setup.ids["train"][:2])})
        setup.policy.eval()
        with torch.no_grad():
            scores.append(setup.policy(training.inputs_of(known), known.action).scores)
    assert torch.allclose(scores[0], scores[1], atol=1e-5)
    assert not [one for one in recwarn if one.category is FutureWarning]
    trained = {name for name, weight in setup.policy.named_parameters() if weight.requires_grad}
    assert all(
        name.startswith("body.") is any(mark in name for mark in ("lora_", "hada_", "lokr_", "ia3_"))
        for name in trained
    )


def test_factors_need_a_model_whose_layers_are_known() -> None:
    with pytest.raises(UsageError, match="is not known"):
        ready(*TASKS["dialogue"], "algo=supervised", *MODELS["lstm"], "tuning=ia3")
    words = [*TASKS["dialogue"], "algo=supervised", *MODELS["tiny"], "tuning=ia3"]
    setup, _ = ready(*words, "tuning.target_modules=[v_proj,up_proj]", "tuning.feedforward_modules=[]")
    marked = [name for name, weight in setup.policy.named_parameters() if "ia3_" in name]
    assert {name.split(".")[-3] for name in marked} == {"v_proj", "up_proj"}


def test_biases_alone_are_trained() -> None:
    setup, _ = ready(*TASKS["ner"], "algo=supervised", *MODELS["tiny"], "tuning=bitfit")
    kinds = {weight.requires_grad: name for name, weight in setup.policy.body.named_parameters()}
    assert kinds[True].endswith(".bias") and kinds[False].endswith(".weight")
    assert all(weight.requires_grad for name, weight in setup.policy.named_parameters() if not name.startswith("body."))
    with pytest.raises(UsageError, match="this model has none; type tuning=lora"):
        ready(*TASKS["dialogue"], "algo=supervised", *MODELS["tiny"], "tuning=bitfit")


def test_a_soft_prompt_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    words = [*TASKS["dialogue"], "algo=supervised", *MODELS["tiny"], "tuning=prompt", "tuning.length_tokens=3"]
    setup, training = ready(*words)
    one_step(setup, training)
    (tmp_path / "run").mkdir()
    setup.save_checkpoint(tmp_path / "run")
    again, _ = ready(*words, f"init={tmp_path / 'run'}")
    assert torch.equal(again.policy.prompt, setup.policy.prompt) and again.policy.prompt.requires_grad
    with pytest.raises(UsageError, match=r"type tuning\.length_tokens=3"):
        ready(*words, f"init={tmp_path / 'run'}", "tuning.length_tokens=4")
    with pytest.raises(UsageError, match="needs a transformer"):
        ready(*TASKS["dialogue"], "algo=supervised", *MODELS["lstm"], "tuning=prompt")


@pytest.mark.parametrize(
    ("model", "tuning"),
    [("tiny", "lora"), ("lstm", "lora"), ("tiny_t5", "lora"), *(("tiny", tuning) for tuning in MERGED[1:])],
)
def test_additions_to_a_language_model_in_bf16(model: str, tuning: str, tmp_path: Path) -> None:
    """The frozen weights are held in bfloat16, what is trained and what is saved in float32; opened, all is held low."""
    words = [
        *TASKS["dialogue"],
        "algo=reinforce",
        *MODELS[model],
        f"tuning={tuning}",
        *SMALL,
        "hardware.precision=bf16",
    ]
    setup = pipeline.new_setup(config_of(*words))
    training = pipeline.main_training(setup)
    kinds = {(weight.requires_grad, weight.dtype) for weight in setup.policy.body.parameters()}
    assert kinds == {(True, torch.float32), (False, torch.bfloat16)}
    before = {name: weight.detach().clone() for name, weight in setup.policy.named_parameters()}
    one_step(setup, training)
    for name, weight in setup.policy.named_parameters():
        assert weight.requires_grad or torch.equal(weight, before[name]), name
    same_after_saving(setup, tmp_path / "checkpoint", 0.1)
    stored = load_file(tmp_path / "checkpoint" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float32}
    opened = pipeline.checkpoint_setup(str(tmp_path / "checkpoint"), config_of(*words).hardware, 1)
    assert {weight.dtype for weight in opened.policy.body.parameters()} == {torch.bfloat16}


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[str]]]:
    """Keys that rewards leave to the user: a function, a server, checkpoints."""
    folder = tmp_path_factory.mktemp("outside")
    judge, reader = (
        untrained(folder / name, *words)
        for name, words in (("judge", PREFERENCE), ("reader", ["task=classification", "algo=supervised"]))
    )
    label = json.loads((reader / "rlft.json").read_text())["labels"][0]
    with serving() as (url, _):
        yield {
            "function": ["reward.path=toy_rewards.agreement"],
            "http": [f"reward.url={url}"],
            "reward_model": [f"reward.checkpoint={judge}", "reward.centre=0", "reward.scale=1"],
            "classifier": [f"reward.checkpoint={reader}", f"reward.label={label}"],
        }


@pytest.mark.parametrize(("reward", "algo"), every_other(product(options("reward"), ["reinforce", "dqn"])))
def test_every_reward(reward: str, algo: str, outside: dict[str, list[str]]) -> None:
    task = home("reward", reward) if reward != "weighted_sum" else "dialogue"
    given = [*outside.get(reward, ()), *OWN.get(task, MODELS["tiny"])]
    words = [*TASKS[task], f"algo={algo}", f"reward={reward}", *given]
    dialogue = "task=dialogue" in words
    if algo == "dqn" and not dialogue:
        words += ["algo.loss_kind=huber", "algo.gamma=1"]  # rewards that are no 0 or 1, some of them of whole sentences
    setup, training = ready(*words, "tuning=full")
    one_step(setup, training)
    assert training.counts.reaction_decisions > 0


@pytest.mark.parametrize("explore", options("explore"))
def test_every_exploration(explore: str) -> None:
    algo = "reinforce" if traits("explore", explore)["on_policy"] else "dqn"
    for task in ("ner", "classification"):
        one_step(*ready(*TASKS[task], f"algo={algo}", f"explore={explore}", *MODELS["tiny"], "tuning=full"))
    if "acts" in traits("explore", explore)["decisions"]:
        one_step(*ready(*TASKS["goal_dialogue"], f"algo={algo}", f"explore={explore}", *OWN["goal_dialogue"]))


@pytest.mark.parametrize(
    ("task", "memory"),
    thinned(product(["ner", "dialogue", "goal_dialogue"], options("memory")), lambda case: case[0] == "ner"),
)
def test_every_memory(task: str, memory: str) -> None:
    model = OWN.get(task, MODELS["tiny"])
    setup, training = ready(*TASKS[task], "algo=dqn", f"memory={memory}", *model, "tuning=full")
    one_step(setup, training)
    again = pipeline.main_training(setup)
    again.load_state_dict(training.state_dict())
    assert differences(training.memory.state_dict(), again.memory.state_dict()) == []


@pytest.mark.parametrize("feedback", options("feedback"))
def test_every_feedback(feedback: str, tmp_path: Path) -> None:
    words = [*TASKS[home("feedback", feedback)], "algo=dqn", f"feedback={feedback}", *MODELS["tiny"], "tuning=full"]
    if feedback == "delayed":
        words.append("feedback.steps=0")
    if feedback == "logged":
        lines = [
            {"rlft_log": 1, "task": "ner", "labels": ["O"]},
            {"words": ["Anna", "sings"], "action": ["O", "O"], "reward": [0, 1], "propensity": [0.5, 0.5]},
        ]
        (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        words.append(f"feedback.log={tmp_path / 'log.jsonl'}")
    setup, training = ready(*words)
    one_step(setup, training)
    assert training.counts.label_examples == 0


# -- seeds ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", thinned(options("task"), lambda task: task in ("ner", "dialogue")))
def test_the_seed_decides_everything(task: str) -> None:
    """Same words, same weights; another seed, others. Vocabularies that are built from the data are built alike."""

    def trained(seed: int) -> dict[str, torch.Tensor]:
        model = OWN.get(task, MODELS["tiny"])
        setup, training = ready(*TASKS[task], by_default(task), *model, "tuning=full", f"seed={seed}")
        one_step(setup, training)
        return weights(setup.policy)

    one = trained(3)
    assert differences(one, trained(3)) == []
    assert differences(one, trained(4)) != []
