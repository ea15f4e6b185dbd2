"""Every legal tag sequence of a short sentence under a first-order softmax policy: what a policy gradient is a sum over."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from rlft_cli.algo import Algorithm
from rlft_cli.algo.reinforce import Reinforce
from rlft_cli.episode import ILLEGAL_SCORE, Trajectory, blank
from rlft_cli.metrics.spans import span_f1, spans
from rlft_cli.model import Output
from rlft_cli.model.words import legal_transitions
from rlft_cli.returns import action_log_prob
from rlft_cli.reward.f1_delta import potentials

D = torch.float64
REINFORCE = Reinforce(
    samples=1,
    baseline="none",
    moving_average_decay=0.9,
    credit="return_to_go",
    gamma=1.0,
    entropy_coefficient=0.0,
    value_coefficient=0.5,
    kl_coefficient=0.0,
    kl_target=None,
    kl_rate=0.1,
    kl_in="reward",
)  # without anything that is added to the gradient


@dataclass(frozen=True, eq=False)
class Tagging:
    """M legal sequences of T words over K tags; the policy has T K + (K + 1) K weights: emissions and transitions."""

    tags: list[str]
    gold: list[str]
    action: Tensor  # [M, T]
    f1: Tensor  # [M] F1 of the sentence
    legal: Tensor  # [K + 1, K]
    theta: Tensor  # [T K + (K + 1) K]
    other: Tensor  # the weights of a reference policy

    def scores(self, theta: Tensor) -> Tensor:
        """Scores [M, T, K] of the decisions along each sequence."""
        words, tags = self.action.shape[1], len(self.tags)
        emission, transition = theta[: words * tags].view(words, tags), theta[words * tags :].view(tags + 1, tags)
        start = torch.full_like(self.action[:, :1], tags)
        previous = torch.cat([start, self.action[:, :-1]], 1)
        return (emission[None] + transition[previous]).masked_fill(~self.legal[previous], ILLEGAL_SCORE)

    def log_prob(self, theta: Tensor) -> Tensor:
        """log p [M, T] of each decision."""
        return action_log_prob(self.scores(theta), self.action)

    def chance(self, theta: Tensor) -> Tensor:
        """p [M] of each sequence."""
        return self.log_prob(theta).detach().sum(1).exp()

    def per_tag(self) -> Tensor:
        """Reward [M, T]: 1 for each right tag."""
        return (self.action == torch.tensor([self.tags.index(tag) for tag in self.gold])).to(D)

    def f1_delta(self, potential: Callable[[list[str], list[str]], object] = potentials) -> Tensor:
        """Reward [M, T]: the change in F1 by each tag."""
        names = [[self.tags[a] for a in sequence] for sequence in self.action.tolist()]
        return torch.stack([torch.as_tensor(potential(tags, self.gold), dtype=D).diff() for tags in names])

    def at_end(self, total: Tensor) -> Tensor:
        """A reward [M] paid at the last decision: [M, T]."""
        return torch.cat([total.new_zeros(len(total), self.action.shape[1] - 1), total[:, None]], 1)

    def foreseen(self, theta: Tensor, reward: Tensor) -> Tensor:
        """V [M, T]: what is still to come of reward [M, T], on average over all that may follow the tags before."""
        chance, to_go = self.chance(theta), reward.flip(1).cumsum(1).flip(1)
        paths = [tuple(path) for path in self.action.tolist()]
        value = torch.zeros_like(reward)
        for t in range(reward.shape[1]):
            for before in {path[:t] for path in paths}:
                same = torch.tensor([path[:t] == before for path in paths])
                value[same, t] = (chance * to_go[:, t])[same].sum() / chance[same].sum()
        return value


def tagging(tags: list[str], gold: list[str]) -> Tagging:
    """The toy of some tags and a reference."""
    chance = torch.Generator().manual_seed(0)
    words, kinds, legal = len(gold), len(tags), legal_transitions(tags)
    every = [
        path
        for path in itertools.product(range(kinds), repeat=words)
        if all(bool(legal[p, a]) for p, a in zip((kinds, *path[:-1]), path, strict=True))
    ]
    weights = words * kinds + (kinds + 1) * kinds
    names = [[tags[a] for a in path] for path in every]
    return Tagging(
        tags=tags,
        gold=gold,
        action=torch.tensor(every),
        f1=torch.tensor([span_f1(spans(name), spans(gold)) for name in names], dtype=D),
        legal=legal,
        theta=torch.randn(weights, generator=chance, dtype=D),
        other=torch.randn(weights, generator=chance, dtype=D),
    )


@cache
def sentence() -> Tagging:
    """4 words, 2 types: 153 sequences, 50 weights (METHODS 7.1, toy A)."""
    return tagging(["O", "B-X", "I-X", "B-Y", "I-Y"], ["B-X", "I-X", "O", "B-Y"])


@cache
def two_words() -> Tagging:
    """2 words, 1 type: 5 sequences, so that groups of many samples can be enumerated."""
    return tagging(["O", "B-X", "I-X"], ["B-X", "I-X"])


def gradient(of: Tensor, theta: Tensor) -> Tensor:
    """d of / d theta."""
    (found,) = torch.autograd.grad(of, theta)
    return found


def true_gradient(toy: Tagging, reward: Tensor, theta: Tensor) -> Tensor:
    """d/dtheta of sum_y p(y) R(y), R [M]."""
    theta = theta.clone().requires_grad_()
    return gradient((toy.log_prob(theta).sum(1).exp() * reward).sum(), theta)


def groups(count: int, samples: int) -> tuple[Tensor, Tensor]:
    """Every multiset of ``samples`` out of ``count`` outcomes: index [G, k], and in how many orders it comes [G]."""
    every = list(itertools.combinations_with_replacement(range(count), samples))
    orders = [
        math.factorial(samples) / math.prod(math.factorial(times) for times in Counter(row).values()) for row in every
    ]
    return torch.tensor(every).reshape(-1, samples), torch.tensor(orders, dtype=D)


def episodes(action: Tensor, samples: int, columns: Mapping[str, Tensor]) -> Trajectory:
    """Whole sequences as a trajectory; ``columns`` [N, T] fill fields by name."""
    observation = {"id": torch.arange(len(action) // samples)}
    given: dict[str, Any] = dict(columns)
    return replace(blank(observation, action, torch.ones_like(action, dtype=torch.bool)), **given)


def expected_gradient(
    toy: Tagging, algorithm: Algorithm, theta: Tensor, reward: Tensor, columns: Mapping[str, Tensor] | None = None
) -> Tensor:
    """-E of d loss / d theta over all groups of ``algorithm.samples`` sequences of one example; reward [M, T]."""
    samples = algorithm.samples
    index, orders = groups(len(toy.action), samples)
    rows = index.reshape(-1)
    weight = (orders * toy.chance(theta)[index].prod(1) / samples).repeat_interleave(samples)
    theta = theta.clone().requires_grad_()
    given = {name: column[rows] for name, column in {"reward": reward, **(columns or {})}.items()}
    prepared = algorithm.prepare(episodes(toy.action[rows], samples, given))
    value = torch.zeros(prepared.action.shape, dtype=D) if "value" in algorithm.reads else None
    loss = algorithm.loss(Output(scores=toy.scores(theta)[rows], value=value), prepared, None)
    return -gradient((weight[:, None] * loss).sum(), theta)


def residual(found: Tensor, right: Tensor) -> float:
    """|found - right| / |right|."""
    return float((found - right).norm() / right.norm())


def off_direction(found: Tensor, right: Tensor) -> float:
    """What is left of ``found`` off the direction of ``right``, relative: the sine of the angle, 1 where it is behind."""
    cosine = float(found @ right / (found.norm() * right.norm()))
    return float((found / found.norm() - right / right.norm()).norm()) if cosine > 0 else 1.0
