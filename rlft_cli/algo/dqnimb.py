"""DQNimb: Q-learning on a stream of texts whose classes are out of balance."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from rlft_cli.episode import Trajectory
from rlft_cli.model import Output
from rlft_cli.returns import q_loss

ENDS = -1.0  # the reward of a wrong decision on a minority example, which ends an episode of the stream


@dataclass(frozen=True, kw_only=True)
class Dqnimb:
    """Q(x, a) regressed on y = r + gamma 1[r > -1] V, of rewards +-1 for the minority and +-rho for the majority.

    (Lin, Chen and Qi 2019, alg. 2; reward=imbalanced pays so.) The texts form a stream, and an episode of it ends where a
    minority text is misclassified. The next text is independent of the action, so the value of what follows is one
    number V for all: that of the stream under the policy that acts, V = E[r] + gamma P(r > -1) V, from moving averages of
    rewards. With gamma 0 greedy decisions weigh the classes as rho says; gamma adds a little weight to the minority.
    """

    on_policy: ClassVar[bool] = False
    needs: ClassVar[str] = "rewards"
    decisions: ClassVar[tuple[str, ...]] = ("classes",)
    regresses: ClassVar[bool] = True
    samples: ClassVar[int] = 1
    epochs: ClassVar[int] = 1

    gamma: Annotated[float, "[0, 1)"]
    loss_kind: Literal["mse", "huber"]
    average_decay: Annotated[float, "[0, 1)"]
    state: dict[str, Tensor] = field(init=False, default_factory=dict)

    @property
    def reads(self) -> frozenset[str]:
        """Scores only."""
        return frozenset()

    @property
    def uses_target(self) -> bool:
        """V lags by itself, as an average."""
        return False

    def values(self, scores: Tensor) -> Tensor:
        """Q in the unit of the reward."""
        return scores

    def prepare(self, trajectory: Trajectory) -> Trajectory:
        """``advantage`` [N, T] is what is worth adding to the reward: gamma V where the stream goes on."""
        told = trajectory.mask & trajectory.observed
        goes_on = trajectory.reward > ENDS
        if bool(told.any()):
            now = torch.stack([trajectory.reward[told].mean(), goes_on[told].float().mean()])
            before = self.state.get("averages", now)
            self.state["averages"] = self.average_decay * before + (1 - self.average_decay) * now
        reward, chance = self.state.get("averages", torch.zeros(2, device=trajectory.reward.device))
        value = reward / (1 - self.gamma * chance)
        later = torch.where(told & goes_on, self.gamma * value, torch.zeros_like(trajectory.reward))
        return replace(trajectory, advantage=later)

    def loss(self, output: Output, trajectory: Trajectory, target: Output | None) -> Tensor:
        """Distance [N, T] of Q(x, a) from its target."""
        q = output.scores.gather(-1, trajectory.action[..., None]).squeeze(-1)
        return q_loss(q, trajectory.reward + trajectory.advantage, self.loss_kind)
