"""Learn from episodes drawn uniformly from the recent past; stores ids and decisions, never hidden states."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from rlft_cli.episode import Trajectory
from rlft_cli.ring import BUCKETS, Ring, bucket_of, bucket_sizes


@dataclass(kw_only=True)
class _Lengths:
    """Where the episodes lie by input length."""

    buckets: list[list[int]] = field(default_factory=lambda: [[] for _ in range(BUCKETS)])
    home: list[int] = field(default_factory=list)  # bucket of an episode
    place: list[int] = field(default_factory=list)  # its place in there

    def put(self, at: int, home: int) -> None:
        """Note that the episode in slot ``at``, new or in the place of another one, belongs to bucket ``home``."""
        if at == len(self.home):
            self.home.append(home)
            self.place.append(0)
        else:
            self._leave(at)
        self.home[at], self.place[at] = home, len(self.buckets[home])
        self.buckets[home].append(at)

    def _leave(self, at: int) -> None:
        bucket = self.buckets[self.home[at]]
        last = bucket.pop()
        if last != at:
            bucket[self.place[at]] = last
            self.place[last] = self.place[at]


@dataclass(frozen=True, kw_only=True)
class Replay:
    """A ring of ``capacity`` episodes (Lin 1992; Mnih et al. 2015).

    A batch holds episodes of like input length, so that little is padded: a length bucket is drawn in proportion to
    count x length, then budget / length episodes uniformly from it, which makes every episode equally likely.
    """

    fresh: ClassVar[bool] = False
    by_error: ClassVar[bool] = False

    capacity: Annotated[int, "[1, inf)"]
    warmup_episodes: Annotated[int, "[1, inf)"]
    replay_ratio: Annotated[int, "[1, inf)"]
    ring: Ring = field(init=False, default_factory=Ring)
    lengths: _Lengths = field(init=False, default_factory=_Lengths)

    def add(self, trajectory: Trajectory, cost: list[int]) -> None:
        """Store each episode; the oldest goes when the ring is full."""
        slots = self.ring.add(trajectory, cost, self.capacity)
        each = [n for n in cost for _ in range(trajectory.samples)]
        for at, home in zip(slots, bucket_of(each).tolist(), strict=True):
            self.lengths.put(at, home)

    def ready(self) -> bool:
        """Whether ``warmup_episodes`` were ever stored."""
        return len(self.ring) >= min(self.warmup_episodes, self.capacity)

    def sample(self, batch_tokens: int, max_episodes: int, generator: torch.Generator) -> Trajectory:
        """Draw episodes of one length bucket, uniformly over all episodes in the long run."""
        buckets, size = self.lengths.buckets, bucket_sizes(batch_tokens, max_episodes)
        weight = torch.tensor([len(bucket) / n for bucket, n in zip(buckets, size, strict=True)])
        at = int(torch.multinomial(weight, 1, generator=generator))
        picks = torch.randint(len(buckets[at]), (int(size[at]),), generator=generator).tolist()
        return self.ring.trajectory(buckets[at][pick] for pick in picks)

    def learned(self, loss: Tensor, done: float) -> None:
        """Every episode stays as likely as any other."""

    def state_dict(self) -> dict[str, Any]:
        """Everything, flat; lowest slot first."""
        return {**self.ring.state_dict(), "slot": torch.tensor(self.lengths.place)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore ``state_dict``, the order inside the buckets included, so that draws go on as they would have."""
        self.ring.load_state_dict(state)
        homes = bucket_of(self.ring.cost)
        self.lengths.home[:], self.lengths.place[:] = homes.tolist(), state["slot"].tolist()
        for number, bucket in enumerate(self.lengths.buckets):
            bucket[:] = sorted(np.flatnonzero(homes == number).tolist(), key=self.lengths.place.__getitem__)
