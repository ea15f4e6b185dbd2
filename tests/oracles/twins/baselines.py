from __future__ import annotations

from rlft_cli.returns import generalized_advantage, group_relative, leave_one_out


def own_mean(returns, k):
    return group_relative(returns, k, scale=False)


TWINS = {
    "leave_one_out": [own_mean, lambda returns, k: group_relative(returns, k, scale=True)],
    "group_mean": [leave_one_out, lambda returns, k: group_relative(returns, k, scale=True)],
    "group_std": [own_mean, leave_one_out],
    "leave_one_out_variance": [own_mean, lambda returns, k: returns],
    "break_even": [
        lambda returns: 1 + returns.std() / returns.mean(),
        lambda returns: 2.0,
        lambda returns: returns.var() / returns.mean() ** 2,
    ],
    "less_variance": [
        lambda reward, value, *rest: generalized_advantage(reward, -value, *rest),
        lambda reward, value, discount, mask, gamma, trace: generalized_advantage(
            reward, 0.9 * value, discount, mask, gamma, 0.5
        ),  # biased
    ],
}
