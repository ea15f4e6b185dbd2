"""What became of reactions: those on their way to the learner, and how many it was given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rlft_cli.episode import Trajectory, from_rows, to_rows
from rlft_cli.errors import UsageError
from rlft_cli.feedback import Signal
from rlft_cli.ring import DECISION


@dataclass(kw_only=True)
class Counts:
    """What the learner was shown."""

    label_examples: int = 0  # distinct examples whose labels were revealed
    label_decisions: int = 0  # label decisions read, repeats included
    reaction_examples: int = 0  # distinct examples with at least one reaction
    reaction_episodes: int = 0  # episodes with at least one reaction
    reaction_decisions: int = 0  # decisions whose reward was told
    reactions: int = 0  # bits or numbers that users gave

    def add(self, signal: Signal) -> None:
        """Count a signal that the learner was given."""
        self.reaction_episodes += int((signal.reactions > 0).sum())
        self.reaction_decisions += int(signal.observed.sum())
        self.reactions += int(signal.reactions.sum())


@dataclass(frozen=True, kw_only=True)
class _Episode:
    due: int  # step at whose end its reward is there
    example: int
    cost: int  # input tokens
    truncated: bool
    decisions: Any  # structured array of DECISION
    reactions: int


class OnTheWay:
    """Episodes whose rewards have not arrived; taken out in the order in which they were acted."""

    def __init__(self) -> None:
        self._waiting: list[_Episode] = []

    def __len__(self) -> int:
        """Episodes that wait."""
        return len(self._waiting)

    def add(self, trajectory: Trajectory, signal: Signal, cost: Sequence[int], step: int) -> None:
        """Hold a trajectory until its rewards are there; UsageError where an example has several episodes."""
        if trajectory.samples > 1:
            raise UsageError(
                f"late rewards are learned from episode by episode, but algo.samples is {trajectory.samples}; type "
                "algo.samples=1, or feedback=bandit"
            )
        columns = [trajectory.observation["id"], trajectory.truncated, signal.reactions, signal.delay_steps]
        rows = zip(*(column.tolist() for column in columns), cost, to_rows(trajectory, DECISION), strict=True)
        self._waiting += [
            _Episode(
                due=step + delay, example=example, cost=size, truncated=cut, decisions=decisions, reactions=reactions
            )
            for example, cut, reactions, delay, size, decisions in rows
        ]

    def take(self, step: int) -> tuple[Trajectory, Signal, list[int]] | None:
        """What has arrived by ``step``, with its signal and costs; its observation holds only "id". None for nothing."""
        here = [episode for episode in self._waiting if episode.due <= step]
        if not here:
            return None
        self._waiting = [episode for episode in self._waiting if episode.due > step]
        trajectory = from_rows(
            example=[episode.example for episode in here],
            decisions=[episode.decisions for episode in here],
            truncated=[episode.truncated for episode in here],
        )
        reactions = torch.tensor([episode.reactions for episode in here])
        signal = Signal(
            reward=trajectory.reward,
            observed=trajectory.observed,
            reactions=reactions,
            delay_steps=torch.zeros_like(reactions),
        )
        return trajectory, signal, [episode.cost for episode in here]

    def state_dict(self) -> dict[str, Any]:
        """All that waits, flat."""
        waiting = self._waiting
        flat = np.concatenate([np.empty(0, DECISION), *(episode.decisions for episode in waiting)])
        numbers = [[e.due, e.example, e.cost, int(e.truncated), e.reactions, len(e.decisions)] for e in waiting]
        state: dict[str, Any] = {name: torch.from_numpy(flat[name].copy()) for name in DECISION.names or ()}
        return {**state, "episodes": torch.tensor(numbers, dtype=torch.int64).reshape(-1, 6)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore ``state_dict``."""
        flat = np.empty(len(state["action"]), DECISION)
        for name in DECISION.names or ():
            flat[name] = state[name].numpy()
        self._waiting, at = [], 0
        for due, example, cost, truncated, reactions, length in state["episodes"].tolist():
            decisions, at = flat[at : at + length].copy(), at + length
            self._waiting.append(
                _Episode(
                    due=due,
                    example=example,
                    cost=cost,
                    truncated=bool(truncated),
                    decisions=decisions,
                    reactions=reactions,
                )
            )
