"""Learning from a log with a model of its rewards, corrected by importance weights where the model erred."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from rlft_cli.episode import Trajectory
from rlft_cli.model import Output
from rlft_cli.returns import direct_method, doubly_robust, importance_ratio, q_loss


@dataclass(frozen=True, kw_only=True)
class DoublyRobust:
    """loss_t = -(sum_a pi(a|s_t) q(s_t, a) + w_t (r_t - q(s_t, a_t))) + c l(q(s_t, a_t), r_t), w_t = min(pi / mu, clip).

    (Dudik et al. 2011, eq. 3.) The policy gets no gradient through q, and q none through the first part; clip 0 leaves
    the correction out: the direct method (eq. 1). q is two heads beside the policy's, fitted on examples of even and of
    odd number; each predicts for the other half, so that no reward is in its own prediction (cross-fitting: Chernozhukov
    et al. 2018), but for what the body that they share has learned from it.
    """

    on_policy: ClassVar[bool] = False
    needs: ClassVar[str] = "rewards"
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes")
    regresses: ClassVar[bool] = False
    weighs: ClassVar[bool] = True
    samples: ClassVar[int] = 1
    epochs: ClassVar[int] = 1

    clip: Annotated[float, "[0, inf)"]
    loss_kind: Literal["bce", "mse", "huber"]
    reward_model_coefficient: Annotated[float, "(0, inf)"]
    state: dict[str, Tensor] = field(init=False, default_factory=dict)

    @property
    def reads(self) -> frozenset[str]:
        """Two heads of the reward model, the chance with which each action was taken, and whether rewards are chances."""
        chance = {"chance"} if self.loss_kind == "bce" else set()
        return frozenset({"heads:2"} | chance | ({"propensity"} if self.clip > 0 else set()))

    @property
    def uses_target(self) -> bool:
        """Nothing is bootstrapped."""
        return False

    def values(self, scores: Tensor) -> Tensor:
        """Scores are the logits of the policy; they stay as they are."""
        return scores

    def prepare(self, trajectory: Trajectory) -> Trajectory:
        """Nothing to compare between rows."""
        return trajectory

    def loss(self, output: Output, trajectory: Trajectory, target: Output | None) -> Tensor:
        """Negative estimated value and the reward model's loss [N, T]."""
        assert output.heads is not None  # "heads:2" is in reads
        fold = trajectory.observation["id"].to(output.heads.device) % 2  # [B], B = N
        fitted = _head(output.heads, fold)
        held_out = _head(output.heads, 1 - fold).detach()
        predicted = torch.sigmoid(held_out) if self.loss_kind == "bce" else held_out  # [N, T, A] in units of the reward
        log_policy = torch.log_softmax(output.scores, -1)
        ratio = importance_ratio(_chosen(log_policy, trajectory.action), trajectory.log_prob, self.clip)
        value = doubly_robust(
            ratio, trajectory.reward, _chosen(predicted, trajectory.action), direct_method(log_policy, predicted)
        )
        regression = q_loss(_chosen(fitted, trajectory.action), trajectory.reward, self.loss_kind)
        return self.reward_model_coefficient * regression - value


def _head(heads: Tensor, number: Tensor) -> Tensor:
    """Of heads [N, T, A, 2], each row's ``number`` [N]: [N, T, A]."""
    return heads.gather(-1, number[:, None, None, None].expand(*heads.shape[:-1], 1)).squeeze(-1)


def _chosen(each: Tensor, action: Tensor) -> Tensor:
    """Of [N, T, A] what belongs to actions [N, T]."""
    return each.gather(-1, action[..., None]).squeeze(-1)
