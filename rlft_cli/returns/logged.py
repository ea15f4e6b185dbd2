"""Q-learning on logged decisions: what keeps values from rising where the log has nothing to say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rlft_cli.returns.scores import action_log_prob
from rlft_cli.returns.values import n_step_targets, shift_left


def filtered_imitation_loss(log_prob: Tensor, returned: Tensor, threshold: float) -> Tensor:
    """-1[G > threshold] log pi(a): [N, T] twice -> [N, T] (filtered or "%" behaviour cloning, Chen et al. 2021, section 5).

    With rewards 0 and 1 it is cross-entropy on the positives; ``threshold`` = -inf imitates everything.
    """
    return torch.where(returned > threshold, -log_prob, torch.zeros_like(log_prob))


def cql_penalty(scores: Tensor, action: Tensor) -> Tensor:
    """log sum_a exp Q(s, a) - Q(s, a_logged), never negative: [..., A], [...] -> [...] (Kumar et al. 2020, eq. 4, CQL(H)).

    Its gradient in Q is softmax(Q) - pi_behaviour. It is also the cross-entropy of softmax(Q) with the logged action.
    """
    return -action_log_prob(scores, action)


def expectile_loss(difference: Tensor, expectile: float) -> Tensor:
    """|tau - 1[u < 0]| u^2 with u = Q - V: [...] -> [...] (Kostrikov et al. 2022, eq. 3).

    tau = 1/2 is half the square, whose minimum is the mean; tau towards 1 goes to the largest supported value.
    """
    weight = (expectile - (difference < 0).to(difference.dtype)).abs()
    return weight * difference**2


class IlqlLosses(NamedTuple):
    """The four parts of the loss, unreduced [N, T]; the algorithm weighs and adds them."""

    value: Tensor  # V towards the upper expectile of the lagging Q
    q: Tensor  # each Q towards r + gamma V', summed over the Q heads
    conservative: Tensor  # the CQL penalty, summed over the Q heads
    policy: Tensor  # the policy's negative log-likelihood, weighted by exp(b (Q - V))


def ilql_losses(
    *,
    heads: Sequence[Tensor],
    lagging_heads: Sequence[Tensor],
    value: Tensor,
    policy_scores: Tensor,
    action: Tensor,
    reward: Tensor,
    discount: Tensor,
    gamma: float,
    expectile: float,
    advantage_weight: float,
) -> IlqlLosses:
    """Implicit language Q-learning (Snell et al. 2023, eq. 2-4; the policy part after AWAC, Nair et al. 2020, eq. 13).

    ``heads`` are the Q heads [N, T, A] and ``lagging_heads`` their targets; value, action, reward, discount [N, T]. No
    gradient flows into Q from the value part, into V from the Q part, or into either from the policy part.
    """

    def chosen(scores: Tensor) -> Tensor:
        return scores.gather(-1, action[..., None]).squeeze(-1)

    least = torch.stack([chosen(head) for head in lagging_heads]).amin(0).detach()
    target = n_step_targets(reward, shift_left(value.detach()), discount, gamma, 1)
    weight = torch.exp(advantage_weight * (least - value.detach()))
    return IlqlLosses(
        value=expectile_loss(least - value, expectile),
        q=torch.stack([(target - chosen(head)) ** 2 for head in heads]).sum(0),
        conservative=torch.stack([cql_penalty(head, action) for head in heads]).sum(0),
        policy=-weight * action_log_prob(policy_scores, action),
    )
