"""Exploration: regret on arms of known means, the algebra of the linear models, tree search (METHODS 7.1, rows 31 to 34)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from rlft_cli.episode import blank
from rlft_cli.explore.epsilon_greedy import EpsilonGreedy
from rlft_cli.explore.thompson import Thompson
from rlft_cli.linear import LinearRewards, absorb
from rlft_cli.model.words import legal_transitions
from rlft_cli.oracles import Oracle
from rlft_cli.oracles.toys.acting import decision
from rlft_cli.returns import upper_bound
from rlft_cli.search import Path, search

D = torch.float64
_MEANS = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5], dtype=D)  # of the arms, which pay 0 or 1
_GAPS = _MEANS.max() - _MEANS
_STEPS, _EARLY, _RUNS = 10_000, 1_000, 50
_THOMPSON_STEPS, _THOMPSON_EARLY, _THOMPSON_RUNS = 2_000, 200, 10  # one covariance a run: it is slower

Choose = Callable[[Tensor, Tensor, int], Tensor]  # mean reward [runs, 5], pulls [runs, 5], step -> arm [runs]
Told = Callable[[Tensor, Tensor], None]  # arm [runs], reward [runs]


# -- regret --------------------------------------------------------------------------------------------------------


def _regret(choose: Choose, steps: int, runs: int, told: Told) -> Tensor:
    """Mean over runs of the sum of gaps after each step [steps], each arm pulled once at first."""
    chance = torch.Generator().manual_seed(31)
    paid, pulls, regret = torch.zeros(runs, 5, dtype=D), torch.zeros(runs, 5, dtype=D), torch.zeros(steps, dtype=D)
    every, lucky = torch.arange(runs), torch.empty(0)
    for t in range(steps):
        if t % 1000 == 0:
            lucky = torch.rand(1000, runs, generator=chance, dtype=D)
        arm = torch.full((runs,), t) if t < 5 else choose(paid / pulls, pulls, t)
        reward = (lucky[t % 1000] < _MEANS[arm]).to(D)
        paid[every, arm] += reward
        pulls[every, arm] += 1
        told(arm, reward)
        regret[t] = _GAPS[arm].mean()
    return regret.cumsum(0)


def _nothing(arm: Tensor, reward: Tensor) -> None:
    """Nobody is told."""


def _slope(regret: Tensor, early: int) -> float:
    """d log R / d log t between two times: 1 for linear regret, towards 0 for a logarithmic one."""
    return math.log(float(regret[-1] / regret[early - 1])) / math.log(len(regret) / early)


def _ucb(bound: Callable[[Tensor, Tensor, float], Tensor]) -> float:
    """What is missing to the bound of Auer et al. 2002, theorem 1, and to a slope below .55."""
    regret = _regret(lambda mean, pulls, t: bound(mean, pulls, 1.0).argmax(1), _STEPS, _RUNS, _nothing)
    gaps = _GAPS[_GAPS > 0]
    most = float((8 * math.log(_STEPS) / gaps).sum() + (1 + math.pi**2 / 3) * gaps.sum())
    return max(0.0, float(regret[-1]) / most - 1, _slope(regret, _EARLY) - 0.55)


def _epsilon_regret(explore: Any) -> Tensor:
    chance = torch.Generator().manual_seed(32)

    def choose(mean: Tensor, pulls: Tensor, t: int) -> Tensor:
        arm: Tensor = explore(decision(mean, progress=t / _STEPS), chance)[0]
        return arm

    return _regret(choose, _STEPS, _RUNS, _nothing)


def _constant_epsilon(explore: Any) -> float:
    """What is missing to regret that grows by epsilon x mean gap a step (within 5 %), a slope above .75."""
    regret = _epsilon_regret(explore)
    rate = float(regret[-1] - regret[_STEPS // 2 - 1]) / (_STEPS - _STEPS // 2)
    return max(0.0, abs(rate / (0.1 * float(_GAPS.mean())) - 1) - 0.05, 0.75 - _slope(regret, _EARLY))


def _decayed_epsilon(explore: Any) -> float:
    """What is missing to a slope below .35."""
    return max(0.0, _slope(_epsilon_regret(explore), _EARLY) - 0.35)


def _thompson(explore: Any) -> float:
    """What is missing to a slope below .35; run i is a context of its own, whose features are the i-th unit vector."""
    explore = replace(explore, regression=replace(explore.regression))  # nothing learned yet
    runs, chance = _THOMPSON_RUNS, torch.Generator().manual_seed(33)
    features = torch.eye(runs, dtype=D)

    def choose(mean: Tensor, pulls: Tensor, t: int) -> Tensor:
        arm: Tensor = explore(decision(torch.zeros(runs, 5), features=features), chance)[0]
        return arm

    def told(arm: Tensor, reward: Tensor) -> None:
        if not explore.state:
            explore(decision(torch.zeros(runs, 5), features=features), chance)
        known = blank({"id": torch.arange(runs)}, arm[:, None], torch.ones(runs, 1, dtype=torch.bool))
        explore.observe(replace(known, reward=reward[:, None]), lambda _: features[:, None])

    return max(0.0, _slope(_regret(choose, _THOMPSON_STEPS, runs, told), _THOMPSON_EARLY) - 0.35)


# -- linear models -------------------------------------------------------------------------------------------------


def _ridge(add: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], None]) -> float:
    """Largest distance to inv(ridge I + Phi' Phi) and to the ridge regression, decisions added in uneven pieces."""
    chance, ridge, width, actions = torch.Generator().manual_seed(34), 0.7, 6, 3
    phi = torch.randn(40, width, generator=chance, dtype=D)
    action, reward = torch.randint(actions, (40,), generator=chance), torch.rand(40, generator=chance, dtype=D)
    inverse = (torch.eye(width, dtype=D) / ridge).repeat(actions, 1, 1)
    moment = torch.zeros(actions, width, dtype=D)
    for piece in torch.arange(40).split([1, 2, 1, 30, 6]):
        add(inverse, moment, phi[piece], action[piece], reward[piece])
    worst = 0.0
    for a in range(actions):
        seen, told = phi[action == a], reward[action == a]
        right = ridge * torch.eye(width, dtype=D) + seen.T @ seen
        theta = torch.linalg.lstsq(
            torch.cat([seen, ridge**0.5 * torch.eye(width, dtype=D)]), torch.cat([told, torch.zeros(width, dtype=D)])
        ).solution
        away = torch.cat([(inverse[a] - torch.linalg.inv(right)).flatten(), inverse[a] @ moment[a] - theta])
        worst = max(worst, float(away.abs().nan_to_num(nan=math.inf).max()))
    return worst


# -- tree search ---------------------------------------------------------------------------------------------------

_TAGS = ["O", "B-X", "I-X", "B-Y", "I-Y"]
_WORDS, _PROBLEMS = 6, 20


@dataclass(frozen=True)
class Tagger:
    """Sequences of six BIO tags, 2,131 legal ones, whose worth is no sum of their decisions'."""

    legal: list[list[int]]  # after each tag, the last being the start
    worths: dict[Path, float]
    alone: list[list[float]]  # what a tag adds by itself at each place: what a model without context knows

    def prior(self, path: Path) -> list[tuple[int, float]]:
        """All legal actions alike; none after six."""
        if len(path) == _WORDS:
            return []
        after = self.legal[path[-1] if path else -1]
        return [(a, 1 / len(after)) for a in after]

    def worth(self, path: Path) -> float:
        """Of a whole path."""
        return self.worths[path]

    def leaf(self, path: Path) -> tuple[float, None]:
        """Nothing is known of an unfinished path."""
        return 0.0, None

    def completed(self, path: Path) -> tuple[float, Path]:
        """The path followed to its end by the legal tag that is best by itself, and its worth."""
        while len(path) < _WORDS:
            path = (*path, max(self.legal[path[-1] if path else -1], key=self.alone[len(path)].__getitem__))
        return self.worths[path], path

    def nodes(self) -> int:
        """Paths of the tree, the empty one left out."""
        return len({path[:n] for path in self.worths for n in range(1, _WORDS + 1)})


@cache
def taggers() -> list[Tagger]:
    """Problems whose worth adds up tags, pairs, and triples of neighbours, all random."""
    allowed = [row.nonzero().squeeze(1).tolist() for row in legal_transitions(_TAGS)]
    every = [
        path
        for path in itertools.product(range(5), repeat=_WORDS)
        if all(a in allowed[p] for p, a in zip((-1, *path), path, strict=False))
    ]
    made = []
    for seed in range(_PROBLEMS):
        chance = torch.Generator().manual_seed(seed)
        one, two, three = (torch.randn(_WORDS, *[5] * n, generator=chance, dtype=D) for n in (1, 2, 3))
        p = torch.tensor(every)
        t = torch.arange(_WORDS)
        total = one[t, p].sum(1) + two[t[1:], p[:, :-1], p[:, 1:]].sum(1)
        total += three[t[2:], p[:, :-2], p[:, 1:-1], p[:, 2:]].sum(1)
        worths = dict(zip(every, total.tolist(), strict=True))
        made.append(Tagger(legal=allowed, worths=worths, alone=one.tolist()))
    return made


def _solved(find: Any, tagger: Tagger, leaf: Any, simulations: int) -> bool:
    """Whether the best sequence is found."""
    result = find(tagger.prior, tagger.worth, leaf, simulations=simulations, exploration=1.25)
    return bool(result.worth == max(tagger.worths.values()) and tagger.worths[result.best] == result.worth)


def _whole_tree(find: Any) -> float:
    """Problems not solved with as many simulations as the tree has nodes, nothing being known of unfinished paths."""
    return float(_PROBLEMS - sum(_solved(find, tagger, tagger.leaf, tagger.nodes()) for tagger in taggers()))


def _part_of_the_tree(find: Any) -> float:
    """What is missing to 15 problems solved with 500 simulations, unfinished paths being completed greedily."""
    return float(max(0, 15 - sum(_solved(find, tagger, tagger.completed, 500) for tagger in taggers())))


ORACLES = (
    Oracle(
        name="ucb1",
        row=31,
        object="UCB1 on five arms: regret, missing to bound and slope",
        oracle="Auer et al. 2002, theorem 1; slope of log R below .55",
        tolerance=0.0,
        subject=upper_bound,
        distance=_ucb,
    ),
    Oracle(
        name="epsilon_constant",
        row=31,
        object="explore=epsilon_greedy, constant .1: regret a step",
        oracle="epsilon x mean gap, 5 %; slope above .75",
        tolerance=0.0,
        subject=EpsilonGreedy(start=0.1, end=0.1, decay_fraction=1.0, schedule="constant"),
        distance=_constant_epsilon,
    ),
    Oracle(
        name="epsilon_inverse",
        row=32,
        object="explore=epsilon_greedy, as 1 / t: regret, missing to slope",
        oracle="slope of log R below .35",
        tolerance=0.0,
        subject=EpsilonGreedy(start=1.0, end=0.005, decay_fraction=1.0, schedule="inverse"),
        distance=_decayed_epsilon,
    ),
    Oracle(
        name="thompson",
        row=32,
        object="explore=thompson on five arms: regret, missing to slope",
        oracle="slope of log R below .35",
        tolerance=0.0,
        subject=Thompson(noise=0.3, regression=LinearRewards(ridge=1.0, refresh_batches=0, window_episodes=1)),
        distance=_thompson,
    ),
    Oracle(
        name="ridge",
        row=33,
        object="linear models of explore=linucb and thompson",
        oracle="inverse matrix and ridge regression",
        tolerance=1e-10,
        subject=absorb,
        distance=_ridge,
    ),
    Oracle(
        name="search_whole",
        row=34,
        object="tree search, as many simulations as nodes: missed of 20",
        oracle="best of 2,131 sequences by enumeration",
        tolerance=0.0,
        subject=search,
        distance=_whole_tree,
    ),
    Oracle(
        name="search_part",
        row=34,
        object="tree search, 500 simulations: missing to 15 of 20",
        oracle="best of 2,131 sequences by enumeration",
        tolerance=0.0,
        subject=search,
        distance=_part_of_the_tree,
    ),
)
