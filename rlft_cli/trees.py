"""The trees of answers that a search goes through: what may follow a part of one, and how the policy goes on from there."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from rlft_cli.episode import ILLEGAL_SCORE, Decision, Trajectory, legal_actions, rollout
from rlft_cli.errors import RlftError
from rlft_cli.search import Choices, Follow, Followed, Path

if TYPE_CHECKING:
    from rlft_cli.task import Task

Values = Callable[[Tensor], Tensor]  # scores [..., A] as the search takes them


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A path that was asked for, followed to its end by the best action each time, and what the policy makes of it."""

    path: Path  # whole
    choices: list[Choices]  # at each decision after the part that was asked for: the best actions, weighted
    total: float  # sum over decisions of log pi(a_t | s_t), or of the values where scores are values
    last: float  # value of the last action, where scores are values
    foreseen: float  # V of the state before the last action; 0 without a value head


Complete = Callable[[Sequence[tuple[int, Path]]], list[Answer]]
Judge = Callable[
    [Sequence[tuple[int, Answer]]], list[float]
]  # the worth of whole answers to the examples of these rows


class TagTree:
    """The tree of one sentence's tags (or of one text's class), read from a table of values."""

    def __init__(self, *, values: Tensor, legal: Tensor, temperature: float, width: int) -> None:
        """Values and legal [T, P, A] after every previous action, the last of the P being the start."""
        best = values.double().masked_fill(~legal, ILLEGAL_SCORE).topk(min(width, values.shape[2]), dim=-1)  # [T, P, w]
        self._prior = torch.softmax(best.values / temperature, dim=-1).tolist()
        self._value, self._action = best.values.tolist(), best.indices.tolist()
        self._length, self._start = values.shape[0], values.shape[1] - 1

    def _after(self, path: Path) -> int:
        return path[-1] if path else self._start

    def prior(self, path: Path) -> list[tuple[int, float]]:
        """The best legal actions with their weights; none where the path is whole."""
        if len(path) == self._length:
            return []
        t, p = len(path), self._after(path)
        chosen = zip(self._action[t][p], self._prior[t][p], self._value[t][p], strict=True)
        return [(action, weight) for action, weight, value in chosen if value > ILLEGAL_SCORE]

    def values(self, path: Path) -> list[float]:
        """The value of each decision of a path."""
        found, previous = [], self._start
        for t, action in enumerate(path):
            found.append(self._value[t][previous][self._action[t][previous].index(action)])
            previous = action
        return found

    def worth(self, path: Path) -> float:
        """The sum of the values of a path's decisions."""
        return sum(self.values(path))

    def leaf(self, path: Path) -> tuple[float, Path]:
        """The path, followed to its end by the best action each time, and its worth."""
        while len(path) < self._length:
            path = (*path, self._action[len(path)][self._after(path)][0])
        return self.worth(path), path

    def answer(self, path: Path) -> Answer:
        """The same, with what may follow on the way."""
        total, whole = self.leaf(path)
        choices: list[Choices] = [self.prior(whole[:n]) for n in range(len(path), len(whole))]
        return Answer(path=whole, choices=choices, total=total, last=self.values(whole)[-1], foreseen=0.0)


@dataclass(frozen=True, kw_only=True)
class Tables:
    """Trees of tags or classes: everything is known once the input was read."""

    trees: list[TagTree]

    def __call__(self, asked: Sequence[tuple[int, Path]]) -> list[Answer]:
        """Follow paths of these trees."""
        return [self.trees[n].answer(path) for n, path in asked]


@dataclass(frozen=True, kw_only=True)
class Replies:
    """Trees of tokens: a path is followed by a rollout that takes its tokens first, all trees in one batch."""

    policy: Any  # an nn.Module that is a Policy
    task: Task
    observation: dict[str, Tensor]  # [B, ...] one prompt a tree
    values: Values
    log_prob: bool  # scores are a policy's
    temperature: float
    width: int

    def __call__(self, asked: Sequence[tuple[int, Path]]) -> list[Answer]:
        """Follow paths of these trees; what ends a reply is up to the task."""
        device = self.observation["id"].device
        rows = torch.tensor([n for n, _ in asked], device=device)
        paths = [path for _, path in asked]
        action, mask = padded(paths, device)
        following = Following(
            given=action.masked_fill(~mask, -1),
            log_prob=self.log_prob,
            temperature=self.temperature,
            width=self.width,
        )
        acted = rollout(
            self.policy,
            self.task,
            {name: tensor[rows] for name, tensor in self.observation.items()},
            following,
            samples=1,
            progress=1.0,
            generator=torch.Generator(device=device),
            values=self.values,
        )
        return self._answers(acted, following, paths)

    def _answers(self, acted: Trajectory, following: Following, paths: list[Path]) -> list[Answer]:
        lengths = acted.mask.sum(1).tolist()
        choices = following.choices_of(len(paths))
        foreseen = acted.value.gather(1, acted.mask.sum(1, keepdim=True) - 1).squeeze(1).tolist()
        totals, lasts = following.totals_of(len(paths))
        return [
            Answer(
                path=tuple(action[:length]),
                choices=choices[n][len(paths[n]) :],
                total=totals[n],
                last=lasts[n],
                foreseen=foreseen[n],
            )
            for n, (action, length) in enumerate(zip(acted.action.tolist(), lengths, strict=True))
        ]


@dataclass(frozen=True, kw_only=True)
class Following:
    """Takes the actions that are given first, then the best one each time; keeps what else could have been tried.

    An Explore (explore/__init__.py), deterministic. ``given`` [N, L] holds -1 behind the end of what is given.
    """

    on_policy: ClassVar[bool] = False
    propensities: ClassVar[bool] = False
    decisions: ClassVar[tuple[str, ...]] = ("tokens",)
    reads: ClassVar[tuple[str, ...]] = ()

    given: Tensor
    log_prob: bool
    temperature: float
    width: int
    steps: list[dict[str, Tensor]] = field(init=False, default_factory=list)
    state: dict[str, Tensor] = field(init=False, default_factory=dict)

    def __call__(self, decision: Decision, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Action [n] and log-probability 0 [n]."""
        scores = decision.scores.masked_fill(~decision.legal, ILLEGAL_SCORE)
        best = scores.topk(min(self.width, scores.shape[1]), dim=-1)
        action = best.indices[:, 0]
        if decision.t < self.given.shape[1]:
            given = self.given[decision.rows, decision.t]
            action = torch.where(given >= 0, given, action)
        value = scores.gather(1, action[:, None]).squeeze(1)
        self.steps.append(
            {
                "row": decision.rows,
                "action": best.indices,
                "weight": torch.softmax(best.values.double() / self.temperature, dim=-1),
                "legal": best.values > ILLEGAL_SCORE,
                "value": value,
                "term": value - scores.logsumexp(-1) if self.log_prob else value,
            }
        )
        return action, torch.zeros(action.shape, device=action.device)

    def choices_of(self, episodes: int) -> list[list[Choices]]:
        """What could be tried at every decision of each episode."""
        found: list[list[Choices]] = [[] for _ in range(episodes)]
        for step in self.steps:
            columns = [step[name].tolist() for name in ("row", "action", "weight", "legal")]
            for row, actions, weights, legal in zip(*columns, strict=True):
                every = zip(actions, weights, legal, strict=True)
                found[row].append([(action, weight) for action, weight, may in every if may])
        return found

    def totals_of(self, episodes: int) -> tuple[list[float], list[float]]:
        """Of each episode the sum over its decisions, and the value of its last action."""
        total = torch.zeros(episodes, dtype=torch.float64, device=self.given.device)
        last = torch.zeros_like(total)
        for step in self.steps:
            total.index_add_(0, step["row"], step["term"].double())
            last[step["row"]] = step["value"].double()
        return total.tolist(), last.tolist()

    def warp(self, scores: Tensor) -> Tensor:
        """Scores are ranked only."""
        return scores

    def perturb(self, episodes: int, width: int, actions: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def observe(self, trajectory: Trajectory, features: Callable[[Trajectory], Tensor]) -> None:
        """Learns nothing."""


@torch.no_grad()
def grow(
    policy: Any,
    task: Task,
    observation: dict[str, Tensor],
    values: Values,
    *,
    log_prob: bool,
    temperature: float,
    width: int,
) -> Complete:
    """The trees of the answers to the B examples of an observation.

    Actions of a decision are weighted by softmax(values(scores) / temperature) over the ``width`` best legal ones.
    ``log_prob`` says that the scores are a policy's, log pi(a|s) + constant, and not values of actions.
    """
    if task.decisions == "tokens":
        return Replies(
            policy=policy,
            task=task,
            observation=observation,
            values=values,
            log_prob=log_prob,
            temperature=temperature,
            width=width,
        )
    scores = policy.table(policy.begin(observation, 1))  # [B, T, P, A]
    table = values(scores).double()
    legal = legal_actions(scores) & legal_actions(table)  # truncated sampling cuts more off
    if log_prob:
        table = torch.log_softmax(table.masked_fill(~legal, ILLEGAL_SCORE), dim=-1)
    lengths = task.reset(observation, 1).length.tolist()
    return Tables(
        trees=[
            TagTree(values=table[n, :length], legal=legal[n, :length], temperature=temperature, width=width)
            for n, length in enumerate(lengths)
        ]
    )


def followed(complete: Complete, judge: Judge) -> Follow:
    """Follow paths of many trees and judge where they lead; RlftError for a worth that is no number."""

    def follow(asked: Sequence[tuple[int, Path]]) -> list[Followed]:
        answers = complete(asked)
        worths = judge([(n, answer) for (n, _), answer in zip(asked, answers, strict=True)])
        wrong = next((worth for worth in worths if not math.isfinite(worth)), None)
        if wrong is not None:
            raise RlftError(f"a search cannot go by a worth of {wrong}; expected a number for each answer")
        pairs = zip(answers, worths, strict=True)
        return [Followed(path=answer.path, choices=answer.choices, worth=worth) for answer, worth in pairs]

    return follow


def padded(paths: Sequence[Path], device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Paths as actions [N, T] int64, 0 behind their ends, and their mask [N, T]."""
    lengths = torch.tensor([len(path) for path in paths], device=device)
    width = max([1, *map(len, paths)])
    action = torch.tensor([[*path, *[0] * (width - len(path))] for path in paths], dtype=torch.int64, device=device)
    return action, torch.arange(width, device=device)[None, :] < lengths[:, None]


__all__ = ["Answer", "Complete", "Judge", "TagTree", "followed", "grow", "padded"]
