"""Implicit Q-learning on logs: values are learned without ever asking what an action that was not logged would earn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from rlft_cli.episode import ILLEGAL_SCORE, Trajectory, legal_actions
from rlft_cli.model import Output
from rlft_cli.returns import ilql_losses


@dataclass(frozen=True, kw_only=True)
class Ilql:
    """c_V E_tau(min Q- - V) + c_Q sum_i (r + gamma V' - Q_i)^2 + c_CQL sum_i CQL(Q_i) + c_pi exp(b (min Q- - V)) (-log pi).

    (Snell et al. 2023, eq. 2-4, with two Q heads; the policy part after AWAC, Nair et al. 2020, eq. 13, and Kostrikov et al.
    2022, eq. 7.) It acts by pi, which is fitted to the logged actions weighted by how much better than V they were: no
    value is asked of an action that the log lacks. Q heads, V and pi share the body.
    """

    on_policy: ClassVar[bool] = False
    needs: ClassVar[str] = "rewards"
    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens")
    regresses: ClassVar[bool] = False
    samples: ClassVar[int] = 1
    epochs: ClassVar[int] = 1

    gamma: Annotated[float, "[0, 1]"]
    expectile: Annotated[float, "(0, 1)"]
    advantage_weight: Annotated[float, "[0, inf)"]
    value_coefficient: Annotated[float, "(0, inf)"]
    q_coefficient: Annotated[float, "(0, inf)"]
    cql_coefficient: Annotated[float, "[0, inf)"]
    policy_coefficient: Annotated[float, "(0, inf)"]
    target: Literal["none", "polyak", "hard"]
    target_weights: Literal["all", "head"]
    target_tau: Annotated[float, "(0, 1]"]
    target_update_interval: Annotated[int, "[1, inf)"]
    state: dict[str, Tensor] = field(init=False, default_factory=dict)

    @property
    def reads(self) -> frozenset[str]:
        """Two Q heads and V beside the policy."""
        return frozenset({"heads:2", "value"})

    @property
    def uses_target(self) -> bool:
        """V and the policy follow the lagging Q, whatever gamma is."""
        return self.target != "none"

    def values(self, scores: Tensor) -> Tensor:
        """Scores are the logits of the policy; they stay as they are."""
        return scores

    def prepare(self, trajectory: Trajectory) -> Trajectory:
        """Nothing to compare."""
        return trajectory

    def loss(self, output: Output, trajectory: Trajectory, target: Output | None) -> Tensor:
        """The weighted sum [N, T] of the four parts."""
        lagging = target or output
        assert output.heads is not None and lagging.heads is not None and output.value is not None  # all are in reads
        legal = legal_actions(output.scores)[..., None]
        heads, lagging_heads = (torch.where(legal, x, ILLEGAL_SCORE) for x in (output.heads, lagging.heads))
        parts = ilql_losses(
            heads=heads.unbind(-1),
            lagging_heads=lagging_heads.unbind(-1),
            value=output.value,
            policy_scores=output.scores,
            action=trajectory.action,
            reward=trajectory.reward,
            discount=trajectory.discount,
            gamma=self.gamma,
            expectile=self.expectile,
            advantage_weight=self.advantage_weight,
        )
        return (
            self.value_coefficient * parts.value
            + self.q_coefficient * parts.q
            + self.cql_coefficient * parts.conservative
            + self.policy_coefficient * parts.policy
        )
