"""REINFORCE: raise the log-probability of sampled actions by how much better than a baseline they did."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from rlft_cli.episode import Trajectory
from rlft_cli.errors import UsageError
from rlft_cli.model import Output
from rlft_cli.returns import action_log_prob, entropy, kl_k1, leave_one_out, returns_to_go


@dataclass(frozen=True, kw_only=True)
class Reinforce:
    """loss_t = -A_t log pi(a_t | s_t) - c_H H(pi(. | s_t)), A_t = G_t - b (Williams 1992).

    The KL to the reference policy is paid in the reward, r_t - beta (log pi(a_t|s_t) - log pi_ref(a_t|s_t)), where its
    expected gradient is that of KL(pi || pi_ref); as a loss that estimator has gradient zero (METHODS 3).
    """

    on_policy: ClassVar[bool] = True
    needs: ClassVar[str] = "rewards"
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens")

    samples: Annotated[int, "[1, inf)"]
    baseline: Literal["none", "moving_average", "leave_one_out", "self_critical"]
    moving_average_decay: Annotated[float, "[0, 1)"]
    credit: Literal["return_to_go", "episode"]
    gamma: Annotated[float, "[0, 1]"]
    entropy_coefficient: Annotated[float, "[0, inf)"]
    kl_coefficient: Annotated[float, "[0, inf)"]
    state: dict[str, Tensor] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """UsageError where the baseline needs more samples than there are."""
        if self.baseline == "leave_one_out" and self.samples < 2:
            raise UsageError(
                f"algo.baseline=leave_one_out compares the samples of one example and needs algo.samples of 2 or more, "
                f"but it is {self.samples}; type algo.samples=4 or algo.baseline=moving_average"
            )

    @property
    def reads(self) -> frozenset[str]:
        """The reference policy where a KL is paid, the greedy episode where it is the baseline."""
        reads = {"reference"} if self.kl_coefficient > 0 else set()
        return frozenset(reads | ({"greedy"} if self.baseline == "self_critical" else set()))

    @property
    def uses_target(self) -> bool:
        """Nothing is bootstrapped."""
        return False

    def values(self, scores: Tensor) -> Tensor:
        """Scores are the logits of the policy; they stay as they are."""
        return scores

    def prepare(self, trajectory: Trajectory) -> Trajectory:
        """Advantages [N, T] of returns over the baseline."""
        mask = trajectory.mask
        penalty = self.kl_coefficient * kl_k1(trajectory.log_prob, trajectory.reference_log_prob)
        returns = self._credit(trajectory.reward - penalty, mask)
        if self.baseline == "leave_one_out":
            advantage = leave_one_out(returns, trajectory.samples)
        elif self.baseline == "self_critical":  # Rennie et al. 2017, eq. 8
            advantage = returns - self._credit(trajectory.greedy_reward, mask)
        elif self.baseline == "moving_average":
            advantage = returns - self._moving_average(returns, mask)
        else:
            advantage = returns
        return replace(trajectory, advantage=torch.where(mask, advantage, torch.zeros_like(advantage)))

    def _credit(self, reward: Tensor, mask: Tensor) -> Tensor:
        """Return credited to each decision [N, T]: what followed it, or the whole episode's."""
        if self.credit == "return_to_go":
            return returns_to_go(reward, mask, self.gamma)
        total = torch.where(mask, reward, torch.zeros_like(reward)).sum(1, keepdim=True)
        return total.expand_as(reward)

    def _moving_average(self, returns: Tensor, mask: Tensor) -> Tensor:
        """The average of earlier batches; this batch enters after use, so that the baseline stays independent of it."""
        before = self.state.get("baseline", torch.zeros_like(returns[0, 0]))
        if not bool(mask.any()):
            return before
        batch_mean = returns[mask].mean()
        decay = self.moving_average_decay if "baseline" in self.state else 0.0
        self.state["baseline"] = decay * before + (1 - decay) * batch_mean
        return before

    def loss(self, output: Output, trajectory: Trajectory, target: Output | None) -> Tensor:
        """Score-function surrogate [N, T] with the entropy bonus."""
        log_prob = action_log_prob(output.scores, trajectory.action)
        loss = -trajectory.advantage * log_prob
        if self.entropy_coefficient > 0:
            loss = loss - self.entropy_coefficient * entropy(output.scores)
        return loss
