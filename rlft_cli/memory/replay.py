"""Learn from episodes drawn uniformly from the recent past; stores ids and decisions, never hidden states."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
import torch

from rlft_cli.episode import Trajectory, from_rows, to_rows

DECISION = np.dtype(
    [
        ("action", "<i4"),
        ("reward", "<f4"),
        ("observed", "?"),
        ("log_prob", "<f4"),
        ("reference_log_prob", "<f4"),
        ("greedy_reward", "<f4"),
    ]
)
_BUCKET_EDGES = np.array([8, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 192, 256, 384, 512, 1024, 1 << 30])


@dataclass(kw_only=True)
class _Store:
    """The episodes, and where they lie by input length."""

    decisions: list[Any] = field(default_factory=list)  # one array of DECISION per episode
    example: list[int] = field(default_factory=list)
    cost: list[int] = field(default_factory=list)  # input tokens
    truncated: list[bool] = field(default_factory=list)
    buckets: list[list[int]] = field(default_factory=lambda: [[] for _ in _BUCKET_EDGES])
    slot: list[int] = field(default_factory=list)  # place of an episode in its bucket
    write: int = 0


@dataclass(frozen=True, kw_only=True)
class Replay:
    """A ring of ``capacity`` episodes (Lin 1992; Mnih et al. 2015).

    A batch holds episodes of like input length, so that little is padded: a length bucket is drawn in proportion to
    count x length, then budget / length episodes uniformly from it, which makes every episode equally likely.
    """

    fresh: ClassVar[bool] = False

    capacity: Annotated[int, "[1, inf)"]
    warmup_episodes: Annotated[int, "[1, inf)"]
    replay_ratio: Annotated[int, "[1, inf)"]
    store: _Store = field(init=False, default_factory=_Store)

    def add(self, trajectory: Trajectory, cost: list[int]) -> None:
        """Store each episode; the oldest goes when the ring is full."""
        k, ids = trajectory.samples, trajectory.observation["id"].tolist()
        truncated = trajectory.truncated.tolist()
        for row, episode in enumerate(to_rows(trajectory, DECISION)):
            self._put(episode, ids[row // k], cost[row // k], truncated[row])

    def _put(self, episode: Any, example: int, cost: int, truncated: bool) -> None:
        s = self.store
        at = s.write % self.capacity
        if at == len(s.decisions):
            for column in (s.decisions, s.example, s.cost, s.truncated, s.slot):
                column.append(0)  # type: ignore[arg-type]
        else:
            self._leave_bucket(at)
        s.decisions[at], s.example[at], s.cost[at], s.truncated[at] = episode, example, cost, truncated
        bucket = s.buckets[int(np.searchsorted(_BUCKET_EDGES, cost))]
        s.slot[at] = len(bucket)
        bucket.append(at)
        s.write += 1

    def _leave_bucket(self, at: int) -> None:
        s = self.store
        bucket = s.buckets[int(np.searchsorted(_BUCKET_EDGES, s.cost[at]))]
        last = bucket.pop()
        if last != at:
            bucket[s.slot[at]] = last
            s.slot[last] = s.slot[at]

    def ready(self) -> bool:
        """Whether ``warmup_episodes`` were ever stored."""
        return len(self.store.decisions) >= min(self.warmup_episodes, self.capacity)

    def sample(self, batch_tokens: int, max_episodes: int, generator: torch.Generator) -> Trajectory:
        """Draw episodes of one length bucket, uniformly over all episodes in the long run."""
        s = self.store
        size = np.array([max(1, min(max_episodes, batch_tokens // edge)) for edge in _BUCKET_EDGES])
        weight = torch.tensor([len(bucket) / n for bucket, n in zip(s.buckets, size, strict=True)])
        at = int(torch.multinomial(weight, 1, generator=generator))
        bucket = s.buckets[at]
        picks = torch.randint(len(bucket), (int(size[at]),), generator=generator).tolist()
        return self._trajectory(bucket[pick] for pick in picks)

    def _trajectory(self, rows: Iterable[int]) -> Trajectory:
        s, rows = self.store, list(rows)
        return from_rows(
            example=[s.example[row] for row in rows],
            decisions=[s.decisions[row] for row in rows],
            truncated=[s.truncated[row] for row in rows],
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything, flat; oldest slot first."""
        s = self.store
        flat = np.concatenate(s.decisions) if s.decisions else np.empty(0, DECISION)
        state: dict[str, Any] = {name: torch.from_numpy(flat[name].copy()) for name in DECISION.names or ()}
        state["length"] = torch.tensor([len(d) for d in s.decisions], dtype=torch.int64)
        state["example"], state["cost"] = torch.tensor(s.example), torch.tensor(s.cost)
        state["truncated"] = torch.tensor(s.truncated, dtype=torch.bool)
        state["slot"], state["write"] = torch.tensor(s.slot), s.write
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore ``state_dict``, the order inside the buckets included, so that draws go on as they would have."""
        s = self.store
        flat = np.empty(len(state["action"]), DECISION)
        for name in DECISION.names or ():
            flat[name] = state[name].numpy()
        ends = np.cumsum(state["length"].numpy())
        s.decisions[:] = [piece.copy() for piece in np.split(flat, ends[:-1])] if len(ends) else []
        s.example[:], s.cost[:] = state["example"].tolist(), state["cost"].tolist()
        s.truncated[:], s.slot[:], s.write = state["truncated"].tolist(), state["slot"].tolist(), state["write"]
        homes = np.searchsorted(_BUCKET_EDGES, np.array(s.cost, dtype=np.int64))
        for number, bucket in enumerate(s.buckets):
            bucket[:] = sorted(np.flatnonzero(homes == number).tolist(), key=s.slot.__getitem__)
