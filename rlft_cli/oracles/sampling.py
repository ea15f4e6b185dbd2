"""Acting: what a rollout samples, and whether explorers report the probabilities that they act with (METHODS 7.1, row 11)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rlft_cli.episode import ILLEGAL_SCORE, rollout
from rlft_cli.explore import Explore
from rlft_cli.explore.boltzmann import Boltzmann
from rlft_cli.explore.epsilon_greedy import EpsilonGreedy
from rlft_cli.explore.greedy import Greedy
from rlft_cli.explore.sample import Sample
from rlft_cli.oracles import Oracle
from rlft_cli.oracles.toys.acting import TaggingPolicy, decision, sentence_task
from rlft_cli.oracles.toys.tagging import REINFORCE, D, sentence, true_gradient

EPISODES = 20_000


def _sampled_gradient(explore: Explore) -> float:
    """Largest |z| of the 50 coordinates of the mean of R d log p; infinite for an illegal tag or a wrong log_prob."""
    toy = sentence()
    task, observation = sentence_task(toy)
    trajectory = rollout(
        TaggingPolicy(toy),
        task,
        observation,
        explore,
        samples=EPISODES,
        progress=0.0,
        generator=torch.Generator().manual_seed(11),
        values=REINFORCE.values,
    )
    number = {tuple(row): n for n, row in enumerate(toy.action.tolist())}
    rows = [number.get(tuple(row), -1) for row in trajectory.action.tolist()]
    if min(rows) < 0:
        return math.inf
    place = torch.tensor(rows)
    exact = toy.log_prob(toy.theta)[place]
    if float((trajectory.log_prob - exact).abs().max()) > 1e-5:
        return math.inf
    score: Tensor = torch.func.jacfwd(lambda theta: toy.log_prob(theta).sum(1))(toy.theta)
    each = (toy.f1[:, None] * score)[place]  # [episodes, weights]
    away = each.mean(0) - true_gradient(toy, toy.f1, toy.theta)
    return float((away / (each.std(0) / EPISODES**0.5).clamp(min=1e-12)).abs().max())


@dataclass(frozen=True, kw_only=True)
class _Situation:
    scores: list[float]
    legal: list[bool]


_SITUATIONS = (
    _Situation(scores=[0.3, -0.5, 0.1, 0.9], legal=[True, True, True, True]),
    _Situation(scores=[0.7, 0.7, 0.2, 5.0], legal=[True, True, True, False]),
    _Situation(scores=[-2.0, -2.0, -2.0, -2.0], legal=[True, False, True, True]),
    _Situation(scores=[1.0, 2.0, 3.0, 4.0], legal=[False, True, False, False]),
)


def _propensities(explore: Explore) -> float:
    """Largest |z| of how often each action was taken against the probability that was reported with it."""
    chance, worst = torch.Generator().manual_seed(12), 0.0
    for situation in _SITUATIONS:
        scores = torch.tensor(situation.scores, dtype=D).expand(EPISODES, -1)
        legal = torch.tensor(situation.legal).expand(EPISODES, -1)
        scores = scores.masked_fill(~legal, ILLEGAL_SCORE)
        action, log_prob = explore(decision(scores, legal), chance)
        if not bool(legal.gather(-1, action[:, None]).all()):
            return math.inf
        total = 0.0
        for taken in action.unique().tolist():
            reported = log_prob[action == taken].double().exp()
            if float(reported.max() - reported.min()) > 1e-6:
                return math.inf
            p = float(reported[0])
            total += p
            share = float((action == taken).double().mean())
            worst = max(worst, abs(share - p) / max(1e-9, math.sqrt(max(0.0, p * (1 - p)) / EPISODES), 1e-6))
        if abs(total - 1) > 1e-5:  # every action with any probability was seen
            return math.inf
    return worst


_REPORTED = "the log-probability that it reports, z of 20,000 draws"

ORACLES = (
    Oracle(
        name="rollout",
        row=11,
        object="rollout with the policy's own samples, z of the gradient",
        oracle="policy gradient by enumeration; exact log_prob; no illegal tag",
        tolerance=5.0,
        subject=Sample(temperature=1.0, top_k=0, top_p=1.0),
        distance=_sampled_gradient,
    ),
    Oracle(
        name="propensity_sample",
        row=11,
        object="explore=sample, temperature .7: how often each action",
        oracle=_REPORTED,
        tolerance=5.0,
        subject=Sample(temperature=0.7, top_k=0, top_p=1.0),
        distance=_propensities,
    ),
    Oracle(
        name="propensity_truncated",
        row=11,
        object="explore=sample, top_k 3 and top_p .8: how often each action",
        oracle=_REPORTED,
        tolerance=5.0,
        subject=Sample(temperature=1.0, top_k=3, top_p=0.8),
        distance=_propensities,
    ),
    Oracle(
        name="propensity_boltzmann",
        row=11,
        object="explore=boltzmann: how often each action",
        oracle=_REPORTED,
        tolerance=5.0,
        subject=Boltzmann(temperature=0.5),
        distance=_propensities,
    ),
    Oracle(
        name="propensity_epsilon_greedy",
        row=11,
        object="explore=epsilon_greedy: how often each action, ties and masks",
        oracle=_REPORTED,
        tolerance=5.0,
        subject=EpsilonGreedy(start=0.3, end=0.3, decay_fraction=1.0, schedule="constant"),
        distance=_propensities,
    ),
    Oracle(
        name="propensity_greedy",
        row=11,
        object="explore=greedy: how often each of tied actions",
        oracle=_REPORTED,
        tolerance=5.0,
        subject=Greedy(split_ties=True),
        distance=_propensities,
    ),
)
