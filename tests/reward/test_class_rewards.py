"""Rewards of classes: accuracy and costs, by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rlft_cli.errors import RlftError, UsageError
from rlft_cli.reward import Batch, Reward
from rlft_cli.reward.accuracy import Accuracy
from rlft_cli.reward.cost_matrix import CostMatrix

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
