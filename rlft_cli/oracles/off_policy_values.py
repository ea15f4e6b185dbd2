"""Off-policy estimates: every expectation is a sum over contexts, actions and rewards (METHODS 7.1, rows 28 and 29)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor

from rlft_cli.oracles import Oracle
from rlft_cli.oracles.toys.tagging import groups, residual
from rlft_cli.returns import banditnet_loss, direct_method, doubly_robust, inverse_propensity, self_normalised

D = torch.float64
Rows = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Log:
    """3 contexts, 3 actions, rewards 0 or 1: one row for each of the 18 outcomes of a logged decision."""

    chance: Tensor  # [18] of the outcome, under the logging policy
    ratio: Tensor  # [18] pi / pi_0
    wrong_ratio: Tensor  # [18] with propensities that are not those of the logger
    reward: Tensor  # [18]
    right: Tensor  # [18] E[reward] of the logged action
    wrong: Tensor  # [18] another prediction of it
    right_mean: Tensor  # [18] E_pi of the right prediction in the context
    wrong_mean: Tensor  # [18]
    value: float  # of pi


@cache
def log() -> Log:
    """The one instance."""
    chance = torch.Generator().manual_seed(61)

    def table() -> Tensor:
        return torch.rand(3, 3, generator=chance, dtype=D)

    logger, target, other = (torch.softmax(2 * table(), -1) for _ in range(3))
    context, mean = torch.tensor([0.5, 0.3, 0.2], dtype=D), table()
    wrong = 0.5 * mean
    x, a, r = (i.reshape(-1) for i in torch.meshgrid(*(torch.arange(n) for n in (3, 3, 2)), indexing="ij"))
    paid = torch.where(r == 1, mean[x, a], 1 - mean[x, a])
    return Log(
        chance=context[x] * logger[x, a] * paid,
        ratio=target[x, a] / logger[x, a],
        wrong_ratio=target[x, a] / other[x, a],
        reward=r.to(D),
        right=mean[x, a],
        wrong=wrong[x, a],
        right_mean=direct_method(target.log(), mean)[x],
        wrong_mean=direct_method(target.log(), wrong)[x],
        value=float((context[:, None] * target * mean).sum()),
    )


def _bias(rows: Tensor) -> float:
    return abs(float((log().chance * rows).sum()) - log().value)


def _ips(estimate: Rows) -> float:
    return _bias(estimate(log().ratio, log().reward))


def _direct(estimate: Rows) -> float:
    """Right predictions give the value, wrong ones do not (what is missing for a bias of .01)."""
    policy = torch.log_softmax(torch.tensor([[0.3, -1.0, 0.7]], dtype=D), -1)
    mean = torch.tensor([[0.2, 0.9, 0.4]], dtype=D)
    written_out = sum(float(policy[0, a].exp() * mean[0, a]) for a in range(3))
    return max(abs(float(estimate(policy, mean)[0]) - written_out), 0.01 - _bias(log().wrong_mean))


def _doubly_robust(estimate: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> float:
    """Bias where propensities or predictions are right; and what is missing for .01 where both are wrong."""
    o = log()
    right_ratio = _bias(estimate(o.ratio, o.reward, o.wrong, o.wrong_mean))
    right_model = _bias(estimate(o.wrong_ratio, o.reward, o.right, o.right_mean))
    both = _bias(estimate(o.ratio, o.reward, o.right, o.right_mean))
    return max(right_ratio, right_model, both, 0.01 - _bias(estimate(o.wrong_ratio, o.reward, o.wrong, o.wrong_mean)))


def _variance(rows: Tensor) -> float:
    mean = (log().chance * rows).sum()
    return float((log().chance * (rows - mean) ** 2).sum())


def _less_variance(estimate: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> float:
    """By how much var(IPS) > var(DR, wrong predictions) > var(DR, right ones) is missed, or IPS is not moved by a shift."""
    o = log()
    ips = _variance(inverse_propensity(o.ratio, o.reward))
    wrong = _variance(estimate(o.ratio, o.reward, o.wrong, o.wrong_mean))
    right = _variance(estimate(o.ratio, o.reward, o.right, o.right_mean))
    shifted = _variance(inverse_propensity(o.ratio, o.reward + 1))
    return max(0.0, wrong - ips, right - wrong, ips - shifted)


def _snips_bias(estimate: Rows) -> float:
    """By how much the bias over all logs of 1, 2, 3, 4 rows is not positive and falling."""
    o = log()
    sizes: list[float] = []
    for n in (1, 2, 3, 4):
        index, orders = groups(len(o.chance), n)
        chance = orders * o.chance[index].prod(1)
        found = torch.func.vmap(estimate)(o.ratio[index], o.reward[index])
        sizes.append(abs(float((chance * found).sum()) - o.value))
    return max(0.0, 1e-3 - sizes[-1], *(later - earlier for earlier, later in pairwise(sizes)))


def _snips_shift(estimate: Rows) -> float:
    """Adding c to every reward adds c, on logs of 7 rows."""
    chance = torch.Generator().manual_seed(62)
    ratio, reward = 3 * torch.rand(50, 7, generator=chance, dtype=D), torch.rand(50, 7, generator=chance, dtype=D)
    moved = torch.func.vmap(estimate)(ratio, reward + 5.0) - torch.func.vmap(estimate)(ratio, reward)
    return float((moved - 5.0).abs().max())


def _banditnet(loss: Callable[[Tensor, Tensor, float], Tensor]) -> float:
    """At lambda = the value of SNIPS, minus the loss and SNIPS have the same gradient, up to sum w."""
    chance = torch.Generator().manual_seed(63)
    log_prob = torch.randn(9, generator=chance, dtype=D).requires_grad_()
    reward = torch.rand(9, generator=chance, dtype=D)
    ratio = log_prob.exp()
    snips = self_normalised(ratio, reward)
    (right,) = torch.autograd.grad(snips * ratio.sum().detach(), log_prob, retain_graph=True)
    (found,) = torch.autograd.grad(-loss(ratio, reward, float(snips.detach())).sum(), log_prob)
    return residual(found, right)


_SUM = "value of the policy, summed over all outcomes"

ORACLES = (
    Oracle(
        name="ips",
        row=28,
        object="inverse propensity scoring",
        oracle=_SUM,
        tolerance=1e-10,
        subject=inverse_propensity,
        distance=_ips,
    ),
    Oracle(
        name="direct_method",
        row=28,
        object="direct method; biased with wrong predictions",
        oracle="sum over actions, written out",
        tolerance=1e-10,
        subject=direct_method,
        distance=_direct,
    ),
    Oracle(
        name="doubly_robust",
        row=28,
        object="doubly robust, either side wrong; biased if both are",
        oracle=_SUM,
        tolerance=1e-10,
        subject=doubly_robust,
        distance=_doubly_robust,
    ),
    Oracle(
        name="doubly_robust_variance",
        row=28,
        object="variance: IPS > DR with wrong predictions > DR with right ones",
        oracle="summed over all outcomes",
        tolerance=0.0,
        subject=doubly_robust,
        distance=_less_variance,
    ),
    Oracle(
        name="snips_bias",
        row=29,
        object="SNIPS is biased, and less so with more rows",
        oracle="all logs of 1 to 4 rows",
        tolerance=0.0,
        subject=self_normalised,
        distance=_snips_bias,
    ),
    Oracle(
        name="snips_shift",
        row=29,
        object="SNIPS moves with the rewards",
        oracle="r + c gives the estimate + c",
        tolerance=1e-10,
        subject=self_normalised,
        distance=_snips_shift,
    ),
    Oracle(
        name="banditnet",
        row=29,
        object="BanditNet's loss at lambda = SNIPS",
        oracle="gradient of SNIPS, times sum w",
        tolerance=1e-10,
        subject=banditnet_loss,
        distance=_banditnet,
    ),
)
