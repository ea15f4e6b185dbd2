"""What exploration is: a decision turned into an action and the log-probability with which it was taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from rlft_cli.episode import Decision, Trajectory


class Explore(Protocol):
    """A behaviour policy over scores.

    ``on_policy`` says that it samples from the policy that is learned. ``propensities`` says that a log made with it can
    be used for inverse propensity scoring: log_prob is the chance of the action given the state alone. It is False for
    deterministic choices and where that chance has no closed form; log_prob is then the one given what else was drawn,
    mostly 0. ``reads`` names parts of the policy that must be built for it: "noise". ``explores`` is False where it never
    leaves what the policy would do.
    """

    on_policy: ClassVar[bool]
    propensities: ClassVar[bool]
    decisions: ClassVar[tuple[str, ...]]
    reads: ClassVar[tuple[str, ...]]

    @property
    def state(self) -> dict[str, Tensor]:
        """Counts, posteriors: what must survive a resume; empty for most."""
        ...

    def __call__(self, decision: Decision, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Choose action [n] int64 and give its exact log_prob [n]."""
        ...

    def warp(self, scores: Tensor) -> Tensor:
        """Scores [..., A] of the distribution that is sampled from (temperature and the like); law 8."""
        ...

    def perturb(self, episodes: int, width: int, actions: int, generator: torch.Generator) -> dict[str, Tensor]:
        """What the policy reads beside the input, one draw an episode [N, ...]; empty for most (Policy says what may be).

        Drawn before episodes begin, and anew for every batch that is learned from. ``width`` is H, ``actions`` A.
        """
        ...

    def observe(self, trajectory: Trajectory, features: Callable[[Trajectory], Tensor]) -> None:
        """Learn from rewards as they arrive; nothing for most. ``features`` gives [N, T, H] of any trajectory, now."""
        ...
