"""REINFORCE: raise the log-probability of sampled actions by how much better than a baseline they did."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from rlft_cli.episode import Trajectory
from rlft_cli.errors import UsageError
from rlft_cli.model import Output
from rlft_cli.returns import (
    action_log_prob,
    credited_return,
    entropy,
    kl_k2,
    kl_of_episodes,
    kl_penalised,
    leave_one_out,
    spread_in_groups,
    steered_coefficient,
    value_loss,
)

_TINY = 1e-6  # a mean square return below this is none that can be told from 0


@dataclass(frozen=True, kw_only=True)
class Reinforce:
    """loss_t = -A_t log pi(a_t | s_t) - c_H H(pi(. | s_t)) + c_V (V(s_t) - G_t)^2 / 2, A_t = G_t - b (Williams 1992).

    The value term is there with baseline "value" only, b = V(s_t) as it was while acting.

    The KL to the reference policy is paid in the reward, r_t - beta u_t with u_t = log pi(a_t|s_t) - log pi_ref(a_t|s_t),
    where its expected gradient is that of KL(pi || pi_ref); or it is the loss beta u_t^2 / 2, whose expected gradient is
    that of the KL of each decision by itself, its effect on later ones left out. As a loss, u_t has gradient zero
    (METHODS 3; Schulman 2020). With ``kl_target`` beta is no constant but is steered to a KL of so many nats an episode
    (Ziegler et al. 2019, sec. 2.2), by the KL of each batch for the next one.
    """

    on_policy: ClassVar[bool] = True
    needs: ClassVar[str] = "rewards"
    epochs: ClassVar[int] = 1
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens", "acts")

    samples: Annotated[int, "[1, inf)"]
    baseline: Literal["none", "moving_average", "value", "leave_one_out", "self_critical"]
    moving_average_decay: Annotated[float, "[0, 1)"]
    credit: Literal["return_to_go", "episode"]
    gamma: Annotated[float, "[0, 1]"]
    entropy_coefficient: Annotated[float, "[0, inf)"]
    value_coefficient: Annotated[float, "(0, inf)"]
    kl_coefficient: Annotated[float, "[0, inf)"]
    kl_target: Annotated[float, "(0, inf)"] | None
    kl_rate: Annotated[float, "(0, 5)"]
    kl_in: Literal["reward", "loss"]
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
        """The reference policy where a KL is paid, and what the baseline is made of."""
        reads = {"reference"} if self.kl_coefficient > 0 else set()
        return frozenset(reads | {"self_critical": {"greedy"}, "value": {"value"}}.get(self.baseline, set()))

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
        reward = trajectory.reward
        if self.kl_in == "reward":
            price = self._kl_price(trajectory)
            reward = kl_penalised(reward, trajectory.log_prob, trajectory.reference_log_prob, price)
        returns = credited_return(reward, mask, self.gamma, self.credit)
        if self.baseline == "leave_one_out":
            advantage = leave_one_out(returns, trajectory.samples)
            self._break_even(returns, trajectory.samples, mask & trajectory.observed)
        elif self.baseline == "self_critical":  # Rennie et al. 2017, eq. 8
            advantage = returns - credited_return(trajectory.greedy_reward, mask, self.gamma, self.credit)
        elif self.baseline == "moving_average":
            advantage = returns - self._moving_average(returns, mask)
        elif self.baseline == "value":
            advantage = returns - trajectory.value
        else:
            advantage = returns
        return replace(trajectory, advantage=torch.where(mask, advantage, torch.zeros_like(advantage)))

    def _moving_average(self, returns: Tensor, mask: Tensor) -> Tensor:
        """The average of earlier batches; this batch enters after use, so that the baseline stays independent of it."""
        before = self.state.get("baseline", torch.zeros_like(returns[0, 0]))
        if not bool(mask.any()):
            return before
        batch_mean = returns[mask].mean()
        decay = self.moving_average_decay if "baseline" in self.state else 0.0
        self.state["baseline"] = decay * before + (1 - decay) * batch_mean
        return before

    def _break_even(self, returns: Tensor, samples: int, mask: Tensor) -> None:
        """Keep moving averages of what says how many samples leave-one-out needs to be better than no baseline."""
        if not bool(mask.any()):
            return
        parts = zip(("return_variance", "return_square"), spread_in_groups(returns, samples, mask), strict=True)
        for name, now in parts:
            decay = self.moving_average_decay if name in self.state else 0.0
            self.state[name] = decay * self.state.get(name, torch.zeros_like(now)) + (1 - decay) * now
        self.state["break_even"] = 1 + self.state["return_variance"] / self.state["return_square"].clamp(min=_TINY)

    def _kl_price(self, trajectory: Trajectory) -> Tensor | float:
        """What a nat costs in this batch; with a target, the KL of this batch moves the price of the next one."""
        if self.kl_target is None:
            return self.kl_coefficient
        price = self.state.get("kl_coefficient", torch.tensor(self.kl_coefficient, dtype=torch.float64))
        nats = kl_of_episodes(trajectory.log_prob, trajectory.reference_log_prob, trajectory.mask)
        self.state["kl_coefficient"] = steered_coefficient(price, nats, self.kl_target, self.kl_rate)
        return price

    def loss(self, output: Output, trajectory: Trajectory, target: Output | None) -> Tensor:
        """Score-function surrogate [N, T] with the entropy bonus, the KL and the value's distance."""
        log_prob = action_log_prob(output.scores, trajectory.action)
        loss = -trajectory.advantage * log_prob
        if self.entropy_coefficient > 0:
            loss = loss - self.entropy_coefficient * entropy(output.scores)
        if self.kl_in == "loss" and self.kl_coefficient > 0:
            loss = loss + self.kl_coefficient * kl_k2(log_prob, trajectory.reference_log_prob)
        if self.baseline == "value":
            assert output.value is not None  # "value" is in reads
            distance = value_loss(output.value, trajectory.value, trajectory.advantage, None)
            loss = loss + self.value_coefficient * distance
        return loss
