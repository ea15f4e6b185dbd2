from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from rlft_cli.explore.epsilon_greedy import EpsilonGreedy
from rlft_cli.explore.greedy import Greedy
from rlft_cli.explore.sample import Sample
from rlft_cli.returns import action_log_prob


@dataclass
class Reports:
    """Acts by one explorer and reports the log-probability of another."""

    acts: Any
    reports: Any

    def __call__(self, scores, legal, progress, generator):
        action, _ = self.acts(scores, legal, progress, generator)
        return action, action_log_prob(self.reports.warp(scores), action)


@dataclass
class Constant:
    """Reports one log-probability whatever it does."""

    acts: Any
    log_prob: float

    def __call__(self, scores, legal, progress, generator):
        action, log_prob = self.acts(scores, legal, progress, generator)
        return action, torch.full_like(log_prob, self.log_prob)


class Lawless:
    """Does not know what is legal."""

    def __call__(self, scores, legal, progress, generator):
        scores = torch.where(legal, scores, 0.0)
        return Sample(temperature=1.0)(scores, torch.ones_like(legal), progress, generator)


EPSILON = EpsilonGreedy(start=0.3, end=0.3, decay_fraction=1.0, schedule="constant")


class OtherEpsilon:
    """Reports the probabilities of another exploration rate."""

    def __call__(self, scores, legal, progress, generator):
        action, log_prob = EPSILON(scores, legal, progress, generator)
        best = log_prob.exp() > 0.3
        return action, torch.where(best, log_prob + 0.02, log_prob - 0.1)


TWINS = {
    "rollout": [
        Reports(acts=Sample(temperature=1.3), reports=Sample(temperature=1.0)),
        Constant(acts=Sample(temperature=1.0), log_prob=-1.0),
        Lawless(),
    ],
    "propensity_sample": [Reports(acts=Sample(temperature=0.7), reports=Sample(temperature=1.0)), Lawless()],
    "propensity_epsilon_greedy": [OtherEpsilon(), Constant(acts=EPSILON, log_prob=0.0)],
    "propensity_greedy": [Constant(acts=Greedy(split_ties=True), log_prob=0.0)],
}
