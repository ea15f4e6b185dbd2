"""Law 7: decisions that do not exist get no gradient, and may hold NaN."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from rlft_cli.episode import ILLEGAL_SCORE, Trajectory, blank
from rlft_cli.explore.sample import Sample
from rlft_cli.update import update
from toy_training import (
    TablePolicy,
    bind,
    doubly_robust,
    dqn,
    dqnimb,
    expert_iteration,
    filtered_bc,
    grpo,
    ilql,
    ips,
    plain_gradient_steps,
    ppo,
    reinforce,
    supervised,
    tagged_rows,
    tiny,
    training,
    weights,
)

N, T, A = 6, 5, 4
LENGTHS = [5, 1, 3, 2, 4, 1]
ALGORITHMS: dict[str, Any] = {
    "supervised": supervised,
    "smoothed": lambda: supervised(0.2),
    "dqn": dqn,
    "softmax": lambda: dqn(loss_kind="softmax"),
    "double": lambda: dqn(gamma=0.9, loss_kind="huber", n_step=2),
    "max": lambda: dqn(gamma=0.9, loss_kind="mse", backup="max", target="none"),
    "munchausen": lambda: dqn(gamma=0.9, loss_kind="mse", backup="munchausen", munchausen_temperature=0.5),
    "cql": lambda: dqn(gamma=0.9, loss_kind="huber", cql_coefficient=0.5),
    "ips": lambda: ips(gamma=0.9, translation=-0.5),
    "filtered_bc": lambda: filtered_bc(gamma=0.9, threshold=0.0),  # every return is above
    "expert_iteration": lambda: expert_iteration(gamma=0.9, threshold=0.0),
    "doubly_robust": doubly_robust,
    "direct_method": lambda: doubly_robust(clip=0.0, loss_kind="mse"),
    "ilql": lambda: ilql(gamma=0.9),
    "dqnimb": dqnimb,
    "soft": lambda: dqn(gamma=1.0, loss_kind="mse", backup="soft", n_step=T),
    "reinforce": lambda: reinforce(samples=2, entropy_coefficient=0.1, kl_coefficient=0.1, gamma=1.0),
    "episode": lambda: reinforce(samples=1, baseline="moving_average", credit="episode", kl_coefficient=0.1),
    "self_critical": lambda: reinforce(samples=1, baseline="self_critical", gamma=1.0),
    "learned_baseline": lambda: reinforce(samples=1, baseline="value", gamma=1.0, kl_coefficient=0.1, kl_in="loss"),
    "ppo": lambda: ppo(gamma=0.9, epochs=2, value_clip_range=0.2, entropy_coefficient=0.1, kl_coefficient=0.1),
    "grpo": lambda: grpo(samples=2, gamma=1.0, epochs=2, scale_rewards=True, entropy_coefficient=0.1),
}


def batch(samples: int, hidden: float) -> Trajectory:
    """Random episodes; what is masked holds ``hidden``."""
    chance = torch.Generator().manual_seed(3)
    mask = torch.arange(T)[None, :] < torch.tensor(LENGTHS)[:, None]
    action = torch.randint(A - 1, (N, T), generator=chance)
    start = blank({"id": torch.arange(N // samples), "x": torch.zeros(N // samples)}, action, mask)
    random = {
        f.name: torch.where(mask, torch.rand(N, T, generator=chance), hidden)
        for f in fields(start)
        if f.name in ("log_prob", "reward", "advantage", "greedy_reward", "reference_log_prob", "value")
    }
    return replace(start, **random, discount=torch.where(mask, start.discount, hidden))


def updated(name: str, hidden: float, score_shift: float = 0.0) -> tuple[dict[str, Tensor], Tensor]:
    """Weights of a table policy after an update, and the gradient of its scores."""
    algorithm = ALGORITHMS[name]()
    chance = torch.Generator().manual_seed(4)
    scores = torch.randn(N, T, A, generator=chance)
    scores[..., A - 1] = ILLEGAL_SCORE
    data = batch(getattr(algorithm, "samples", 1), hidden)
    scores[~data.mask] += score_shift
    value, heads = torch.randn(N, T, generator=chance), torch.randn(N, T, A, 2, generator=chance)
    policy = TablePolicy(scores, value, heads)
    task = bind(tagged_rows(4), tiny())
    made = training(policy, task, algorithm, count=4, explore=Sample(temperature=0.7, top_k=0, top_p=1.0))
    plain_gradient_steps(made, 0.1)
    grabbed: list[Tensor] = []
    policy.scores.register_hook(lambda gradient: grabbed.append(gradient.clone()))
    signals = update(made, data)
    assert "loss" in signals, signals
    return weights(policy), grabbed[0]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_masked_entries_may_hold_anything(name: str) -> None:
    clean, _ = updated(name, hidden=0.0)
    for hidden in (float("nan"), float("inf"), 1e30):
        dirty, gradient = updated(name, hidden)
        assert torch.isfinite(gradient).all()
        assert all(torch.equal(clean[key], dirty[key]) for key in clean)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_masked_decisions_get_no_gradient_and_real_ones_do(name: str) -> None:
    _, gradient = updated(name, hidden=0.0)
    mask = torch.arange(T)[None, :] < torch.tensor(LENGTHS)[:, None]
    assert (gradient[~mask] == 0).all()
    assert (gradient[mask][:, : A - 1].abs().sum(-1) > 0).all()
    assert gradient[..., A - 1].abs().max() < 1e-6, "an illegal action has no probability to move"


@pytest.mark.parametrize("name", ALGORITHMS)
def test_scores_of_masked_decisions_do_not_matter(name: str) -> None:
    """A target must not bootstrap from beyond the end."""
    _, one = updated(name, hidden=0.0)
    _, two = updated(name, hidden=0.0, score_shift=7.0)
    assert torch.equal(one, two)
