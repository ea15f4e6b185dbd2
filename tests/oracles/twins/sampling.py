from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from rlft_cli.explore.boltzmann import Boltzmann
from rlft_cli.explore.epsilon_greedy import EpsilonGreedy
from rlft_cli.explore.greedy import Greedy
from rlft_cli.explore.sample import Sample
from rlft_cli.returns import action_log_prob


def sample(temperature: float) -> Sample:
    return Sample(temperature=temperature, top_k=0, top_p=1.0)


class Explorer:
    """What a rollout asks for beside the choice."""

    def perturb(self, episodes, width, actions, generator):
        return {}


@dataclass
class Reports(Explorer):
    """Acts by one explorer and reports the log-probability of another."""

    acts: Any
    reports: Any

    def __call__(self, decision, generator):
        action, _ = self.acts(decision, generator)
        return action, action_log_prob(self.reports.warp(decision.scores), action)


@dataclass
class Constant(Explorer):
    """Reports one log-probability whatever it does."""

    acts: Any
    log_prob: float

    def __call__(self, decision, generator):
        action, log_prob = self.acts(decision, generator)
        return action, torch.full_like(log_prob, self.log_prob)


class Lawless(Explorer):
    """Does not know what is legal."""

    def __call__(self, decision, generator):
        scores = torch.where(decision.legal, decision.scores, 0.0)
        free = replace(decision, scores=scores, legal=torch.ones_like(decision.legal))
        return sample(1.0)(free, generator)


EPSILON = EpsilonGreedy(start=0.3, end=0.3, decay_fraction=1.0, schedule="constant")


class OtherEpsilon(Explorer):
    """Reports the probabilities of another exploration rate."""

    def __call__(self, decision, generator):
        action, log_prob = EPSILON(decision, generator)
        best = log_prob.exp() > 0.3
        return action, torch.where(best, log_prob + 0.02, log_prob - 0.1)


TWINS = {
    "rollout": [
        Reports(acts=sample(1.3), reports=sample(1.0)),
        Constant(acts=sample(1.0), log_prob=-1.0),
        Lawless(),
    ],
    "propensity_sample": [Reports(acts=sample(0.7), reports=sample(1.0)), Lawless()],
    "propensity_truncated": [Reports(acts=Sample(temperature=1.0, top_k=3, top_p=0.8), reports=sample(1.0)), Lawless()],
    "propensity_boltzmann": [Reports(acts=Boltzmann(temperature=0.5), reports=sample(1.0)), Lawless()],
    "propensity_epsilon_greedy": [OtherEpsilon(), Constant(acts=EPSILON, log_prob=0.0)],
    "propensity_greedy": [Constant(acts=Greedy(split_ties=True), log_prob=0.0)],
}
