"""What every reward option must keep (PAINS P10), on every kind of decision that it says it can judge."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from rlft_cli.reward import Batch, Reward

OPTIONS = sorted((Path(__file__).parents[2] / "configs" / "reward").glob("*.yaml"))
OUTSIDE = ("classifier", "http", "reward_model")  # need a checkpoint or a server: test_rewards_from_outside.py
GIVEN = {"function": {"path": "toy_rewards.agreement"}}  # what their YAML leaves to the user
ALONE = ("Distinct", "Length", "Repetition")  # judge a reply without its reference
LABELS = {
    "tags": ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"],
    "classes": ["ham", "spam", "other"],
    "pairs": ["first", "second"],
    "tokens": [],
    "acts": ["a", "b"],
}
REFERENCES: dict[str, list[Any]] = {
    "tags": [
        ["B-PER", "I-PER", "O", "B-LOC"],
        ["O", "O", "B-LOC"],
        ["O", "O"],
        ["B-PER", "B-PER", "I-PER", "I-PER", "O"],
        ["B-PER"],
    ],
    "classes": ["ham", "spam", "other", "spam", "ham"],
    "pairs": ["first", "second", "second", "first", "second"],
    "tokens": ["one large coffee", "yes please", "that is all for today, thank you", "no", "with milk and sugar"],
    "acts": [{"success": True, "acts": [0, 1] * n} for n in range(1, 6)],
}
CORRUPTED: dict[str, list[Any]] = {  # wrong in every row
    "tags": [
        ["B-PER", "O", "O", "O"],
        ["O", "B-LOC", "I-LOC"],
        ["O", "B-PER"],
        ["B-LOC", "O", "O", "O", "O"],
        ["O"],
    ],
    "classes": ["spam", "other", "ham", "ham", "other"],
    "pairs": ["second", "first", "first", "second", "first"],
    "tokens": ["two small teas", "maybe", "is that all", "ja", "with milk"],
    "acts": [{"success": False, "acts": [0, 1] * n} for n in range(1, 6)],
}


@dataclass(frozen=True)
class Case:
    """One reward option with episodes of one kind."""

    reward: Reward
    kind: str

    def batch(self, predictions: list[Any], references: list[Any]) -> tuple[Tensor, Tensor, Batch]:
        """Actions, mask and batch of the episodes; tokens are invented, one per word of the reply and one eos."""
        labels = LABELS[self.kind]
        if self.kind == "tags":
            rows = [[labels.index(tag) for tag in tags] for tags in predictions]
        elif self.kind == "acts":
            rows = [outcome["acts"] for outcome in predictions]
        elif labels:
            rows = [[labels.index(label)] for label in predictions]
        else:
            rows = [[*(len(word) for word in reply.split()), 0] for reply in predictions]
        width = max(map(len, rows)) + 1  # a column of padding in every row
        action = torch.tensor([row + [-7] * (width - len(row)) for row in rows])
        mask = torch.tensor([[t < len(row) for t in range(width)] for row in rows])
        contexts = [""] * len(predictions)
        return action, mask, Batch(references=references, predictions=predictions, labels=labels, contexts=contexts)

    def __call__(self, predictions: list[Any], references: list[Any]) -> Tensor:
        return self.reward(*self.batch(predictions, references))


def build(path: Path) -> Reward:
    given = GIVEN.get(path.stem, {})
    beside = OmegaConf.create({"data": {"language": "en"}, "reward": OmegaConf.load(path)})  # what its YAML refers to
    reward: Reward = instantiate(beside.reward, **given, _convert_="all")  # else terms become DictConfig
    return reward


def cases() -> list[Any]:
    found = []
    for path in OPTIONS:
        if path.stem in OUTSIDE:
            continue
        reward = build(path)
        kinds = reward.decisions
        if path.stem == "weighted_sum":
            kinds = ("tokens",)  # what the terms in its YAML judge
        found += [pytest.param(Case(reward, kind), id=f"{path.stem}-{kind}") for kind in kinds]
    return found


every_case = pytest.mark.parametrize("case", cases())
every_case_by_itself = pytest.mark.parametrize(
    "case", [case for case in cases() if not case.id.startswith("shuffled-")]
)  # the control exchanges rewards within the batch


def padded(reward: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(reward, (0, width - reward.shape[1]))


def episodes(kind: str) -> tuple[list[Any], list[Any]]:
    """Right and wrong predictions of every reference, side by side as the samples of one example are."""
    pairs = zip(REFERENCES[kind], CORRUPTED[kind], strict=True)
    return [p for pair in pairs for p in pair], [r for r in REFERENCES[kind] for _ in range(2)]


def test_there_is_an_option_for_every_module() -> None:
    modules = (Path(__file__).parents[2] / "rlft_cli" / "reward").glob("[a-z]*.py")
    assert [path.stem for path in OPTIONS] == sorted(path.stem for path in modules)


@pytest.mark.parametrize("path", OPTIONS, ids=lambda path: path.stem)
def test_every_key_has_a_comment(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert lines[1].startswith(f"_target_: rlft_cli.reward.{path.stem}.")
    for before, line in itertools.pairwise(lines[1:]):
        if not line.lstrip().startswith("#"):
            assert before.lstrip().startswith("#"), f"no comment above: {line}"


@every_case
def test_shape_type_and_range(case: Case) -> None:
    predictions, references = episodes(case.kind)
    action, mask, batch = case.batch(predictions, references)
    reward = case.reward(action, mask, batch)
    assert reward.shape == action.shape
    assert reward.dtype == torch.float32
    assert torch.isfinite(reward).all()
    assert reward.abs().max() <= 1
    assert (reward[~mask] == 0).all()


@every_case
def test_what_is_masked_does_not_matter(case: Case) -> None:
    action, mask, batch = case.batch(*episodes(case.kind))
    other = torch.where(mask, action, 3)
    assert torch.equal(case.reward(action, mask, batch), case.reward(other, mask, batch))


@every_case_by_itself
def test_permuting_the_batch_permutes_the_rewards(case: Case) -> None:
    predictions, references = episodes(case.kind)
    whole = case(predictions, references)
    order = torch.randperm(len(predictions), generator=torch.Generator().manual_seed(0)).tolist()
    permuted = case([predictions[n] for n in order], [references[n] for n in order])
    assert torch.equal(permuted, whole[order])


@every_case_by_itself
def test_splitting_the_batch_changes_nothing(case: Case) -> None:
    predictions, references = episodes(case.kind)
    whole = case(predictions, references)
    for n in range(len(predictions)):
        alone = case(predictions[n : n + 1], references[n : n + 1])
        assert torch.equal(padded(alone, whole.shape[1])[0], whole[n])


@every_case
def test_asking_twice_changes_nothing(case: Case) -> None:
    assert torch.equal(case(*episodes(case.kind)), case(*episodes(case.kind)))


@every_case
def test_the_reference_beats_a_corrupted_prediction(case: Case) -> None:
    references = REFERENCES[case.kind]
    right, wrong = case(references, references).sum(1), case(CORRUPTED[case.kind], references).sum(1)
    if type(case.reward).__name__ == "Constant":
        assert set(right.tolist()) == ({1.0} if case.kind != "tags" else {1.0, 2.0, 3.0, 4.0, 5.0})
        assert torch.equal(right, wrong)  # the control must not tell them apart
        return
    if type(case.reward).__name__ in ALONE:
        return
    assert (right > wrong).all()


@every_case
def test_the_reward_varies(case: Case) -> None:
    total = case(*episodes(case.kind)).sum(1)
    if type(case.reward).__name__ not in ("Constant", *ALONE):
        assert total.std() > 0.05


@every_case
def test_an_empty_episode_is_paid_nothing(case: Case) -> None:
    mask = torch.zeros(1, 2, dtype=torch.bool)
    empty: Any = {"tags": [], "classes": "ham", "pairs": "first", "tokens": "", "acts": {"success": False}}[case.kind]
    batch = Batch(references=[empty], predictions=[empty], labels=LABELS[case.kind], contexts=[""])
    assert torch.equal(case.reward(torch.zeros(1, 2, dtype=torch.int64), mask, batch), torch.zeros(1, 2))
