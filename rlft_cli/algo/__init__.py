"""What an algorithm is: per-decision losses from scores and trajectories, and nothing else."""

from __future__ import annotations

from typing import ClassVar, Protocol

from torch import Tensor

from rlft_cli.episode import Trajectory
from rlft_cli.model import Output


class Algorithm(Protocol):
    """Arithmetic on the scores of decisions.

    ``needs`` is "labels" (learns from demonstrations) or "rewards"; ``reads`` may hold "value" (a head of the policy,
    and Trajectory.value, what it foresaw while acting), "dueling" (a head), "greedy" (Trajectory.greedy_reward),
    "reference" (Trajectory.reference_log_prob), "propensity" (Trajectory.log_prob as the chance of what was done: not that
    of a deterministic policy), "chance" (rewards as chances: true ones must lie in [0, 1]), "search" (trajectories that a
    tree search chose: the algorithm then has ``simulations``, ``exploration``, ``temperature``, ``width`` and ``noise``, and
    the trait ``searches``), "pairs" (trajectories of two replies a prompt, the preferred one first), "heads:n", for tags and
    classes "quantiles:n" or "atoms:n:low:high", and for pairs of replies "tokens" (Output.heads).
    ``regresses`` says that the loss is the distance of a value from its target, by which a memory may draw; ``weighs``
    that it divides by propensities.
    """

    on_policy: ClassVar[bool]
    needs: ClassVar[str]
    decisions: ClassVar[tuple[str, ...]]

    @property
    def samples(self) -> int:
        """Episodes per observation (k)."""
        ...

    @property
    def epochs(self) -> int:
        """Updates on each batch; above 1 the loss must allow for the policy that acted being an older one."""
        ...

    @property
    def state(self) -> dict[str, Tensor]:
        """Moving averages; they survive a resume, and each single number is logged by its name."""
        ...

    @property
    def reads(self) -> frozenset[str]:
        """What of policy and trajectory the algorithm reads."""
        ...

    @property
    def uses_target(self) -> bool:
        """Whether a lagging copy of the policy is needed."""
        ...

    def values(self, scores: Tensor) -> Tensor:
        """Scores in the unit of the reward, for exploration (a monotone function)."""
        ...

    def prepare(self, trajectory: Trajectory) -> Trajectory:
        """Fill ``advantage``; the only place that compares rows."""
        ...

    def loss(self, output: Output, trajectory: Trajectory, target: Output | None) -> Tensor:
        """Unreduced loss [N, T]; masked entries are ignored by the learner."""
        ...
