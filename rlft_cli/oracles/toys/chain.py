"""Tag chains whose reward depends on word, previous tag and tag: what Q-learning must find is known by recursion."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from rlft_cli.algo import Algorithm
from rlft_cli.algo.dqn import Dqn
from rlft_cli.episode import ILLEGAL_SCORE, Trajectory, blank
from rlft_cli.model import Output
from rlft_cli.model.words import legal_transitions

D = torch.float64
TAGS = ["O", "B-X", "I-X"]
LENGTHS = (3, 4)  # words of the two sentences
T, K = 6, 3  # padded to 6 decisions, so that something lies beyond every end
GAMMA = 0.8
DQN = Dqn(
    gamma=GAMMA,
    loss_kind="mse",
    backup="max",
    dueling=False,
    n_step=1,
    kl_coefficient=0.0,
    munchausen_alpha=0.9,
    munchausen_temperature=0.03,
    munchausen_floor=-1.0,
    cql_coefficient=0.0,
    target="none",
    target_weights="all",
    target_tau=1.0,
    target_update_interval=1,
)


@dataclass(frozen=True, eq=False)
class Chain:
    """Every legal path of two sentences once; tables are [2, T, K + 1, K] of sentence, word, previous tag, tag."""

    reward: Tensor  # [2, T, K + 1, K]
    legal: Tensor  # [K + 1, K]
    sentence: Tensor  # [N]
    data: Trajectory

    def index(self) -> tuple[Tensor, Tensor, Tensor]:
        """Sentence, word and previous tag [N, T] of every decision."""
        start = torch.full_like(self.data.action[:, :1], K)
        previous = torch.cat([start, self.data.action[:, :-1]], 1)
        return self.sentence[:, None].expand_as(previous), torch.arange(T)[None, :].expand_as(previous), previous

    def scores(self, table: Tensor) -> Tensor:
        """Q [N, T, K] of every state on every path."""
        return table[self.index()].masked_fill(~self.legal[self.index()[2]], ILLEGAL_SCORE)

    def backward(self, state_value: Callable[[Tensor, Tensor], Tensor], gamma: float) -> Tensor:
        """Q by recursion from the end: Q = r + gamma V(s'), V(s) = state_value(Q(s, legal), their tags)."""
        q = torch.zeros(2, T, K + 1, K, dtype=D)
        for s, length in enumerate(LENGTHS):
            for t in reversed(range(length)):
                for p, a in itertools.product(range(K + 1), range(K)):
                    tags = self.legal[a].nonzero().squeeze(-1)
                    following = float(state_value(q[s, t + 1, a][tags], tags)) if t + 1 < length else 0.0
                    q[s, t, p, a] = self.reward[s, t, p, a] + gamma * following
        return q

    def optimal(self, gamma: float) -> Tensor:
        """Q*."""
        return self.backward(lambda q, _: q.max(), gamma)

    def over_paths(self, quantity: Tensor) -> Tensor:
        """Sum [2, T, K + 1, K] of a quantity [N, T] over the paths through each state and action."""
        sums, mask = torch.zeros(2, T, K + 1, K, dtype=D), self.data.mask
        place = (*(x[mask] for x in self.index()), self.data.action[mask])
        return sums.index_put_(place, quantity[mask], accumulate=True)

    def counts(self) -> Tensor:
        """How many paths [2, T, K + 1, K] go through each state and action."""
        return self.over_paths(torch.ones(self.data.action.shape, dtype=D))

    def mean_over_paths(self, quantity: Tensor) -> Tensor:
        """Mean [2, T, K + 1, K] of a quantity [N, T] over the paths through each state and action."""
        return self.over_paths(quantity) / self.counts().clamp(min=1)

    def visited(self) -> Tensor:
        """Which entries [2, T, K + 1, K] lie on some legal path."""
        return self.counts() > 0

    def error(self, table: Tensor, right: Tensor) -> float:
        """Largest difference of two tables on the paths."""
        return float((table - right)[self.visited()].abs().max())


@cache
def chain() -> Chain:
    """The one instance; repeating a tag costs, so that the best reward now is not the best in the end."""
    chance = torch.Generator().manual_seed(1)
    legal = legal_transitions(TAGS)
    reward = torch.rand(2, T, K + 1, K, generator=chance, dtype=D) - 0.8 * torch.eye(K + 1, K, dtype=D)
    paths = [
        (s, path)
        for s, length in enumerate(LENGTHS)
        for path in itertools.product(range(K), repeat=length)
        if all(bool(legal[p, a]) for p, a in zip((K, *path[:-1]), path, strict=True))
    ]
    action = torch.zeros(len(paths), T, dtype=torch.int64)
    mask, paid = torch.zeros(len(paths), T, dtype=torch.bool), torch.zeros(len(paths), T, dtype=D)
    for n, (s, path) in enumerate(paths):
        for t, (p, a) in enumerate(zip((K, *path[:-1]), path, strict=True)):
            action[n, t], mask[n, t], paid[n, t] = a, True, reward[s, t, p, a]
    data = replace(blank({"id": torch.arange(len(paths))}, action, mask), reward=paid)
    data = replace(data, discount=data.discount.to(D))
    return Chain(reward=reward, legal=legal, sentence=torch.tensor([s for s, _ in paths]), data=data)


def start_table() -> Tensor:
    """A table to begin from that is right nowhere."""
    return torch.randn(2, T, K + 1, K, generator=torch.Generator().manual_seed(2), dtype=D)


def fitted(algorithm: Algorithm, data: Trajectory, steps: int = 400) -> Tensor:
    """Table that Adam reaches on all paths; what is bootstrapped from is the table itself, without gradient."""
    table = start_table().requires_grad_()
    optimizer = torch.optim.Adam([table], lr=0.1)
    data = algorithm.prepare(data)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / steps)
        output = Output(scores=chain().scores(table), value=None)
        target = replace(output, scores=output.scores.detach()) if algorithm.uses_target else None
        loss = algorithm.loss(output, data, target)
        optimizer.zero_grad()
        torch.autograd.backward(torch.where(data.mask, loss, 0.0).sum())
        optimizer.step()
    return table.detach()
