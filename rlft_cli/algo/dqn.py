"""Q-learning on replayed episodes: how much reward follows an action, learned from the rewards of chosen actions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from rlft_cli.episode import Trajectory
from rlft_cli.errors import UsageError
from rlft_cli.model import Output
from rlft_cli.returns import (
    action_log_prob,
    cql_penalty,
    double_backup,
    logit_of_softmax,
    max_backup,
    munchausen_reward,
    n_step_targets,
    q_loss,
    shift_left,
    soft_backup,
)

PROBABILITIES = ("bce", "softmax")  # losses that read Q as the chance of a reward of 1


@dataclass(frozen=True, kw_only=True)
class Dqn:
    """Q(s_t, a_t) regressed on y_t = r_t + gamma V(s_{t+1}) (Mnih et al. 2015).

    backup "max": V = max_a Q-(s, a). "double": V = Q-(s, argmax_a Q(s, a)) (van Hasselt et al. 2016).
    "soft": KL control around a reference policy (Jaques et al. 2017): V(s) = beta log sum_a pi_ref(a|s) exp(Q(s,a)/beta).
    The soft Q is held in its dueling form Q(s,a) = V(s) + beta log(pi(a|s) / pi_ref(a|s)), which meets that equation
    whatever V and pi are; it starts at the reference, acts by pi, and its n-step targets
    y_t = r_t + sum_{0<i<n} (r_{t+i} - beta log(pi-/pi_ref)(a_{t+i})) + V-(s_{t+n}) are consistent on every path
    (Nachum et al. 2017, eq. 15), so that n may be the whole reply.
    "munchausen" (Vieillard et al. 2020, eq. 3): r_t + alpha clip(tau log pi-(a_t|s_t), floor, 0) in place of r_t, and
    V = tau log sum_a exp(Q-(s, a) / tau), pi- = softmax(Q- / tau).
    loss_kind "bce": Q = sigmoid(score), of each action by itself. "softmax": Q = softmax(scores), the chance that an action is
    the one that is paid: a reward of 1 for one action tells of all the others, and the scores are those that cross-entropy
    trains in a warm start. Both are fitted by the likelihood of the reward, which is linear in it: with an unbiased estimate
    of a 0/1 reward in its place, which may lie outside [0, 1], loss and gradient are unbiased too (Natarajan et al. 2013,
    lemma 1; ``feedback=noisy feedback.correct=true``). That true rewards are chances is asked where they are given ("chance").
    ``cql_coefficient`` times log sum_a exp Q(s, a) - Q(s, a_t) is added to the loss of any of them, which holds the values of
    actions down that the data do not take (Kumar et al. 2020, eq. 4).
    """

    on_policy: ClassVar[bool] = False
    needs: ClassVar[str] = "rewards"
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens", "acts")
    regresses: ClassVar[bool] = True
    samples: ClassVar[int] = 1
    epochs: ClassVar[int] = 1

    gamma: Annotated[float, "[0, 1]"]
    loss_kind: Literal["bce", "softmax", "mse", "huber"]
    backup: Literal["max", "double", "soft", "munchausen"]
    dueling: bool
    n_step: Annotated[int, "[1, inf)"]
    kl_coefficient: Annotated[float, "[0, inf)"]
    munchausen_alpha: Annotated[float, "[0, 1)"]
    munchausen_temperature: Annotated[float, "(0, inf)"]
    munchausen_floor: Annotated[float, "(-inf, 0]"]
    cql_coefficient: Annotated[float, "[0, inf)"]
    target: Literal["none", "polyak", "hard"]
    target_weights: Literal["all", "head"]
    target_tau: Annotated[float, "(0, 1]"]
    target_update_interval: Annotated[int, "[1, inf)"]
    state: dict[str, Tensor] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """UsageError for combinations that have no meaning."""
        if self.loss_kind in PROBABILITIES and self.gamma > 0:
            raise UsageError(
                f"algo.loss_kind={self.loss_kind} reads Q as the chance of a reward of 1 and needs algo.gamma=0, but gamma is "
                f"{self.gamma}; type algo.gamma=0 or algo.loss_kind=huber"
            )
        if self.backup == "soft" and (self.dueling or self.loss_kind in PROBABILITIES or self.kl_coefficient == 0):
            raise UsageError(
                "algo.backup=soft needs algo.dueling=false (it is dueling by itself), algo.loss_kind=mse or huber, "
                "and algo.kl_coefficient above 0"
            )
        if self.backup == "munchausen" and self.loss_kind in PROBABILITIES:
            raise UsageError(
                f"algo.backup=munchausen adds to the reward what is no 0 or 1, which algo.loss_kind={self.loss_kind} cannot "
                "read; type algo.loss_kind=huber"
            )

    @property
    def reads(self) -> frozenset[str]:
        """Heads and reference that the backup needs, and whether rewards are read as chances."""
        if self.backup == "soft":
            return frozenset({"value", "reference"})
        chance = {"chance"} if self.loss_kind in PROBABILITIES else set()
        return frozenset(chance | ({"dueling"} if self.dueling else set()))

    @property
    def uses_target(self) -> bool:
        """A lagging copy matters only where something is read from it."""
        return (self.gamma > 0 or self.backup == "munchausen") and self.target != "none"

    def values(self, scores: Tensor) -> Tensor:
        """Expected reward of each action: the logistic of a bce logit, the softmax of softmax logits, else Q itself."""
        if self.loss_kind == "softmax":
            return torch.softmax(scores, -1)
        return torch.sigmoid(scores) if self.loss_kind == "bce" else scores

    def prepare(self, trajectory: Trajectory) -> Trajectory:
        """Nothing to compare between rows."""
        return trajectory

    def loss(self, output: Output, trajectory: Trajectory, target: Output | None) -> Tensor:
        """Distance [N, T] of Q(s_t, a_t) from its target; no gradient flows into the target."""
        lagging = target or Output(
            scores=output.scores.detach(), value=None if output.value is None else output.value.detach()
        )
        loss = (self._soft_loss if self.backup == "soft" else self._hard_loss)(output, trajectory, lagging)
        if self.cql_coefficient > 0:
            loss = loss + self.cql_coefficient * cql_penalty(output.scores, trajectory.action)
        return loss

    def _hard_loss(self, output: Output, trajectory: Trajectory, lagging: Output) -> Tensor:
        q = output.scores.gather(-1, trajectory.action[..., None]).squeeze(-1)
        y = trajectory.reward
        if self.backup == "munchausen":
            y = munchausen_reward(
                trajectory.reward,
                trajectory.action,
                lagging.scores,
                alpha=self.munchausen_alpha,
                temperature=self.munchausen_temperature,
                floor=self.munchausen_floor,
            )
        if self.gamma > 0:
            value = shift_left(self._value(output.scores.detach(), lagging.scores))
            y = n_step_targets(y, value, trajectory.discount, self.gamma, self.n_step)
        if self.loss_kind == "softmax":
            return q_loss(logit_of_softmax(output.scores, trajectory.action), y, "bce")
        return q_loss(q, y, self.loss_kind)

    def _value(self, online: Tensor, lagging: Tensor) -> Tensor:
        """V(s) [N, T] of every state from scores [N, T, A]."""
        if self.backup == "double":
            return double_backup(online, lagging)
        return soft_backup(lagging, self.munchausen_temperature) if self.backup == "munchausen" else max_backup(lagging)

    def _soft_loss(self, output: Output, trajectory: Trajectory, lagging: Output) -> Tensor:
        assert output.value is not None and lagging.value is not None  # "value" is in reads
        beta, reference = self.kl_coefficient, trajectory.reference_log_prob
        ratio = action_log_prob(lagging.scores, trajectory.action) - reference  # log pi-/pi_ref of a_t
        penalised = trajectory.reward - beta * ratio
        y = n_step_targets(penalised, shift_left(lagging.value), trajectory.discount, self.gamma, self.n_step)
        y = y + beta * ratio  # the first action's own term stays on the left side
        q = output.value + beta * (action_log_prob(output.scores, trajectory.action) - reference)
        return q_loss(q, y.detach(), "huber" if self.loss_kind == "huber" else "mse")
