"""Tree search over sequences of decisions: PUCT, with subtrees closed when nothing new is in them. Imports nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Path = tuple[int, ...]  # the actions so far
Prior = Callable[[Path], Sequence[tuple[int, float]]]  # legal actions with weights; empty where the path is whole
Worth = Callable[[Path], float]  # of a whole path: a reward, a reward model, a sum of values
Leaf = Callable[[Path], tuple[float, Path | None]]  # estimate of an unfinished path, and the whole path it stands for


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search found."""

    best: Path  # the best whole path that was met
    worth: float
    visits: list[dict[int, int]]  # by decision along ``best``, as far as the tree goes: how often each action was tried
    exhausted: bool  # every path was met: ``best`` is the optimum


@dataclass(slots=True)
class _Node:
    """One path: its actions, what trying them gave, and what lies below."""

    actions: list[int]
    prior: list[float]
    visits: list[int]
    total: list[float]
    closed: list[bool]
    below: dict[int, _Node] = field(default_factory=dict)  # by place in ``actions``


@dataclass(slots=True)
class _Best:
    """The best whole path so far, and the range of what was seen."""

    path: Path | None = None
    worth: float = float("-inf")
    low: float = float("inf")
    high: float = float("-inf")

    def see(self, worth: float, path: Path | None) -> None:
        self.low, self.high = min(self.low, worth), max(self.high, worth)
        if path is not None and worth > self.worth:
            self.path, self.worth = path, worth

    def scaled(self, worth: float) -> float:
        return (worth - self.low) / (self.high - self.low) if self.high > self.low else 0.5


def search(prior: Prior, worth: Worth, leaf: Leaf, *, simulations: int, exploration: float) -> Found:
    """Search from the empty path; ValueError where nothing is legal there.

    Each simulation goes down by argmax of Q(a) + c P(a) sqrt(sum of N + 1) / (1 + N(a)) (Silver et al. 2018, with Q scaled
    to [0, 1] by the lowest and highest value so far: Schrittwieser et al. 2020, eq. 5; untried actions have the mean of
    their node), to one path that is new. A whole path, and a node all of whose actions are done with, is closed and not
    entered again, so that no more simulations than the tree has nodes find the best path for certain: without that, a
    deterministic tree is searched in the same places over and over.
    """
    root, best = _expand(prior, ()), _Best()
    if root is None:
        raise ValueError("the empty path has no legal action")
    for _ in range(simulations):
        _simulate(root, prior, worth, leaf, exploration, best)
        if all(root.closed):
            break
    if best.path is None:  # leaves were estimated without a whole path: go on by what was tried most
        tried = _most_tried(root, prior)
        best.see(worth(tried), tried)
    path = best.path or ()
    return Found(best=path, worth=best.worth, visits=_visits(root, path), exhausted=all(root.closed))


def _expand(prior: Prior, path: Path) -> _Node | None:
    legal = prior(path)
    if not legal:
        return None
    n = len(legal)
    return _Node([a for a, _ in legal], [p for _, p in legal], [0] * n, [0.0] * n, [False] * n)


def _choose(node: _Node, exploration: float, best: _Best) -> int:
    """Place of the open action with the highest bound."""
    tried = sum(node.visits)
    mean = best.scaled(sum(node.total) / tried) if tried else 0.5
    spread, chosen, highest = exploration * (tried + 1) ** 0.5, -1, float("-inf")
    for i, n in enumerate(node.visits):
        if node.closed[i]:
            continue
        bound = (best.scaled(node.total[i] / n) if n else mean) + spread * node.prior[i] / (1 + n)
        if bound > highest:
            chosen, highest = i, bound
    return chosen


def _simulate(root: _Node, prior: Prior, worth: Worth, leaf: Leaf, exploration: float, best: _Best) -> None:
    node = root
    path: Path = ()
    whole: Path | None
    way: list[tuple[_Node, int]] = []
    while True:
        i = _choose(node, exploration, best)
        way.append((node, i))
        path = (*path, node.actions[i])
        if i in node.below:
            node = node.below[i]
            continue
        child = _expand(prior, path)
        if child is None:
            value, whole = worth(path), path
            node.closed[i] = True
        else:
            node.below[i] = child
            value, whole = leaf(path)
        break
    best.see(value, whole)
    for node, i in reversed(way):
        node.visits[i] += 1
        node.total[i] += value
        if i in node.below and all(node.below[i].closed):
            node.closed[i] = True


def _most_tried(root: _Node, prior: Prior) -> Path:
    """Down by the action that was tried most, and where none was, by the likeliest."""
    path: Path = ()
    node: _Node | None = root
    while legal := prior(path):
        if node is not None and any(node.visits):
            i = max(range(len(node.actions)), key=node.visits.__getitem__)
            path, node = (*path, node.actions[i]), node.below.get(i)
        else:
            path, node = (*path, max(legal, key=lambda pair: pair[1])[0]), None
    return path


def _visits(root: _Node, path: Path) -> list[dict[int, int]]:
    found: list[dict[int, int]] = []
    node: _Node | None = root
    for action in path:
        if node is None or not any(node.visits):
            break
        found.append(dict(zip(node.actions, node.visits, strict=True)))
        node = node.below.get(node.actions.index(action)) if action in node.actions else None
    return found
