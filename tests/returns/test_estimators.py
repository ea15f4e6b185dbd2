"""Golden values of off-policy estimators, preferences and reward arithmetic."""

from __future__ import annotations

import math
from types import ModuleType

import pytest
import torch

from golden_values import close, t64
from rlft_cli import returns


def test_importance_ratio_is_clipped_without_a_gradient() -> None:
    log_prob = t64([math.log(0.5), math.log(0.9)]).requires_grad_()
    ratio = returns.importance_ratio(log_prob, t64([math.log(0.25), math.log(0.01)]), 20.0)
    close(ratio.detach(), [2.0, 20.0])
    (slope,) = torch.autograd.grad(ratio.sum(), log_prob)
    close(slope, [2.0, 0.0])


def test_estimators_by_row() -> None:
    # ratios 2 and 1/2, rewards 1 and 0, predictions 3/4 and 1/4, expected 1/2 and 1/3
    ratio, reward = t64([2.0, 0.5]), t64([1.0, 0.0])
    close(returns.inverse_propensity(ratio, reward), [2.0, 0.0])
    close(returns.self_normalised(ratio, reward), 2 / 2.5)
    close(
        returns.doubly_robust(ratio, reward, t64([0.75, 0.25]), t64([0.5, 1 / 3])),
        [0.5 + 2 * 0.25, 1 / 3 - 0.5 * 0.25],
    )
    close(returns.direct_method(t64([[math.log(0.25), math.log(0.75)]]), t64([[1.0, 0.2]])), [0.25 + 0.15])
    close(returns.banditnet_loss(ratio, reward, 0.5), [-1.0, 0.25])


def test_effective_sample_size() -> None:
    # (1 + 3)^2 / (1 + 9)
    close(returns.effective_sample_size(t64([1.0, 3.0])), 1.6)
    close(returns.effective_sample_size(torch.ones(7, dtype=torch.float64)), 7.0)
    close(returns.effective_sample_size(t64([0.0, 0.0])), 0.0)


def test_preferences() -> None:
    # sigma(ln 3) = 3/4; with margin ln 3 it is sigma(0)
    close(returns.bradley_terry_loss(t64([math.log(3)]), t64([0.0]), 0.0), [math.log(4 / 3)])
    close(returns.bradley_terry_loss(t64([math.log(3)]), t64([0.0]), math.log(3)), [math.log(2)])
    # beta 2, margins over the reference ln 3 and 0: sigma(2 ln 3) = 9/10
    found = returns.dpo_loss(t64([math.log(3) - 4]), t64([-1.0]), t64([-4.0]), t64([-1.0]), 2.0)
    close(found, [math.log(10 / 9)])


def test_denoised_reward() -> None:
    # eta 1/5: (r - 1/5) / (3/5)
    close(returns.denoised_reward(t64([0.0, 1.0]), 0.2, 0.2), [-1 / 3, 4 / 3])
    close(returns.denoised_reward(t64([0.0, 1.0]), 0.1, 0.4), [-0.2, 1.8])


@pytest.mark.parametrize(("e0", "e1"), [(0.5, 0.5), (0.9, 0.2)])
def test_rewards_that_say_nothing_are_not_corrected(e0: float, e1: float) -> None:
    with pytest.raises(ValueError, match="cannot be corrected"):
        returns.denoised_reward(t64([1.0]), e0, e1)


def test_imbalance() -> None:
    right, minority = torch.tensor([True, False, True, False]), torch.tensor([True, True, False, False])
    close(returns.imbalance_reward(right, minority, 0.25), [1.0, -1.0, 0.25, -0.25])
    close(returns.imbalance_scale(torch.tensor([10, 40, 20])), [1.0, 0.25, 0.5])
    # without bootstrapping rho / (1 + rho); gamma 1/2, V 4: 1/4 / (5/4 + 1)
    assert returns.imbalance_threshold(0.25, 0.0, 4.0) == pytest.approx(0.2)
    assert returns.imbalance_threshold(0.25, 0.5, 4.0) == pytest.approx(0.25 / 2.25)


def test_everything_public_is_exported() -> None:
    held = {name for name, value in vars(returns).items() if name[0] != "_" and not isinstance(value, ModuleType)}
    assert set(returns.__all__) == held
