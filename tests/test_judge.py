"""What the judge lets through to an algorithm that reads rewards as chances."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor

from rlft_cli.errors import UsageError
from rlft_cli.feedback.bandit import Bandit
from rlft_cli.feedback.noisy import Noisy
from rlft_cli.feedback.sentence import Sentence
from rlft_cli.learner import learn
from toy_training import bind, doubly_robust, dqn, policy_of, tagged_rows, tiny, training


class Paying:
    """The same reward for every decision."""

    decisions, contract = ("tags",), "none"

    def __init__(self, reward: float) -> None:
        self.reward = reward

    def __call__(self, action: Tensor, mask: Tensor, batch: Any) -> Tensor:
        return torch.full(action.shape, self.reward) * mask


def loss_of(algorithm: Any, feedback: Any, reward: float) -> float:
    """The loss of the first step."""
    task = bind(tagged_rows(24), tiny())
    policy = policy_of(tiny(), task, algorithm.reads)
    made = training(policy, task, algorithm, feedback=feedback, reward=Paying(reward))
    (progress,) = islice(learn(made), 1)
    return progress.signals["loss"]


NOISY: dict[str, Any] = {"flip_zero": 0.4, "flip_one": 0.2, "gaussian": 0.0, "missing": 0.0, "unit": "decision"}


@pytest.mark.parametrize("algorithm", [dqn(), dqn(loss_kind="softmax"), doubly_robust(clip=0.0)])
@pytest.mark.parametrize("feedback", [Bandit(), Sentence()])
def test_what_is_no_chance_is_refused(algorithm: Any, feedback: Any) -> None:
    reward = -1.0 if isinstance(feedback, Bandit) else 0.75  # of which the words of a sentence pay more than 1
    with pytest.raises(UsageError, match=r"in \[0, 1\], but there is one of .*; type algo\.loss_kind=mse"):
        loss_of(algorithm, feedback, reward)


def test_other_losses_take_any_reward() -> None:
    assert loss_of(dqn(loss_kind="mse"), Bandit(), -1.0) > 0


@pytest.mark.parametrize("algorithm", [dqn(), dqn(loss_kind="softmax"), doubly_robust(clip=0.0)])
def test_unbiased_estimates_of_chances_are_learned_from(algorithm: Any) -> None:
    assert loss_of(algorithm, Noisy(**NOISY, correct=True), 1.0) != loss_of(algorithm, Bandit(), 1.0)
    with pytest.raises(UsageError, match="flips rewards"):
        loss_of(algorithm, Noisy(**NOISY, correct=True), -1.0)


def test_noise_that_is_not_known_to_be_about_chances_is_no_estimate() -> None:
    with pytest.raises(UsageError, match=r"algo\.loss_kind=mse"):
        loss_of(dqn(), Noisy(**{**NOISY, "flip_zero": 0.0, "flip_one": 0.0, "gaussian": 2.0}, correct=True), 1.0)
