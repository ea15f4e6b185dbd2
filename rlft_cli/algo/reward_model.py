"""A reward model from comparisons: the preferred reply is to have the higher reward."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from rlft_cli.episode import Trajectory, legal_actions
from rlft_cli.model import Output
from rlft_cli.returns import bradley_terry_loss


@dataclass(frozen=True, kw_only=True)
class RewardModel:
    """loss = -log sigma(r(x, y_w) - r(x, y_l) - margin) (Bradley and Terry 1952; Ouyang et al. 2022, eq. 1).

    With loss "tokens" it is averaged over the rewards after each token from where the replies part on (as DeepSpeed-Chat
    does, Yao et al. 2023), so that a reward is learned for beginnings too. A single reply that was judged is compared with
    nothing, whose reward is 0: logistic regression.
    """

    on_policy: ClassVar[bool] = True
    needs: ClassVar[str] = "labels"
    decisions: ClassVar[tuple[str, ...]] = ("pairs",)
    samples: ClassVar[int] = 1
    epochs: ClassVar[int] = 1

    loss_over: Literal["last", "tokens"]
    margin: Annotated[float, "[0, inf)"]
    state: dict[str, Tensor] = field(init=False, default_factory=dict)

    @property
    def reads(self) -> frozenset[str]:
        """Rewards after each token where the loss is over them."""
        return frozenset({"tokens"}) if self.loss_over == "tokens" else frozenset()

    @property
    def uses_target(self) -> bool:
        """Nothing is bootstrapped."""
        return False

    def values(self, scores: Tensor) -> Tensor:
        """Rewards as they are."""
        return scores

    def prepare(self, trajectory: Trajectory) -> Trajectory:
        """Nothing to compare between rows."""
        return trajectory

    def loss(self, output: Output, trajectory: Trajectory, target: Output | None) -> Tensor:
        """Loss [N, 1] of each comparison."""
        better = trajectory.action  # [N, 1]
        if self.loss_over == "last":
            rewards = output.scores  # [N, 1, 2]
            chosen, rejected = (rewards.gather(-1, a[..., None]).squeeze(-1) for a in (better, 1 - better))
            return bradley_terry_loss(chosen, rejected, self.margin)
        assert output.heads is not None  # "tokens" is in reads
        places = better[..., None, None].expand(*output.heads.shape[:2], 1, output.heads.shape[-1])
        chosen, rejected = (output.heads.gather(2, a).squeeze(2) for a in (places, 1 - places))  # [N, 1, R]
        counted = legal_actions(chosen)
        each = bradley_terry_loss(torch.where(counted, chosen, 0.0), torch.where(counted, rejected, 0.0), self.margin)
        return torch.where(counted, each, 0.0).sum(-1) / counted.sum(-1).clamp(min=1)
