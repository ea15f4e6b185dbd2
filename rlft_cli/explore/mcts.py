"""Look ahead before each episode: tree search for the decisions whose values are highest together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from rlft_cli.episode import Decision, Trajectory
from rlft_cli.search import Found, search
from rlft_cli.trees import TagTree


@dataclass(frozen=True, kw_only=True)
class Mcts:
    """The best sequence that PUCT finds from the start of the episode (search.py), by the sum of the values of its decisions.

    Actions of a decision are weighted by softmax(value / temperature) over the ``width`` best legal ones. A leaf is worth
    the path to it and on from there by the best action each time. The sum of values is the return where a value is the
    reward of one decision (algo.gamma=0). Deterministic.
    """

    on_policy: ClassVar[bool] = False
    propensities: ClassVar[bool] = False
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes")
    sums_values: ClassVar[bool] = True  # what a value must be of: one decision
    reads: ClassVar[tuple[str, ...]] = ()

    simulations: Annotated[int, "[1, inf)"]
    exploration: Annotated[float, "[0, inf)"]
    temperature: Annotated[float, "(0, inf)"]
    width: Annotated[int, "[1, inf)"]
    plan: dict[str, Tensor] = field(init=False, default_factory=dict)  # actions of the episodes that go on
    state: dict[str, Tensor] = field(init=False, default_factory=dict)

    def __call__(self, decision: Decision, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Action [n] and log-probability 0 [n]; the search is done at the first decision, and followed from then on."""
        if decision.t == 0:
            scores, legal = decision.table()
            plan = torch.zeros(int(decision.rows.max()) + 1, scores.shape[1], dtype=torch.int64)
            for n, row in enumerate(decision.rows.tolist()):
                length = int(decision.length[n])
                plan[row, :length] = torch.tensor(self.find(scores[n, :length], legal[n, :length]).best)
            self.plan["action"] = plan.to(scores.device)
        action = self.plan["action"][decision.rows, decision.t]
        return action, torch.zeros(action.shape, device=action.device)

    def find(self, values: Tensor, legal: Tensor) -> Found:
        """Search one episode: values and legal [T, P, A] after every previous action, the last of the P being the start.

        ``Found.visits`` are improved action distributions, to be learned from (Silver et al. 2018; Lao et al. 2018).
        """
        tree = TagTree(values=values, legal=legal, temperature=self.temperature, width=self.width)
        return search(tree.prior, tree.worth, tree.leaf, simulations=self.simulations, exploration=self.exploration)

    def warp(self, scores: Tensor) -> Tensor:
        """Scores are ranked only."""
        return scores

    def perturb(self, episodes: int, width: int, actions: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def observe(self, trajectory: Trajectory, features: Callable[[Trajectory], Tensor]) -> None:
        """Learns nothing."""
