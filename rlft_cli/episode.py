"""The one record that every task produces and every algorithm learns from, and how it is produced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
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


def draw(probability: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one action a row with the given chances, by inverting the cumulative distribution: [n, A] -> [n] int64.

    Rows need not sum to one. One uniform number a row, where ``torch.multinomial`` draws one for each of the A actions;
    the first action whose cumulative chance is above the number is never one of chance zero.
    """
    uniform = torch.rand(len(probability), dtype=torch.float64, device=probability.device, generator=generator)
    return draw_at(probability, uniform)


def draw_at(probability: Tensor, uniform: Tensor) -> Tensor:
    """The actions that the numbers ``uniform`` [n] float64 in [0, 1) stand for: [n, A] -> [n] int64."""
    cumulative = probability.cumsum(-1, dtype=torch.float64)
    return torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True).squeeze(-1)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The next decision of the n episodes that go on, as an explorer sees it."""

    scores: Tensor  # [n, A] in the unit of the reward
    legal: Tensor  # [n, A] bool
    progress: float  # part of the training budget spent, 0 to 1, for schedules
    t: int  # its number in the episode; 0 begins new episodes
    rows: Tensor  # [n] int64, which of the N episodes they are
    length: Tensor  # [n] int64, how many decisions each episode has, or its horizon
    features: Tensor | None  # [n, D] the hidden state that the head reads; None where the actions are tokens
    table: Callable[[], tuple[Tensor, Tensor]]  # of tags and classes: scores and legal [n, T, P, A] after every action


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
    observed: Tensor  # [N, T] bool: its reward is known (0 where it is not); only such decisions are learned from
    advantage: Tensor  # [N, T] filled by Algorithm.prepare
    truncated: Tensor  # [N] bool: stopped by the horizon and not by the task
    weight: Tensor  # [N] by which a memory wants its losses multiplied: 1, or the importance weight of how it was drawn
    greedy_reward: Tensor  # [N, T] reward of the greedy episode; zero unless the algorithm reads it
    reference_log_prob: Tensor  # [N, T] log pi_ref(a_t | s_t); zero unless the algorithm reads it
    value: Tensor  # [N, T] V(s_t) by the policy that acted; zero unless the algorithm reads it
    seen: Tensor  # [N, T, F] what came to light before each decision; F is 0 where the input is all there is to see

    @property
    def samples(self) -> int:
        """How many episodes each observation has (k)."""
        return self.action.shape[0] // self.observation["id"].shape[0]

    @property
    def inputs(self) -> dict[str, Tensor]:
        """What the policy reads: the observation and, beside it, "seen" where there is such."""
        return self.observation | {"seen": self.seen} if self.seen.shape[-1] else self.observation

    def to(self, device: torch.device | str) -> Trajectory:
        """Move every tensor to a device."""
        moved: dict[str, Any] = {
            f.name: getattr(self, f.name).to(device) for f in fields(self) if f.name != "observation"
        }
        return replace(self, observation={k: v.to(device) for k, v in self.observation.items()}, **moved)

    def episodes(self, rows: Tensor) -> Tensor:
        """Episodes [b * k] of the observations ``rows`` [b]."""
        k = self.samples
        return (rows[:, None] * k + torch.arange(k, device=rows.device)[None, :]).reshape(-1)

    def without_masked(self) -> Trajectory:
        """Zero what decisions that do not exist hold, so that a NaN there can do no harm (law 7)."""
        clean: dict[str, Any] = {
            f.name: torch.where(self.mask, value := getattr(self, f.name), torch.zeros_like(value))
            for f in fields(self)
            if f.name not in ("observation", "mask", "truncated", "weight", "seen")
        }
        return replace(self, **clean, seen=torch.where(self.mask[..., None], self.seen, 0.0))

    def select(self, rows: Tensor) -> Trajectory:
        """Keep the observations ``rows`` [b] with all their samples, and of the observation only its "id"."""
        episodes = self.episodes(rows)
        width = max(1, int(self.mask[episodes].sum(1).max())) if len(episodes) else 1
        cut: dict[str, Any] = {}
        for f in fields(self):
            if f.name == "observation":
                continue
            value = getattr(self, f.name)[episodes]
            cut[f.name] = value if value.dim() == 1 else value[:, :width]
        return replace(self, observation={"id": self.observation["id"][rows]}, **cut)


def blank(observation: dict[str, Tensor], action: Tensor, mask: Tensor) -> Trajectory:
    """A trajectory of known actions, observed, with everything else at zero; discount is 0 at the last decision."""
    zero = torch.zeros(action.shape, dtype=torch.float32, device=action.device)
    later = torch.cat([mask[:, 1:], torch.zeros_like(mask[:, :1])], dim=1)
    return Trajectory(
        observation=observation,
        action=action,
        mask=mask,
        observed=mask,
        log_prob=zero,
        reward=zero,
        discount=later.float(),
        advantage=zero,
        greedy_reward=zero,
        reference_log_prob=zero,
        value=zero,
        truncated=torch.zeros(action.shape[0], dtype=torch.bool, device=action.device),
        weight=torch.ones(action.shape[0], device=action.device),
        seen=zero.new_zeros(*action.shape, 0),
    )


def to_rows(trajectory: Trajectory, dtype: np.dtype[Any]) -> list[Any]:
    """The episodes as one structured array each, of the fields that ``dtype`` names; what ``from_rows`` reads."""
    columns = {name: vars(trajectory)[name].cpu().numpy() for name in dtype.names or ()}
    rows = [np.empty(length, dtype) for length in trajectory.mask.sum(1).tolist()]
    for name, column in columns.items():
        for n, row in enumerate(rows):
            row[name] = column[n, : len(row)]
    return rows


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
    each decision touches the head (or the cached decoder) of all episodes at once. What the explorer draws for whole
    episodes goes to the policy beside the input, and is not kept.
    """
    state = task.reset(observation, samples)
    drawn = explore.perturb(len(state.done), policy.width, policy.actions, generator)
    cache = policy.begin(observation | drawn, samples)
    actions, log_probs, masks, foreseen, seen = [], [], [], [], []
    while not bool(state.done.all()):
        output, cache = policy.step(cache, state)
        active = ~state.done
        decision = Decision(
            scores=values(output.scores[active]),
            legal=legal_actions(output.scores[active]),
            progress=progress,
            t=state.t,
            rows=active.nonzero().squeeze(-1),
            length=state.length[active],
            features=None if output.features is None else output.features[active],
            table=partial(_table, policy, cache, active, values),
        )
        chosen, chosen_log_prob = explore(decision, generator)
        action = torch.zeros_like(state.previous)
        log_prob = torch.zeros(action.shape, device=action.device)
        action[active], log_prob[active] = chosen, chosen_log_prob.float()
        actions.append(action)
        log_probs.append(log_prob)
        masks.append(active)
        if state.seen is not None:
            seen.append(state.seen)
        if output.value is not None:
            foreseen.append(torch.where(active, output.value, torch.zeros_like(output.value)))
        state = task.step(state, action)
    trajectory = blank(observation, torch.stack(actions, 1), torch.stack(masks, 1))
    return replace(
        trajectory,
        log_prob=torch.stack(log_probs, 1),
        value=torch.stack(foreseen, 1) if foreseen else trajectory.value,
        seen=torch.stack(seen, 1) if seen else trajectory.seen,
        truncated=task.truncated(trajectory.action, trajectory.mask),
    )


def _table(policy: Policy, cache: Any, active: Tensor, values: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    scores = policy.table(cache)[active]
    return values(scores), legal_actions(scores)


def demonstrate(task: Task, observation: dict[str, Tensor]) -> Trajectory:
    """The episode in which the reference takes the decisions; where a task answers them, it is acted out."""
    action, mask = task.demonstration(observation["id"].tolist())
    known = blank(observation, action, mask)
    if task.decisions != "acts":
        return known
    state, seen = task.reset(observation, 1), []
    for t in range(action.shape[1]):
        assert state.seen is not None
        seen.append(state.seen)
        state = task.step(state, action[:, t])
    return replace(known, seen=torch.stack(seen, 1))
