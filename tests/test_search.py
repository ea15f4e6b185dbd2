"""Tree search by turns and in lock-step: the best of all paths, and nothing is asked for twice."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence

import pytest

from rlft_cli.search import Followed, Look, Path, Search, search, search_together

ACTIONS, DEPTH = 3, 4
EVERY = [path for n in range(1, DEPTH + 1) for path in itertools.product(range(ACTIONS), repeat=n)]


def worths(seed: int) -> dict[Path, float]:
    """Whole paths (of DEPTH, or ended early by a last action of 0) with a worth that is no sum of parts."""
    chance = random.Random(seed)
    whole = [path for path in EVERY if 0 not in path[:-1] and (len(path) == DEPTH or path[-1] == 0)]
    return {path: chance.random() for path in whole}


def choices(path: Path, known: dict[Path, float]) -> list[tuple[int, float]]:
    return [] if path in known else [(a, (3 - a) / 6) for a in range(ACTIONS)]


class Trees:
    """Follows paths of several trees by action 1, and 0 at the end; counts what is asked."""

    def __init__(self, count: int) -> None:
        self.known = [worths(seed) for seed in range(count)]
        self.asked: list[tuple[int, Path]] = []
        self.calls = 0

    def __call__(self, asked: Sequence[tuple[int, Path]]) -> list[Followed]:
        self.calls += 1
        self.asked += asked
        found = []
        for n, begun in asked:
            path, on_the_way = begun, []
            while legal := choices(path, self.known[n]):
                on_the_way.append(legal)
                path = (*path, 0 if len(path) == DEPTH - 1 else 1)
            found.append(Followed(path=path, choices=on_the_way, worth=self.known[n][path]))
        return found


def test_every_tree_gives_its_best_path() -> None:
    trees = Trees(5)
    nodes = len({path[:n] for path in trees.known[0] for n in range(1, len(path) + 1)})
    found = search_together(trees, 5, simulations=nodes, exploration=1.25)
    for n, one in enumerate(found):
        assert one.exhausted and one.worth == max(trees.known[n].values()) == trees.known[n][one.best]
    assert len(trees.asked) == len(set(trees.asked)), "no path is asked for twice"
    assert len(trees.asked) == 5 * len(trees.known[0]), "each whole path was led to once"
    assert trees.calls < len(trees.asked), "together"


def test_together_is_each_alone() -> None:
    trees = Trees(4)
    for simulations in (1, 5, 9):
        together = search_together(trees, 4, simulations=simulations, exploration=1.0)
        for n in range(4):
            alone = Trees(4)

            def moved(asked: Sequence[tuple[int, Path]], n: int = n, alone: Trees = alone) -> list[Followed]:
                return alone([(n, path) for _, path in asked])

            assert search_together(moved, 1, simulations=simulations, exploration=1.0) == [together[n]]


def test_by_functions_of_a_path_and_in_lock_step_the_best_is_one_and_the_same() -> None:
    known = worths(3)
    alone = search(
        lambda path: choices(path, known), known.__getitem__, lambda path: (0.5, None), simulations=99, exploration=1.25
    )
    trees = Trees(4)
    (together,) = search_together(
        lambda asked: trees([(3, path) for _, path in asked]), 1, simulations=99, exploration=1.25
    )
    assert (alone.best, alone.worth) == (together.best, together.worth)


def test_the_first_thing_seen_is_the_empty_path_followed_to_its_end() -> None:
    trees = Trees(3)
    for n, one in enumerate(search_together(trees, 3, simulations=1, exploration=1.0)):
        assert trees.asked[n] == (n, ())
        assert one.worth >= trees.known[n][1, 1, 1, 0]


def test_estimates_alone_lead_to_a_whole_path() -> None:
    known = worths(1)
    found = search(
        lambda path: choices(path, known), known.__getitem__, lambda path: (0.0, None), simulations=2, exploration=1.0
    )
    assert found.best in known and found.worth == known[found.best] and not found.exhausted


def test_asking_again_changes_nothing() -> None:
    one = Search(simulations=3, exploration=1.0)
    assert one.ask() == one.ask() == ()
    one.tell(Look(choices=[(4, 0.7), (2, 0.3)], worth=0.1, whole=(4,)))
    assert one.ask() == one.ask() == (4,)


@pytest.mark.parametrize("worth", [math.nan, math.inf, -math.inf])
def test_a_worth_that_is_no_number_is_refused(worth: float) -> None:
    one = Search(simulations=3, exploration=1.0)
    with pytest.raises(ValueError, match="finite"):
        one.tell(Look(choices=[(4, 0.7)], worth=worth, whole=None))


def test_nothing_legal_is_refused() -> None:
    with pytest.raises(ValueError, match="no legal action"):
        search(lambda path: [], lambda path: 0.0, lambda path: (0.0, None), simulations=1, exploration=1.0)
