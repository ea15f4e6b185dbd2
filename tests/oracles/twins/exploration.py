from __future__ import annotations

import random
from typing import Any
from unittest.mock import patch

import torch

from rlft_cli import search as tree
from rlft_cli.explore.epsilon_greedy import EpsilonGreedy
from rlft_cli.explore.thompson import Thompson
from rlft_cli.linear import LinearRewards, absorb
from rlft_cli.returns import upper_bound
from rlft_cli.search import Found, search


def no_bonus(value, count, c):
    return value


def far_too_wide(value, count, c):
    return upper_bound(value, count, 100.0)


def grows(value, count, c):
    """The bonus by t alone: the same for all arms."""
    return value + torch.log(count.sum(-1, keepdim=True))


def without_division(inverse, moment, features, action, reward):
    """Sherman and Morrison without the denominator."""
    for a in range(len(inverse)):
        for phi, r in zip(features[action == a], reward[action == a], strict=True):
            gain = inverse[a] @ phi
            inverse[a] -= torch.outer(gain, gain)
            moment[a] += phi * r


def without_reward(inverse, moment, features, action, reward):
    absorb(inverse, moment, features, action, torch.ones_like(reward))


def all_actions_alike(inverse, moment, features, action, reward):
    absorb(inverse, moment, features, torch.zeros_like(action), reward)


class Open(list[bool]):
    """Nothing is ever closed."""

    def __setitem__(self, place: Any, value: Any) -> None:
        pass


def never_closes(prior, worth, leaf, *, simulations, exploration):
    expand = tree._expand

    def opened(*given):
        node = expand(*given)
        if node is not None:
            node.closed = Open(node.closed)
        return node

    with patch.object(tree, "_expand", opened):
        return search(prior, worth, leaf, simulations=simulations, exploration=exploration)


def closes_too_early(prior, worth, leaf, *, simulations, exploration):
    return search(prior, worth, leaf, simulations=simulations // 8, exploration=exploration)


def at_random(prior, worth, leaf, *, simulations, exploration):
    chance, best, most = random.Random(0), (), float("-inf")
    for _ in range(simulations):
        path: tuple[int, ...] = ()
        while legal := prior(path):
            path = (*path, chance.choice(legal)[0])
        if worth(path) > most:
            best, most = path, worth(path)
    return Found(best=best, worth=most, visits=[], exhausted=False)


def epsilon_greedy(start, end, schedule):
    return EpsilonGreedy(start=start, end=end, decay_fraction=1.0, schedule=schedule)


def thompson(noise: float) -> Thompson:
    return Thompson(noise=noise, regression=LinearRewards(ridge=1.0, refresh_batches=0, window_episodes=1))


TWINS: dict[str, list[Any]] = {
    "ucb1": [no_bonus, far_too_wide, grows],
    "epsilon_constant": [epsilon_greedy(0.2, 0.2, "constant"), epsilon_greedy(1.0, 0.005, "inverse")],
    "epsilon_inverse": [epsilon_greedy(0.1, 0.1, "constant"), epsilon_greedy(1.0, 0.005, "linear")],
    "thompson": [
        thompson(1e-9),  # never explores
        thompson(20.0),  # never stops
    ],
    "ridge": [without_division, without_reward, all_actions_alike],
    "search_whole": [never_closes, at_random, closes_too_early],
    "search_part": [at_random],
}
