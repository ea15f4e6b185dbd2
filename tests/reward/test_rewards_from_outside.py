"""Rewards that others compute: own functions, servers, reward models and classifiers; and what happens when they fail."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from rlft_cli.errors import RewardFailure, RlftError, UsageError
from rlft_cli.pipeline import given_reward, load_reward
from rlft_cli.reward import Batch, Reward
from rlft_cli.reward.function import Function
from rlft_cli.reward.http import Http
from rlft_cli.reward.reward_model import RewardModel
from rlft_cli.scorers import RewardModelScorer, measure
from toy_rewards import PREFERENCE, agreeing, option, serving, untrained
from toy_training import accelerator

MASK = torch.tensor([[True, True, False], [True, True, True]])
CONTEXTS = [[{"role": "user", "content": "tea?"}], [{"role": "user", "content": "milk?"}]]


def judge(reward: Reward, replies: list[str], references: list[str] | None = None) -> Tensor:
    batch = Batch(references=references or ["yes", "no sugar"], predictions=replies, labels=[], contexts=CONTEXTS)
    return reward(torch.zeros(2, 3, dtype=torch.int64), MASK, batch)


def function(name: str) -> Function:
    return Function(path=f"toy_rewards.{name}", contract="alone")


def http(url: str, **changes: Any) -> Http:
    settings: dict[str, Any] = {"timeout_seconds": 5.0, "retries": 0, "pause_seconds": 0.0, "contract": "alone"}
    return Http(url=url, **(settings | changes))


def test_a_function_pays_at_the_last_decision() -> None:
    assert judge(function("agreement"), ["yes", "no milk"]).tolist() == [[0, 1, 0], [0, 0, 0.5]]


def test_a_server_is_told_everything_and_pays_at_the_last_decision() -> None:
    with serving() as (url, asked):
        assert judge(http(url), ["yes", "no milk"]).tolist() == [[0, 1, 0], [0, 0, 0.5]]
    assert asked == [{"contexts": CONTEXTS, "replies": ["yes", "no milk"], "references": ["yes", "no sugar"]}]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raises", r"the reward function toy_rewards\.raises raised KeyError: 'tone'; it is called with contexts="),
        ("too_few", r"gave 1 rewards for 2 replies; expected one for each"),
        ("not_a_number", r"gave nan for reply 2 of 2; expected a finite number"),
        ("words", r"gave \"\['good', 'good'\]\", expected 2 numbers"),
    ],
)
def test_a_function_that_fails(name: str, message: str) -> None:
    with pytest.raises(RewardFailure, match=message):
        judge(function(name), ["a", "b"])


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("toy_rewards.missing", "names no function; expected package.module.function"),
        ("toy_rewards.NOT_A_FUNCTION", "names no function"),
        ("alone", "names no function"),
        ("no_such_module.f", r"cannot import no_such_module \(ModuleNotFoundError.*PYTHONPATH=FOLDER"),
    ],
)
def test_a_path_without_a_function(path: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Function(path=path, contract="alone")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((200, "no json"), "answered b'no json', which is no JSON"),
        ((200, "[1, 2]"), r"answered '\[1, 2\]'; expected"),
        ((200, '{"rewards": [1]}'), "gave 1 rewards for 2 replies"),
        ((200, '{"rewards": [1, NaN]}'), "gave nan for reply 2 of 2"),
        ((404, ""), "refused: status 404"),
    ],
)
def test_a_server_that_answers_wrongly_is_not_asked_again(answer: tuple[int, str], message: str) -> None:
    with serving(lambda given: answer) as (url, asked), pytest.raises(RewardFailure, match=message):
        judge(http(url, retries=3), ["a", "b"])
    assert len(asked) == 1


def test_a_server_that_is_busy_is_asked_again() -> None:
    answers = iter([(503, ""), (429, "")])
    with serving(lambda given: next(answers, None) or agreeing(given)) as (url, asked):
        assert judge(http(url, retries=2), ["yes", "b"])[0, 1] == 1
    assert len(asked) == 3


def test_a_server_that_is_down_or_slow_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("rlft_cli.reward.http.time.sleep", pauses.append)
    with serving() as (url, _):
        pass
    with pytest.raises(RewardFailure, match=r"gave no answer in 4 tries of 5 s \(.*refused.*\); start it again"):
        judge(http(url, retries=3, pause_seconds=0.5), ["a", "b"])
    assert pauses == [0.5, 1.0, 2.0]
    begun = time.perf_counter()
    with (
        serving(wait=threading.Event()) as (url, _),
        pytest.raises(RewardFailure, match=r"1 tries of 0\.05 s \(.*timed out"),
    ):
        judge(http(url, timeout_seconds=0.05), ["a", "b"])
    assert time.perf_counter() - begun < 4


def test_an_address_that_is_none() -> None:
    with pytest.raises(UsageError, match=r"reward\.url=localhost:80 is no address"):
        http("localhost:80")


def test_what_was_answered_must_be_known() -> None:
    batch = Batch(references=["a", "b"], predictions=["a", "b"], labels=[])
    with pytest.raises(RlftError, match="0 contexts for 2 replies"):
        function("agreement")(torch.zeros(2, 3, dtype=torch.int64), MASK, batch)


# -- checkpoints ---------------------------------------------------------------------------------------------------


def model(scores: Callable[..., list[float]], **changes: Any) -> RewardModel:
    settings: dict[str, Any] = {
        "checkpoint": "RUN", "centre": 2.0, "scale": 4.0, "samples": 2, "clip": 1.0, "contract": "alone",
    }  # fmt: skip
    made = RewardModel(**(settings | changes))
    made.scorer.append(scores)
    return made


def test_a_score_is_centred_scaled_and_clipped() -> None:
    paid = judge(model(lambda contexts, replies: [4.0, -10.0]), ["a", "b"])
    assert paid.tolist() == [[0, 0.5, 0], [0, 0, -1]]  # (4 - 2) / 4, and (-10 - 2) / 4 clipped


def test_centre_and_scale_are_those_of_samples() -> None:
    made = model(lambda contexts, replies: [1.0, 3.0], centre=None, scale=None)
    with pytest.raises(RlftError, match="measured when training begins; give both"):
        judge(made, ["a", "b"])
    measure(made, CONTEXTS, ["a", "b"])
    assert made.measured == {"centre": 2.0, "scale": pytest.approx(2**0.5)}
    assert judge(made, ["a", "b"]).sum(1).tolist() == pytest.approx([-(0.5**0.5), 0.5**0.5])
    given = model(lambda contexts, replies: [1.0, 3.0], centre=None)
    measure(given, CONTEXTS, ["a", "b"])
    assert given.measured == {"centre": 2.0}  # what is given is kept


def test_a_reward_model_that_tells_nothing_apart() -> None:
    with pytest.raises(RewardFailure, match=r"gives all of 2 sampled replies the same score \(1\)"):
        measure(model(lambda contexts, replies: [1.0, 1.0], scale=None), CONTEXTS, ["a", "b"])


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    untrained(folder / "preference", *PREFERENCE)
    untrained(folder / "classification", "task=classification", "algo=supervised")
    return folder


def node(name: str, **changes: Any) -> dict[str, Any]:
    import dataclasses

    shipped = option(name, **changes)
    keys = [field.name for field in dataclasses.fields(shipped) if field.init]  # type: ignore[arg-type]
    return {"_target_": f"{type(shipped).__module__}.{type(shipped).__name__}", **{k: vars(shipped)[k] for k in keys}}


def test_a_reward_model_reads_context_and_reply(checkpoints: Path) -> None:
    given = node("reward_model", checkpoint=str(checkpoints / "preference"), centre=0.0, scale=1.0)
    reward = load_reward(given, accelerator())
    one = judge(reward, ["it costs five dollars", "a bike"]).sum(1)
    other = judge(reward, ["a bike", "a bike"]).sum(1)
    assert one[0] != other[0] and one[1] == other[1]
    swapped = Batch(references=["", ""], predictions=["a bike"] * 2, labels=[], contexts=CONTEXTS[::-1])
    assert reward(torch.zeros(2, 3, dtype=torch.int64), MASK, swapped).sum(1).tolist() != other.tolist()
    assert torch.isfinite(judge(reward, ["", "a"])).all()  # an empty reply is one too


def test_a_reward_model_judges_answers() -> None:
    scorer = RewardModelScorer(reader=None)  # type: ignore[arg-type]
    nothing = [{"role": "user", "content": " "}]
    with pytest.raises(UsageError, match=r"nothing stands before the first block.*task\.given_tokens=32"):
        scorer([CONTEXTS[0], nothing], ["a", "b"])


def test_a_reward_for_a_checkpoint_is_in_the_language_of_its_data() -> None:
    typed = OmegaConf.create({"reward": node("rouge_l") | {"language": "${data.language}"}, "data": None})
    of_run = SimpleNamespace(config=OmegaConf.create({"data": {"language": "zh"}}), accelerator=accelerator())
    assert vars(given_reward(typed.reward, of_run))["language"] == "zh"  # type: ignore[arg-type]


def test_a_classifier_pays_a_probability(checkpoints: Path) -> None:
    folder = str(checkpoints / "classification")
    labels = json.loads((checkpoints / "classification" / "rlft.json").read_text())["labels"]
    paid = [
        judge(load_reward(node("classifier", checkpoint=folder, label=label), accelerator()), ["one of them", ""])
        for label in labels
    ]
    assert torch.stack(paid).sum(0)[0, 1].item() == pytest.approx(1.0, abs=1e-5)
    assert all(one[1, 2] == 0 for one in paid)  # an empty reply is of no class
    weighted = {
        "_target_": "rlft_cli.reward.weighted_sum.WeightedSum",
        "terms": [node("classifier", checkpoint=folder, label=labels[0]), node("length", least_words=3)],
        "weights": [1.0, 0.5],
    }
    both = judge(load_reward(weighted, accelerator()), ["one of them", "of"])
    assert both[0, 1].item() == pytest.approx(paid[0][0, 1].item(), abs=1e-6)
    assert both.shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "folder", "keys", "message"),
    [
        (
            "reward_model",
            "classification",
            {},
            r"is of another task \(classification\); expected one of task=preference",
        ),
        ("classifier", "preference", {"label": "x"}, r"is of another task \(preference\); expected one of task=class"),
        ("classifier", "classification", {"label": "joyy"}, "reward.label=joyy is no class of .*; it knows "),
        ("reward_model", "nowhere", {}, r"reward\.checkpoint=.*nowhere does not exist"),
    ],
)
def test_a_checkpoint_that_does_not_fit(
    checkpoints: Path, name: str, folder: str, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        load_reward(node(name, checkpoint=str(checkpoints / folder), **keys), accelerator())
