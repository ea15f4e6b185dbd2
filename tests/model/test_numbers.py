"""Heads with several numbers for each action: what the scores are, and that a checkpoint brings them back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rlft_cli.episode import legal_actions
from rlft_cli.model.head import load_heads, save_heads
from toy_training import bind, policy_of, tagged_rows, tiny

LOW, HIGH = -1.0, 2.0
SHAPES = {"heads:2": 2, "quantiles:3": 3, f"atoms:4:{LOW}:{HIGH}": 4}


@pytest.mark.parametrize("read", SHAPES)
def test_scores_are_means_of_distributions_and_beside_other_heads(read: str) -> None:
    task = bind(tagged_rows(6), tiny())
    policy = policy_of(tiny(), task, frozenset({read})).eval()
    for weight in policy.parameters():
        weight.data += 0.3 * torch.randn_like(weight)
    action, mask = task.demonstration([0, 1, 2])
    found = policy(task.collate([0, 1, 2]), action)
    assert found.heads.shape == (*found.scores.shape, SHAPES[read])
    legal = legal_actions(found.scores) & mask[..., None]
    assert legal.any() and not legal[mask].all(), "some tags must be illegal"
    mean = found.heads.mean(-1)
    if read.startswith("atoms"):
        support = torch.tensor([LOW, 0.0, 1.0, HIGH])
        mean = (torch.softmax(found.heads, -1) * support).sum(-1)
    same = torch.allclose(found.scores[legal], mean[legal], atol=1e-6)
    assert same != read.startswith("heads")


def test_a_head_is_saved_and_comes_back(tmp_path: Path) -> None:
    task = bind(tagged_rows(6), tiny())
    one, two = (policy_of(tiny(), task, frozenset({"quantiles:3"}), seed).eval() for seed in (1, 2))
    save_heads(one, tmp_path)
    load_heads(two, tmp_path)
    assert torch.equal(one.head.score.weight, two.head.score.weight)  # type: ignore[union-attr]
    assert one.head.score.weight.shape[0] == 3 * len(task.labels)  # type: ignore[union-attr, operator]
