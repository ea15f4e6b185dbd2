"""The reference policy and the target network: they move on their schedule and never otherwise (P6)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlft_cli.errors import UsageError
from rlft_cli.snapshot import Snapshot, TargetNetwork
from toy_training import bind, policy_of, tagged_rows, tiny

START, NOW = 2.0, 10.0


class Constant(nn.Module):
    """Scores that are its one weight; a frozen weight and dropout beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((3,), START))
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
        self.dropout = nn.Dropout(0.5)

    def forward(self, observation: dict[str, Tensor], action: Tensor) -> Any:
        return self.dropout(self.weight * self.frozen)


def moved(policy: Constant, value: float = NOW) -> None:
    policy.weight.data.fill_(value)


def target(policy: nn.Module, kind: Any, tau: float = 0.25, interval: int = 3, which: Any = "all") -> TargetNetwork:
    return TargetNetwork(policy, kind=kind, which=which, tau=tau, interval=interval)


def held(copy: Snapshot) -> float:
    return float(copy.weights["weight"][0])


@pytest.mark.parametrize("steps", [1, 2, 10, 100])
@pytest.mark.parametrize("tau", [0.005, 0.25, 1.0])
def test_polyak_after_k_steps(steps: int, tau: float) -> None:
    """The closed form for a policy that jumped once: now + (start - now) (1 - tau)^k."""
    policy = Constant()
    lagging = target(policy, "polyak", tau)
    moved(policy)
    for _ in range(steps):
        lagging.follow()
    assert held(lagging) == pytest.approx(NOW + (START - NOW) * (1 - tau) ** steps, rel=1e-6)
    assert (lagging.updates, lagging.lag) == (steps, 0)


def test_polyak_of_a_moving_policy() -> None:
    """sum over i of tau (1 - tau)^(k - i) theta_i + (1 - tau)^k theta_0, theta_i = i."""
    policy, tau, steps = Constant(), 0.3, 12
    lagging = target(policy, "polyak", tau)
    for i in range(1, steps + 1):
        moved(policy, float(i))
        lagging.follow()
    expected = START * (1 - tau) ** steps + sum(tau * (1 - tau) ** (steps - i) * i for i in range(1, steps + 1))
    assert held(lagging) == pytest.approx(expected, rel=1e-6)


def test_hard_copies_on_schedule() -> None:
    policy = Constant()
    lagging = target(policy, "hard", interval=3)
    seen, lags = [], []
    for i in range(1, 8):
        moved(policy, float(i))
        lagging.follow()
        seen.append(held(lagging))
        lags.append(lagging.lag)
    assert seen == [START, START, 3.0, 3.0, 3.0, 6.0, 6.0]
    assert lags == [1, 2, 0, 1, 2, 0, 1]


def test_a_target_of_the_head_copies_the_head_alone() -> None:
    task = bind(tagged_rows(6), tiny())
    policy = policy_of(tiny(), task, frozenset({"dueling"})).eval()
    lagging = target(policy, "hard", interval=2, which="head")
    assert set(lagging.weights) == {name for name, _ in policy.named_parameters() if not name.startswith("body.")}
    observation, (action, mask) = task.collate([0, 1, 2]), task.demonstration([0, 1, 2])
    before = policy(observation, action).scores.detach()
    for name, weight in policy.named_parameters():
        weight.data += 0.1 * torch.randn_like(weight) * (not name.startswith("body."))
    assert torch.equal(lagging(observation, action).scores, before), "the head lags"
    for name, weight in policy.named_parameters():
        weight.data += 0.1 * torch.randn_like(weight) * name.startswith("body.")
    assert not torch.allclose(lagging(observation, action).scores[mask], before[mask], atol=1e-3), "the body does not"
    lagging.follow()
    lagging.follow()
    assert torch.equal(lagging(observation, action).scores, policy(observation, action).scores)


def test_a_target_of_a_head_that_is_not_there_is_refused() -> None:
    policy = Constant()
    policy.body = nn.Linear(1, 1)
    policy.weight.requires_grad_(False)
    with pytest.raises(UsageError, match=r"algo\.target_weights=all"):
        target(policy, "polyak", which="head")


def test_distance() -> None:
    policy = Constant()
    copy = Snapshot(policy)
    assert copy.distance() == 0.0
    moved(policy)
    assert copy.distance() == pytest.approx((3 * 8.0**2) ** 0.5)


def test_a_snapshot_never_moves_and_has_no_dropout_and_no_gradient() -> None:
    policy = Constant().train()
    copy = Snapshot(policy)
    moved(policy)
    scores: Any = copy({}, torch.zeros(1, 1))
    assert scores.tolist() == [START] * 3 and not scores.requires_grad
    assert policy.training and policy.dropout.training, "the policy goes on as it was"
    assert policy.weight.tolist() == [NOW] * 3


def test_frozen_weights_are_shared_and_not_copied() -> None:
    policy = Constant()
    copy = Snapshot(policy)
    assert set(copy.weights) == {"weight"}
    policy.frozen.data.fill_(5.0)
    assert copy({}, torch.zeros(1, 1)).tolist() == [5 * START] * 3  # type: ignore[attr-defined]


def test_state_comes_back_in_the_middle_of_an_interval() -> None:
    policy = Constant()
    lagging = target(policy, "hard", interval=3)
    lagging.follow()
    moved(policy)
    other = target(policy, "hard", interval=3)
    other.load_state_dict(lagging.state_dict())
    assert held(other) == START and other.lag == 1
    for each in (lagging, other):
        each.follow()
        each.follow()
    assert held(lagging) == held(other) == NOW


def test_a_real_policy_is_copied_whole() -> None:
    task = bind(tagged_rows(6), tiny(dropout=0.4))
    policy = policy_of(tiny(dropout=0.4), task, frozenset({"dueling"})).train()
    copy = Snapshot(policy)
    observation, (action, mask) = task.collate([0, 1, 2]), task.demonstration([0, 1, 2])
    before = policy.eval()(observation, action).scores.detach()
    for weight in policy.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    policy.train()
    assert torch.equal(copy(observation, action).scores, before)
    assert not torch.allclose(policy.eval()(observation, action).scores[mask], before[mask], atol=1e-2)
