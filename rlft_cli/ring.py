"""Episodes of the recent past as ids and decisions, never hidden states: what the replaying memories store them in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
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


def decision_type(trajectory: Trajectory) -> np.dtype[Any]:
    """DECISION, and what came to light before it where a trajectory has such."""
    width = trajectory.seen.shape[-1]
    return np.dtype([*DECISION.descr, ("seen", "<f4", (width,))]) if width else DECISION


_BUCKET_EDGES = np.array([8, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 192, 256, 384, 512, 1024, 1 << 30])
BUCKETS = len(_BUCKET_EDGES)


def bucket_of(cost: Iterable[int]) -> npt.NDArray[np.int64]:
    """Number of the bucket of like input lengths that each cost in tokens belongs to."""
    return np.searchsorted(_BUCKET_EDGES, np.array(list(cost), dtype=np.int64))


def bucket_sizes(batch_tokens: int, max_episodes: int) -> npt.NDArray[np.int64]:
    """Episodes of a batch [BUCKETS] that keep the token budget, by bucket."""
    return np.array([max(1, min(max_episodes, batch_tokens // edge)) for edge in _BUCKET_EDGES])


@dataclass(kw_only=True)
class Ring:
    """Episodes in the order of their slots; the oldest is overwritten when there are ``capacity`` of them."""

    decisions: list[Any] = field(default_factory=list)  # one array of DECISION per episode
    example: list[int] = field(default_factory=list)
    cost: list[int] = field(default_factory=list)  # input tokens
    truncated: list[bool] = field(default_factory=list)
    write: int = 0  # episodes ever stored

    def __len__(self) -> int:
        """Episodes held."""
        return len(self.decisions)

    def add(self, trajectory: Trajectory, cost: list[int], capacity: int) -> list[int]:
        """Store each episode and return its slot; ``cost`` [B] is the number of input tokens of each observation."""
        k, ids = trajectory.samples, trajectory.observation["id"].tolist()
        truncated = trajectory.truncated.tolist()
        slots = []
        for row, episode in enumerate(to_rows(trajectory, decision_type(trajectory))):
            at = self.write % capacity
            if at == len(self.decisions):
                for column in (self.decisions, self.example, self.cost, self.truncated):
                    column.append(0)  # type: ignore[arg-type]
            self.decisions[at], self.example[at] = episode, ids[row // k]
            self.cost[at], self.truncated[at] = cost[row // k], truncated[row]
            self.write += 1
            slots.append(at)
        return slots

    def trajectory(self, slots: Iterable[int]) -> Trajectory:
        """The episodes in these slots, one per observation, which holds only "id"."""
        slots = list(slots)
        return from_rows(
            example=[self.example[slot] for slot in slots],
            decisions=[self.decisions[slot] for slot in slots],
            truncated=[self.truncated[slot] for slot in slots],
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything, flat; lowest slot first."""
        flat = np.concatenate(self.decisions) if self.decisions else np.empty(0, DECISION)
        state: dict[str, Any] = {name: torch.from_numpy(flat[name].copy()) for name in flat.dtype.names or ()}
        state["length"] = torch.tensor([len(d) for d in self.decisions], dtype=torch.int64)
        state["example"], state["cost"] = torch.tensor(self.example), torch.tensor(self.cost)
        state["truncated"], state["write"] = torch.tensor(self.truncated, dtype=torch.bool), self.write
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore ``state_dict``."""
        seen = [("seen", "<f4", (state["seen"].shape[1],))] if "seen" in state else []
        flat = np.empty(len(state["action"]), np.dtype([*DECISION.descr, *seen]))
        for name in flat.dtype.names or ():
            flat[name] = state[name].numpy()
        ends = np.cumsum(state["length"].numpy())
        self.decisions[:] = [piece.copy() for piece in np.split(flat, ends[:-1])] if len(ends) else []
        self.example[:], self.cost[:] = state["example"].tolist(), state["cost"].tolist()
        self.truncated[:], self.write = state["truncated"].tolist(), state["write"]
