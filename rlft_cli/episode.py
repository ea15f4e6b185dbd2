"""The one record that every task produces and every algorithm learns from, and how it is produced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from rlft_cli.explore import Explore
    from rlft_cli.model import Policy
    from rlft_cli.task import Task

ILLEGAL_SCORE = -1e9  # finite, so that 0 * score is 0 in entropies and terminal targets
_LEGAL_ABOVE = -1e8


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
        moved: dict[str, Any] = {
            f.name: getattr(self, f.name).to(device) for f in fields(self) if f.name != "observation"
        }
        return replace(self, observation={k: v.to(device) for k, v in self.observation.items()}, **moved)

    def without_masked(self) -> Trajectory:
        """Zero what decisions that do not exist hold, so that a NaN there can do no harm (law 7)."""
        clean: dict[str, Any] = {
            f.name: torch.where(self.mask, value, torch.zeros_like(value))
            for f in fields(self)
            if f.name not in ("observation", "mask", "truncated") and (value := getattr(self, f.name)) is not None
        }
        return replace(self, **clean)

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


def blank(observation: dict[str, Tensor], action: Tensor, mask: Tensor) -> Trajectory:
    """A trajectory of known actions with everything else at zero; discount is 0 at the last decision."""
    zero = torch.zeros(action.shape, dtype=torch.float32, device=action.device)
    later = torch.cat([mask[:, 1:], torch.zeros_like(mask[:, :1])], dim=1)
    return Trajectory(
        observation=observation,
        action=action,
        mask=mask,
        log_prob=zero,
        reward=zero,
        discount=later.float(),
        advantage=zero,
        greedy_reward=zero,
        reference_log_prob=zero,
        truncated=torch.zeros(action.shape[0], dtype=torch.bool, device=action.device),
    )


def from_rows(example: Sequence[int], decisions: Sequence[Any], truncated: Sequence[bool]) -> Trajectory:
    """Pad stored episodes (structured arrays with action, reward, ... fields) into one trajectory, one per observation."""
    width = max(1, *(len(row) for row in decisions))
    mask = torch.tensor([[t < len(row) for t in range(width)] for row in decisions])
    padded = {
        name: np.zeros((len(decisions), width), row_type[0]) for name, row_type in decisions[0].dtype.fields.items()
    }
    for n, row in enumerate(decisions):
        for name, column in padded.items():
            column[n, : len(row)] = row[name]
    tensors = {name: torch.from_numpy(column) for name, column in padded.items()}
    action = tensors.pop("action").long()
    start = blank({"id": torch.tensor(list(example))}, action, mask)
    columns: dict[str, Any] = dict(tensors)
    return replace(start, truncated=torch.tensor(list(truncated)), **columns)


@torch.no_grad()
def rollout(
    policy: Policy,
    task: Task,
    observation: dict[str, Tensor],
    explore: Explore,
    *,
    samples: int,
    progress: float,
    generator: torch.Generator,
    values: Callable[[Tensor], Tensor],
) -> Trajectory:
    """Act until every episode is done; rewards are left at zero.

    ``values`` brings scores [n, A] into the unit of the reward before the explorer sees them. The input is read once;
    each decision touches the head (or the cached decoder) of all episodes at once.
    """
    state, cache = task.reset(observation, samples), policy.begin(observation, samples)
    actions, log_probs, masks = [], [], []
    while not bool(state.done.all()):
        scores, cache = policy.step(cache, state)
        active = ~state.done
        rows = scores[active]
        chosen, chosen_log_prob = explore(values(rows), legal_actions(rows), progress, generator)
        action = torch.zeros_like(state.previous)
        log_prob = torch.zeros(action.shape, device=scores.device)
        action[active], log_prob[active] = chosen, chosen_log_prob.float()
        actions.append(action)
        log_probs.append(log_prob)
        masks.append(active)
        state = task.step(state, action)
    trajectory = blank(observation, torch.stack(actions, 1), torch.stack(masks, 1))
    return replace(
        trajectory, log_prob=torch.stack(log_probs, 1), truncated=task.truncated(trajectory.action, trajectory.mask)
    )


def demonstrate(task: Task, observation: dict[str, Tensor]) -> Trajectory:
    """The episode in which the reference takes the decisions."""
    action, mask = task.demonstration(observation["id"].tolist())
    return blank(observation, action, mask)
