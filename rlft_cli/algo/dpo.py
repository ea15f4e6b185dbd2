"""Direct preference optimisation: a policy from comparisons of replies, without a reward model and without acting."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from rlft_cli.episode import Trajectory
from rlft_cli.model import Output
from rlft_cli.returns import action_log_prob, dpo_loss


@dataclass(frozen=True, kw_only=True)
class Dpo:
    """loss = -log sigma(beta ((log pi(y_w) - log pi_ref(y_w)) - (log pi(y_l) - log pi_ref(y_l)))) (Rafailov et al. 2023, eq. 7).

    log pi(y) is the sum over the tokens of a reply. Its optimum is that of RL with the price beta of a nat of
    KL(pi || pi_ref) under the reward that the comparisons follow. The reference policy is the one that the run starts with.
    The loss of a pair stands at the first token of its preferred reply, so that a batch is averaged over pairs.
    """

    on_policy: ClassVar[bool] = True
    needs: ClassVar[str] = "labels"
    decisions: ClassVar[tuple[str, ...]] = ("tokens",)
    samples: ClassVar[int] = 1
    epochs: ClassVar[int] = 1

    beta: Annotated[float, "(0, inf)"]
    state: dict[str, Tensor] = field(init=False, default_factory=dict)

    @property
    def reads(self) -> frozenset[str]:
        """Pairs of replies, and how likely they were under the reference policy."""
        return frozenset({"pairs", "reference"})

    @property
    def uses_target(self) -> bool:
        """Nothing is bootstrapped."""
        return False

    def values(self, scores: Tensor) -> Tensor:
        """Scores are the logits of the policy; they stay as they are."""
        return scores

    def prepare(self, trajectory: Trajectory) -> Trajectory:
        """One decision of each pair is observed: where its loss stands."""
        place = torch.zeros_like(trajectory.observed)
        place[::2, 0] = True
        return replace(trajectory, observed=trajectory.observed & place)

    def loss(self, output: Output, trajectory: Trajectory, target: Output | None) -> Tensor:
        """Loss [N, T] of each pair at the first token of its preferred reply, 0 elsewhere."""
        mask = trajectory.mask
        log_prob = torch.where(mask, action_log_prob(output.scores, trajectory.action), 0.0).sum(1)
        reference = torch.where(mask, trajectory.reference_log_prob, 0.0).sum(1)
        each = dpo_loss(log_prob[::2], log_prob[1::2], reference[::2], reference[1::2], self.beta)
        loss = torch.zeros(mask.shape, dtype=each.dtype, device=each.device)
        loss[::2, 0] = each
        return loss
