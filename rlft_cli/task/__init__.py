"""What a task is: text turned into episodes of discrete decisions, and predictions turned into metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from torch import Tensor

from rlft_cli.episode import Trajectory
from rlft_cli.model import Codec

Row = dict[str, Any]  # one example as data/ yields it
Decisions = Literal["tags", "classes", "tokens", "pairs", "acts"]


@dataclass(frozen=True, kw_only=True)
class State:
    """What has been decided so far in N parallel episodes."""

    t: int
    previous: Tensor  # [N] int64, the last action; -1 before the first
    length: Tensor  # [N] int64, how many decisions the episode has, or its horizon
    done: Tensor  # [N] bool
    # [N, W] int64, the last actions, -1 before the first; where the task looks back at them
    recent: Tensor | None = None
    # [N, F] what came to light before decision t; None where the input is all there is to see
    seen: Tensor | None = None
    world: Any = None  # what the task alone reads: a simulated user


class Task(Protocol):
    """A task bound to its labels and to the codec of a model; what a checkpoint needs to be used again is in ``spec``."""

    decisions: ClassVar[Decisions]
    labels: list[str]  # names of the actions; empty for tokens
    primary: str  # metric of ``score`` that selects the best checkpoint; higher is better
    codec: Codec

    @property
    def rows(self) -> str:
        """The kind of rows that ``add`` takes, one of ``TaskSettings.rows``."""
        ...

    def add(self, rows: Sequence[Row]) -> list[int]:
        """Tokenise rows once and return their ids, the ``observation["id"]`` of ``collate``."""
        ...

    def ask(self, rows: Sequence[Row]) -> list[int]:
        """Add rows without references, one episode each, to be answered."""
        ...

    def cost(self, ids: Sequence[int]) -> list[int]:
        """Input tokens of each example, for batches by token budget."""
        ...

    def collate(self, ids: Sequence[int]) -> dict[str, Tensor]:
        """Build the model's inputs for examples; never a label."""
        ...

    def reset(self, observation: dict[str, Tensor], samples: int) -> State:
        """Begin ``samples`` episodes on each observation."""
        ...

    def step(self, state: State, action: Tensor) -> State:
        """Take one decision [N] in each episode."""
        ...

    def truncated(self, action: Tensor, mask: Tensor) -> Tensor:
        """Which episodes [N] were stopped by the horizon and not by the task."""
        ...

    def demonstration(self, ids: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Reference actions [B, T] int64 and their mask [B, T] bool."""
        ...

    def contexts(self, ids: Sequence[int]) -> list[Any]:
        """What a person would read of each example before judging: words, a text, or the turns before the reply."""
        ...

    def references(self, ids: Sequence[int]) -> list[Any]:
        """References in the form that rewards and ``score`` compare with."""
        ...

    def decode(self, action: Tensor, mask: Tensor, ids: Sequence[int]) -> list[Any]:
        """Predictions, one per row of ``action`` [len(ids), T], in the form of ``references``."""
        ...

    def score(
        self, predictions: Sequence[Any], references: Sequence[Any], seed: int, resamples: int
    ) -> dict[str, dict[str, float]]:
        """Metrics with 95 % bootstrap intervals: {name: {"value":, "low":, "high":}}."""
        ...

    def compare(
        self, ours: Sequence[Any], theirs: Sequence[Any], references: Sequence[Any], seed: int, resamples: int
    ) -> dict[str, dict[str, float]]:
        """Differences, ours minus theirs, of the metrics of ``score``, with paired 95 % bootstrap intervals."""
        ...

    def details(self, predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, Any]:
        """What a result tells beside its metrics (a confusion matrix, sample replies), ready for JSON."""
        ...

    def signatures(self) -> dict[str, str]:
        """How the metrics were computed, for reports (BLEU's signature, the tagging scheme)."""
        ...


class TaskSettings(Protocol):
    """The configured side of a task: a frozen dataclass that builds the bound one."""

    decisions: ClassVar[Decisions]
    rows: ClassVar[str]  # the kind of rows that data/ must yield (rlft_cli/data/__init__.py)

    def fit(self, rows: Sequence[Row]) -> list[str]:
        """Find the labels in the training rows, in a fixed order."""
        ...

    def build(self, labels: list[str], codec: Codec) -> Task:
        """Bind the settings to labels and to a model's codec."""
        ...


__all__ = ["Decisions", "Row", "State", "Task", "TaskSettings", "Trajectory"]
