"""Rewards of classes: accuracy and costs, by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rlft_cli.errors import RlftError, UsageError
from rlft_cli.returns import imbalance_reward
from rlft_cli.reward import Batch, Reward
from rlft_cli.reward.accuracy import Accuracy
from rlft_cli.reward.cost_matrix import CostMatrix
from rlft_cli.reward.imbalanced import Imbalanced
from rlft_cli.reward.shuffled import Shuffled

LABELS = ["ham", "spam", "7"]


def judge(reward: Reward, chosen: list[str], references: list[str]) -> list[float]:
    action = torch.tensor([[LABELS.index(label)] for label in chosen])
    batch = Batch(references=references, predictions=chosen, labels=LABELS)
    return reward(action, torch.ones_like(action, dtype=torch.bool), batch)[:, 0].tolist()


def test_accuracy_by_hand() -> None:
    assert judge(Accuracy(), ["ham", "ham", "7"], ["ham", "spam", "never trained on"]) == [1, 0, 0]


def test_costs_by_hand() -> None:
    # YAML reads the label 7 as a number; losing a real message is worse than letting spam through
    costs: Any = {"ham": {"spam": 1.0, 7: 0.25}, "spam": {"spam": -0.5}}
    reward = CostMatrix(costs=costs, default_cost=0.125)
    chosen, references = ["spam", "7", "ham", "spam", "ham", "ham"], ["ham", "ham", "ham", "spam", "spam", "new"]
    assert judge(reward, chosen, references) == [-1, -0.25, 0, 0.5, -0.125, -0.125]


def test_costs_name_labels_of_the_task() -> None:
    with pytest.raises(UsageError, match=r"names the label 'sapm'.*its labels are: ham, spam, 7"):
        judge(CostMatrix(costs={"ham": {"sapm": 1.0}}, default_cost=1.0), ["ham"], ["ham"])


@pytest.mark.parametrize("cost", [2, -1.5, "high", True, float("nan")])
def test_costs_are_numbers_in_range(cost: Any) -> None:
    with pytest.raises(UsageError, match=r"reward\.costs\.ham\.spam is .*expected a number in \[-1, 1\]"):
        CostMatrix(costs={"ham": {"spam": cost}}, default_cost=1.0)


def test_costs_are_rows_of_a_matrix() -> None:
    wrong: Any = {"ham": 0.5}
    with pytest.raises(UsageError, match=r"reward\.costs\.ham is 0\.5; expected a mapping"):
        CostMatrix(costs=wrong, default_cost=1.0)


@pytest.mark.parametrize("reward", [Accuracy(), CostMatrix(costs={}, default_cost=1.0)], ids=["accuracy", "costs"])
def test_one_reference_per_episode(reward: Reward) -> None:
    with pytest.raises(RlftError, match="1 references for 2 episodes"):
        judge(reward, ["ham", "ham"], ["ham"])


def test_rare_classes_pay_more_by_hand() -> None:
    reward = Imbalanced(weights={"ham": 0.25}, default_weight=1.0)
    assert judge(reward, ["ham", "spam", "spam", "7"], ["ham", "ham", "spam", "spam"]) == [0.25, -0.25, 1, -1]
    assert judge(reward, ["ham"], ["never trained on"]) == [-1]


def test_two_classes_pay_what_the_paper_pays() -> None:
    """Against the pure function of the paper's equation."""
    chosen, references = ["ham", "spam", "ham", "spam"], ["ham", "ham", "spam", "spam"]
    right = torch.tensor([c == r for c, r in zip(chosen, references, strict=True)])
    minority = torch.tensor([r == "spam" for r in references])
    expected = imbalance_reward(right, minority, 0.1).tolist()
    assert judge(Imbalanced(weights={"ham": 0.1}, default_weight=1.0), chosen, references) == pytest.approx(expected)


@pytest.mark.parametrize("weight", [0, 1.5, -0.5, True, "much"])
def test_weights_are_numbers_in_range(weight: Any) -> None:
    with pytest.raises(UsageError, match=r"reward\.weights\.ham"):
        Imbalanced(weights={"ham": weight}, default_weight=1.0)


def test_weights_name_labels_of_the_task() -> None:
    with pytest.raises(UsageError, match=r"names the label 'sapm'.*its labels are: ham, spam, 7"):
        judge(Imbalanced(weights={"sapm": 0.5}, default_weight=1.0), ["ham"], ["ham"])


def test_shuffled_rewards_are_those_of_others() -> None:
    # right: 1 0 1 1; each is paid what the text two further on earned
    chosen, references = ["ham", "ham", "7", "spam"], ["ham", "spam", "7", "spam"]
    assert judge(Shuffled(language="en"), chosen, references) == [1, 1, 1, 0]
    assert judge(Shuffled(language="en"), ["ham"], ["ham"]) == [0], "nobody to exchange with"


def test_shuffled_words_are_exchanged_across_sentences() -> None:
    # right: 1 0 1 | 0, each paid what the decision two further on in the batch earned: 1 0 1 0
    mask = torch.tensor([[True, True, True], [True, False, False]])
    action = torch.tensor([[0, 0, 1], [1, 2, 2]])
    batch = Batch(references=[["O", "B-X", "B-X"], ["O"]], predictions=[], labels=["O", "B-X", "I-X"])
    assert Shuffled(language="en")(action, mask, batch).tolist() == [[1, 0, 1], [0, 0, 0]]
    action = torch.tensor([[0, 1, 0], [1, 2, 2]])  # right: 1 1 0 | 0
    assert Shuffled(language="en")(action, mask, batch).tolist() == [[0, 0, 1], [1, 0, 0]]
