"""Learn most often from the episodes whose values were furthest off when they were last learned from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rlft_cli.episode import Trajectory
from rlft_cli.returns import importance_weights, priority_probabilities
from rlft_cli.ring import BUCKETS, Ring, bucket_of, bucket_sizes

LEAST = 1e-6  # priority of an episode without any error: it may still be drawn


@dataclass(kw_only=True)
class _Priorities:
    value: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))  # by slot
    bucket: npt.NDArray[np.int8] = field(default_factory=lambda: np.zeros(0, np.int8))  # of like input length, by slot
    largest: float = 1.0  # so far; what new episodes get, so that each is soon learned from
    done: float = 0.0  # part of the training budget spent
    drawn: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))  # slots of the last batch


@dataclass(frozen=True, kw_only=True)
class Prioritised:
    """A ring of ``capacity`` episodes, drawn with P_i = p_i^alpha / sum_k p_k^alpha (Schaul et al. 2016, eq. 1).

    p_i = max_t sqrt(2 l_t) + 1e-6, of the loss l_t of its decisions when it was last learned from: max_t |td error| + 1e-6
    where l is half the squared td error (mse; huber within 1), and a growing function of it for the other losses (for
    distributions of returns the loss itself is the error: Hessel et al. 2018). The learner weighs each episode's loss by
    w_i = (N P_i)^-beta, over the largest of the batch; beta goes from ``beta_start`` to 1 over the training, where the
    bias is gone (sec. 3.4). Batches are of like input length: a length bucket is drawn in proportion to its sum of
    p^alpha x length, then budget / length episodes from it, so that each is expected in proportion to P_i.
    """

    fresh: ClassVar[bool] = False
    by_error: ClassVar[bool] = True

    capacity: Annotated[int, "[1, inf)"]
    warmup_episodes: Annotated[int, "[1, inf)"]
    replay_ratio: Annotated[int, "[1, inf)"]
    alpha: Annotated[float, "[0, 1]"]
    beta_start: Annotated[float, "[0, 1]"]
    ring: Ring = field(init=False, default_factory=Ring)
    priorities: _Priorities = field(init=False, default_factory=_Priorities)

    def add(self, trajectory: Trajectory, cost: list[int]) -> None:
        """Store each episode at the largest priority so far; the oldest goes when the ring is full."""
        slots = self.ring.add(trajectory, cost, self.capacity)
        p, missing = self.priorities, len(self.ring) - len(self.priorities.value)
        p.value, p.bucket = np.pad(p.value, (0, missing)), np.pad(p.bucket, (0, missing))
        p.value[slots] = p.largest
        p.bucket[slots] = bucket_of(self.ring.cost[slot] for slot in slots)

    def ready(self) -> bool:
        """Whether ``warmup_episodes`` were ever stored."""
        return len(self.ring) >= min(self.warmup_episodes, self.capacity)

    def sample(self, batch_tokens: int, max_episodes: int, generator: torch.Generator) -> Trajectory:
        """Draw episodes of one length bucket, with their importance weights; with replacement."""
        p, size = self.priorities, bucket_sizes(batch_tokens, max_episodes)
        probability = priority_probabilities(torch.from_numpy(p.value), self.alpha)  # [held]
        mass = np.bincount(p.bucket, weights=probability.numpy(), minlength=BUCKETS)
        at = int(torch.multinomial(torch.from_numpy(mass / size), 1, generator=generator))
        slots = np.flatnonzero(p.bucket == at)
        chance = probability[torch.from_numpy(slots)]
        picks = torch.multinomial(chance, int(size[at]), replacement=True, generator=generator)
        p.drawn = slots[picks.numpy()]
        beta = self.beta_start + (1 - self.beta_start) * p.done
        weight = importance_weights(chance[picks], len(self.ring), beta).float()
        return replace(self.ring.trajectory(p.drawn.tolist()), weight=weight)

    def learned(self, loss: Tensor, done: float) -> None:
        """Give the episodes drawn last their new priorities, from the loss [N] of the worst decision of each."""
        p = self.priorities
        p.value[p.drawn] = (2 * loss.double().cpu().clamp(min=0)).sqrt().numpy() + LEAST
        p.largest, p.done = max(p.largest, float(p.value[p.drawn].max())), done

    def state_dict(self) -> dict[str, Any]:
        """Everything, flat; lowest slot first."""
        p = self.priorities
        now = torch.tensor([p.largest, p.done], dtype=torch.float64)
        return {**self.ring.state_dict(), "priority": torch.from_numpy(p.value.copy()), "now": now}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore ``state_dict``."""
        self.ring.load_state_dict(state)
        p = self.priorities
        p.value, p.bucket = state["priority"].numpy().copy(), bucket_of(self.ring.cost).astype(np.int8)
        p.largest, p.done = state["now"].tolist()
        p.drawn = np.zeros(0, np.int64)
