"""Act by a last layer with learned noise on its weights, drawn once an episode (NoisyNet)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from rlft_cli.episode import ILLEGAL_SCORE, Decision, Trajectory


@dataclass(frozen=True, kw_only=True)
class Noisy:
    """a = argmax of the scores under factorised Gaussian noise: w = mu + sigma * f(e_out) f(e_in)', f(x) = sign(x) sqrt|x|.

    (Fortunato et al. 2018, eqs. 9 to 11.) sigma is learned: the loss is taken under noise drawn anew for each episode of the
    batch, the target under none, which is its mean over the noise. The chance of an action has no closed form.
    """

    on_policy: ClassVar[bool] = False
    propensities: ClassVar[bool] = False
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "acts")
    reads: ClassVar[tuple[str, ...]] = ("noise",)

    sigma_start: Annotated[float, "[0, inf)"]
    state: dict[str, Tensor] = field(init=False, default_factory=dict)

    def __call__(self, decision: Decision, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Action [n] and log-probability 0 [n]: that of the action given what was drawn."""
        action = decision.scores.masked_fill(~decision.legal, ILLEGAL_SCORE).argmax(-1)
        return action, torch.zeros(action.shape, device=action.device)

    def warp(self, scores: Tensor) -> Tensor:
        """Scores are ranked only."""
        return scores

    def perturb(self, episodes: int, width: int, actions: int, generator: torch.Generator) -> dict[str, Tensor]:
        """ "weight_noise" [N, H + A]: f(e_in), and f(e_out) times ``sigma_start``, the noise that the layer starts with."""
        normal = torch.randn(episodes, width + actions, device=generator.device, generator=generator)
        noise = normal.sign() * normal.abs().sqrt()
        noise[:, width:] *= self.sigma_start
        return {"weight_noise": noise}

    def observe(self, trajectory: Trajectory, features: Callable[[Trajectory], Tensor]) -> None:
        """Learns nothing."""
