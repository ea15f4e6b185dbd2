"""The one record that every task produces and every algorithm learns from, and how it is produced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from rlft_cli.explore import Explore
    from rlft_cli.model import Policy
    from rlft_cli.task import Task

ILLEGAL_SCORE = -1e9  # finite, so that 0 * score is 0 in entropies and terminal targets
_LEGAL_ABOVE = -1e8

Observation = Mapping[str, Tensor]


def legal_actions(scores: Tensor) -> Tensor:
    """Say which actions may be taken: [..., A] scores -> bool [..., A]."""
    return scores > _LEGAL_ABOVE


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """N episodes of up to T decisions; N = B observations x k samples, the samples of one observation side by side.

    ``observation["id"]`` [B] names the examples, so that any part can be collated again; the samples of
    observation b are rows ``b * k`` to ``b * k + k - 1`` of every other field.
    """

    observation: dict[str, Tensor]  # "id" [B] and the model's inputs
    action: Tensor  # [N, T] int64
    log_prob: Tensor  # [N, T] log mu(a_t | s_t) of the behaviour policy: the propensity
    reward: Tensor  # [N, T] the consequence of action[:, t]
    discount: Tensor  # [N, T] 1 while the episode goes on, 0 at its last decision
    mask: Tensor  # [N, T] bool: decision t exists
    advantage: Tensor  # [N, T] filled by Algorithm.prepare
    truncated: Tensor  # [N] bool: stopped by the horizon and not by the task
    greedy_reward: Tensor  # [N, T] reward of the greedy episode; zero unless the algorithm reads it
    reference_log_prob: Tensor  # [N, T] log pi_ref(a_t | s_t); zero unless the algorithm reads it

    @property
    def samples(self) -> int:
        """How many episodes each observation has (k)."""
        return self.action.shape[0] // self.observation["id"].shape[0]

    def to(self, device: torch.device | str) -> Trajectory:
        """Move every tensor to a device."""
        moved: dict[str, Any] = {f.name: getattr(self, f.name).to(device) for f in fields(self) if f.name != "observation"}
        return replace(self, observation={k: v.to(device) for k, v in self.observation.items()}, **moved)

    def select(self, rows: Tensor) -> Trajectory:
        """Keep the observations ``rows`` [b] with all their samples, and of the observation only its "id"."""
        k = self.samples
        episodes = (rows[:, None] * k + torch.arange(k, device=rows.device)[None, :]).reshape(-1)
        width = max(1, int(self.mask[episodes].sum(1).max())) if len(episodes) else 1
        cut: dict[str, Any] = {}
        for f in fields(self):
            if f.name == "observation":
                continue
            value = getattr(self, f.name)[episodes]
            cut[f.name] = value[:, :width] if value.dim() == 2 else value
        return replace(self, observation={"id": self.observation["id"][rows]}, **cut)
