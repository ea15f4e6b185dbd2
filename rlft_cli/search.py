"""Tree search over sequences of decisions: PUCT, with subtrees closed when nothing new is in them. Imports nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Path = tuple[int, ...]  # the actions so far
Choices = Sequence[tuple[int, float]]  # legal actions with weights; empty where the path is whole
Prior = Callable[[Path], Choices]
Worth = Callable[[Path], float]  # of a whole path: a reward, a reward model, a sum of values
Leaf = Callable[[Path], tuple[float, Path | None]]  # estimate of an unfinished path, and the whole path it stands for


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a policy's answers are searched."""

    simulations: int  # paths tried for each tree
    exploration: float  # c of PUCT
    temperature: float  # scores are divided by it to weight the actions of a decision
    width: int  # best actions of each decision that are looked at
    noise: float  # of Gumbel noise on what is weighted, before the best actions are taken


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was found at a path that a search asked for."""

    choices: Choices  # what may follow
    worth: float  # an estimate of the path, or the worth of ``whole``
    whole: Path | None  # the whole path that the worth is that of; None for an estimate


@dataclass(frozen=True, kw_only=True)
class Followed:
    """A path that was asked for, followed to its end by the best action each time."""

    path: Path  # whole
    choices: Sequence[Choices]  # at each decision after the part that was asked for
    worth: float  # of the whole path


Follow = Callable[
    [Sequence[tuple[int, Path]]], Sequence[Followed]
]  # for many trees at once: (number of the tree, path)


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


class Search:
    """One search from the empty path, by turns: ``ask`` for the path to look at, ``tell`` what was found there.

    Each simulation goes down by argmax of Q(a) + c P(a) sqrt(sum of N + 1) / (1 + N(a)) (Silver et al. 2018, with Q scaled
    to [0, 1] by the lowest and highest value so far: Schrittwieser et al. 2020, eq. 5; untried actions have the mean of
    their node), to one path that is new. A whole path, and a node all of whose actions are done with, is closed and not
    entered again, so that no more simulations than the tree has nodes find the best path for certain: without that, a
    deterministic tree is searched in the same places over and over.
    """

    def __init__(self, *, simulations: int, exploration: float) -> None:
        self._left, self._exploration = simulations, exploration
        self._root: _Node | None = None
        self._best = _Best()
        self._way: list[tuple[_Node, int]] = []  # to the path that was asked for
        self._path: Path = ()

    def ask(self) -> Path | None:
        """The path to look at next, the same one until it is told; None where the search has ended.

        The first one is empty. Where leaves were estimated without a whole path, the last ones go on by what was tried
        most, until one is whole.
        """
        if self._root is None:
            return ()
        if self._left > 0 and not all(self._root.closed):
            self._go_down(self._root, settle=False)
            return self._path
        if self._best.path is None:
            self._go_down(self._root, settle=True)
            return self._path
        return None

    def tell(self, look: Look) -> None:
        """What was found at the path asked for; ValueError where nothing is legal at the empty one, or no worth is known."""
        if not float("-inf") < look.worth < float("inf"):
            raise ValueError(f"the worth of a path is {look.worth}; expected a finite number")
        child = _expand(look)
        if self._root is None:
            if child is None:
                raise ValueError("the empty path has no legal action")
            self._root = child
            if look.whole is not None:
                self._best.see(look.worth, look.whole)
            return
        self._left -= 1
        node, i = self._way[-1]
        if child is None:
            node.closed[i] = True
        else:
            node.below[i] = child
        self._best.see(look.worth, look.whole)
        for node, i in reversed(self._way):
            node.visits[i] += 1
            node.total[i] += look.worth
            if i in node.below and all(node.below[i].closed):
                node.closed[i] = True

    def found(self) -> Found:
        """What came of it, once ``ask`` gives None."""
        assert self._root is not None
        path = self._best.path or ()
        closed = all(self._root.closed)
        return Found(best=path, worth=self._best.worth, visits=_visits(self._root, path), exhausted=closed)

    def _go_down(self, node: _Node, *, settle: bool) -> None:
        self._path, self._way = (), []
        below: _Node | None = node
        while below is not None:
            i = _most_tried(below) if settle else _choose(below, self._exploration, self._best)
            self._way.append((below, i))
            self._path = (*self._path, below.actions[i])
            below = below.below.get(i)


def search(prior: Prior, worth: Worth, leaf: Leaf, *, simulations: int, exploration: float) -> Found:
    """Search one tree by functions of a path; ValueError where nothing is legal at the empty one."""
    one = Search(simulations=simulations, exploration=exploration)
    while (path := one.ask()) is not None:
        choices = prior(path)
        value, whole = (0.0, None) if not path else leaf(path) if choices else (worth(path), path)
        one.tell(Look(choices=choices, worth=value, whole=whole))
    return one.found()


def search_together(follow: Follow, trees: int, *, simulations: int, exploration: float) -> list[Found]:
    """Search ``trees`` trees in lock-step, so that each turn is one call for the next path of every tree that goes on.

    A path that lies on one that was followed before is known from there, and is not asked for again. The first thing that
    every search sees is the empty path followed to its end: the best action each time. Nothing worse is found.
    """
    searches = [Search(simulations=simulations, exploration=exploration) for _ in range(trees)]
    known: list[dict[Path, Look]] = [{} for _ in searches]
    while asked := [(n, path) for n in range(trees) if (path := _unknown(searches[n], known[n])) is not None]:
        for (n, path), one in zip(asked, follow(asked), strict=True):
            for depth, choices in enumerate([*one.choices, ()], start=len(path)):
                known[n][one.path[:depth]] = Look(choices=choices, worth=one.worth, whole=one.path)
    return [one.found() for one in searches]


def _unknown(one: Search, known: dict[Path, Look]) -> Path | None:
    """Tell a search what is known; the first path that it asks for and that is not."""
    while (path := one.ask()) is not None and path in known:
        one.tell(known[path])
    return path


def _expand(look: Look) -> _Node | None:
    if not look.choices:
        return None
    n = len(look.choices)
    actions, prior = [action for action, _ in look.choices], [weight for _, weight in look.choices]
    return _Node(actions, prior, [0] * n, [0.0] * n, [False] * n)


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


def _most_tried(node: _Node) -> int:
    """Place of the action that was tried most, and where none was, of the likeliest."""
    return max(range(len(node.actions)), key=lambda i: (node.visits[i], node.prior[i]))


def _visits(root: _Node, path: Path) -> list[dict[int, int]]:
    found: list[dict[int, int]] = []
    node: _Node | None = root
    for action in path:
        if node is None or not any(node.visits):
            break
        found.append(dict(zip(node.actions, node.visits, strict=True)))
        node = node.below.get(node.actions.index(action)) if action in node.actions else None
    return found
