"""Golden values of advantages and policy losses."""

from __future__ import annotations

import math

import pytest
import torch

from golden_values import close, t64
from rlft_cli import returns


def test_group_relative() -> None:
    # (1, 2, 6): mean 3, std of the sample sqrt((4 + 1 + 9) / 2) = sqrt(7); (5, 5, 5): nothing to compare
    x = t64([1.0, 2.0, 6.0, 5.0, 5.0, 5.0])
    close(returns.group_relative(x, 3, scale=False), [-2.0, -1.0, 3.0, 0.0, 0.0, 0.0])
    scale = math.sqrt(7) + 1e-4
    close(returns.group_relative(x, 3, scale=True), [-2 / scale, -1 / scale, 3 / scale, 0.0, 0.0, 0.0])
    close(returns.group_relative(x, 3, scale=False) * 3 / 2, returns.leave_one_out(x, 3))


def test_groups_need_two_samples() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        returns.group_relative(t64([1.0]), 1, scale=False)


def test_break_even() -> None:
    # 0/1 rewards of chance 1/4: Var / mean^2 = (3/16) / (1/16) = 3
    close(returns.leave_one_out_break_even(t64([1.0, 0.0, 0.0, 0.0])), 4.0)
    close(returns.leave_one_out_break_even(t64([2.0, 2.0])), 1.0)
    assert returns.leave_one_out_break_even(t64([0.0, 0.0])) == 1.0
    assert returns.leave_one_out_break_even(t64([1.0, -1.0])) == math.inf


def test_generalized_advantage() -> None:
    # rewards 1, 2; V 4, 6; gamma 1/2, lambda 1/2: delta_1 = 2 - 6 = -4; delta_0 = 1 + 3 - 4 = 0; A_0 = 0 + 1/4 (-4) = -1
    mask = torch.tensor([[True, True, False]])
    found = returns.generalized_advantage(
        t64([[1.0, 2.0, math.nan]]), t64([[4.0, 6.0, math.nan]]), t64([[1.0, 0.0, 0.0]]), mask, 0.5, 0.5
    )
    close(found, [[-1.0, -4.0, 0.0]])


def test_whiten() -> None:
    # 1, 3, 5 and something that does not exist: mean 3, std sqrt(8/3)
    mask = torch.tensor([[True, True], [True, False]])
    scale = math.sqrt(8 / 3) + 1e-4
    close(returns.whiten(t64([[1.0, 3.0], [5.0, math.nan]]), mask), [[-2 / scale, 0.0], [2 / scale, 0.0]])


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_whitening_a_constant_makes_nothing_of_it(value: float) -> None:
    """0.1 is no float: its mean differs from it by rounding, which must not be blown up."""
    x, mask = torch.full((7, 3), value), torch.ones(7, 3, dtype=torch.bool)
    assert returns.whiten(x, mask).abs().max() <= 1e-6 * value
    assert not returns.whiten(x, ~mask).any()


def test_ppo_clip_loss() -> None:
    # ratio 2, clip 1/4: gains are cut at 5/4, losses are not; ratio 1/2: losses are cut at 3/4, gains are not
    log_prob, old = t64([math.log(2)] * 2 + [math.log(1 / 2)] * 2), t64([0.0] * 4)
    close(returns.ppo_clip_loss(log_prob, old, t64([1.0, -1.0, 1.0, -1.0]), 0.25), [-1.25, 2.0, -0.5, 0.75])


def test_clipped_value_loss() -> None:
    # V 3, V_old 1, clip 1/2, so clipped 1.5: to R = 4 the errors are 1 and 2.5; to R = 0 they are 3 and 1.5
    found = returns.clipped_value_loss(t64([3.0, 3.0]), t64([1.0, 1.0]), t64([4.0, 0.0]), 0.5)
    close(found, [0.5 * 2.5**2, 0.5 * 9.0])


def test_value_loss() -> None:
    # A = 3, V_old = 1: the target is 4; V = 3 is 1 off, kept within 1/2 of V_old (3/2) it is 5/2 off
    given = t64([3.0]), t64([1.0]), t64([3.0])
    close(returns.value_loss(*given, None), [0.5])
    close(returns.value_loss(*given, 0.5), [0.5 * 2.5**2])


def test_mixed_objective() -> None:
    close(returns.mixed_objective(t64([2.0]), t64([1.0]), 0.1), [1.2])
