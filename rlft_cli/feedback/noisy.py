"""The learner is told rewards that may be wrong or missing, as those of people are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from torch import Tensor

from rlft_cli.episode import Trajectory
from rlft_cli.errors import UsageError
from rlft_cli.feedback import Signal, at_once, each_decision
from rlft_cli.metrics.alignment import at_last_decision
from rlft_cli.returns import denoised_reward

if TYPE_CHECKING:
    from rlft_cli.reward import Batch


@dataclass(frozen=True, kw_only=True)
class Noisy:
    """With probability e a reward r is shown as 1 - r; then Gaussian noise is added; some never come.

    e is ``flip_zero`` where r = 0 and ``flip_one`` where r = 1; rewards between 0 and 1 need both to be equal. With
    ``correct`` the shown reward r' is replaced by (r' - e0) / (1 - e0 - e1), whose mean is r (METHODS 2.7), so that a loss that
    is linear in the reward is the clean one on average (Natarajan et al. 2013, lemma 1): algo.loss_kind=bce too. Each
    ``unit``, a decision or an episode's sum of rewards (paid at its end), gets its own noise; a missing one is not
    observed. UsageError where flips are asked for and a reward is not in [0, 1], or for rates that hide everything.
    """

    reveals: ClassVar[str] = "rewards"
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens")
    reads_reward: ClassVar[bool] = True
    fresh: ClassVar[bool] = True
    pays: ClassVar[str] = "decision"

    flip_zero: Annotated[float, "[0, 1)"]
    flip_one: Annotated[float, "[0, 1)"]
    gaussian: Annotated[float, "[0, inf)"]
    missing: Annotated[float, "[0, 1)"]
    correct: bool
    unit: Literal["decision", "episode"]

    def __post_init__(self) -> None:
        if self.correct and self.flip_zero + self.flip_one >= 1:
            raise UsageError(
                f"feedback.flip_zero={self.flip_zero} and feedback.flip_one={self.flip_one} add up to 1 or more: nothing "
                "can be made of such rewards; lower them, or type feedback.correct=false"
            )

    def __call__(self, reward: Tensor, trajectory: Trajectory, batch: Batch, generator: torch.Generator) -> Signal:
        """Shown rewards [N, T], 0 and not observed where missing; missing ones are no reactions."""
        signal = self._signal(reward, trajectory.mask, batch, generator)
        return replace(signal, exact=not (self.correct and self._flips))

    def _signal(self, reward: Tensor, mask: Tensor, batch: Batch, generator: torch.Generator) -> Signal:
        if self.unit == "decision":
            here = torch.rand(mask.shape, generator=generator).to(mask.device) >= self.missing
            observed = mask & here
            reactions = each_decision(observed, batch)
            return at_once(self._shown(reward, observed, generator), observed, reactions)
        given = torch.where(mask, reward, torch.zeros_like(reward)).sum(1, keepdim=True)
        here = (torch.rand(len(mask), 1, generator=generator).to(mask.device) >= self.missing) & mask.any(
            1, keepdim=True
        )
        shown = self._shown(given, here, generator)
        return at_once(at_last_decision(shown[:, 0].tolist(), mask), mask & here, here.long()[:, 0])

    def _shown(self, reward: Tensor, observed: Tensor, generator: torch.Generator) -> Tensor:
        """Rewards as they are shown; chance is drawn for all of them, so that it does not depend on their values."""
        chance, noise = (draw(reward.shape, generator=generator) for draw in (torch.rand, torch.randn))
        if self._flips:
            self._require_bits(reward[observed])
            rate = torch.where(reward > 0.5, self.flip_one, self.flip_zero)
            reward = torch.where(chance.to(reward.device) < rate, 1 - reward, reward)
        reward = reward + self.gaussian * noise.to(reward.device)
        return denoised_reward(reward, self.flip_zero, self.flip_one) if self.correct else reward

    @property
    def _flips(self) -> bool:
        return self.flip_zero > 0 or self.flip_one > 0

    def _require_bits(self, reward: Tensor) -> None:
        if bool(((reward < 0) | (reward > 1)).any()):
            raise UsageError(
                f"feedback=noisy flips rewards in [0, 1], but there is one of {float(reward.min()):g} to "
                f"{float(reward.max()):g}; choose another reward, or type feedback.flip_zero=0 and feedback.gaussian=..."
            )
        if self.flip_zero != self.flip_one and bool(((reward != 0) & (reward != 1)).any()):
            raise UsageError(
                "feedback=noisy with feedback.flip_zero and feedback.flip_one unequal needs rewards of 0 and 1 only; make "
                "them equal, or choose such a reward (reward.outside_weight=1)"
            )
