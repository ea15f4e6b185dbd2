"""Ridge regressions of the reward, one for each action, on features that change while they are trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import normalize

from rlft_cli.episode import Trajectory, from_rows

_ROW = np.dtype([("action", "<i4"), ("reward", "<f4"), ("observed", "?")])
_CHUNK_EPISODES = 32  # read at once when the regressions are made anew
_WAITING_DECISIONS = 4096  # that are then added at once: each action's matrices are written once for all of its own


def absorb(inverse: Tensor, moment: Tensor, features: Tensor, action: Tensor, reward: Tensor) -> None:
    """Add decisions, features [m, H], action [m], reward [m], to inverse [A, H, H] and moment [A, H], in place.

    inv(A + Phi' Phi) = inv(A) - inv(A) Phi' inv(I + Phi inv(A) Phi') Phi inv(A) (Woodbury 1950; of one decision, Sherman
    and Morrison 1950), b = b + Phi' r.
    """
    for a in action.unique().tolist():
        chosen = action == a
        for phi, r in zip(
            features[chosen].split(inverse.shape[1]), reward[chosen].split(inverse.shape[1]), strict=True
        ):
            gain = inverse[a] @ phi.T  # [H, m]
            seen = torch.eye(len(phi), dtype=phi.dtype, device=phi.device) + phi @ gain
            smaller = inverse[a] - gain @ torch.linalg.solve(seen, gain.T)
            inverse[a] = (smaller + smaller.T) / 2  # rounding would make it lopsided in time
            moment[a] += phi.T @ r


def unit(features: Tensor) -> Tensor:
    """Features [..., H] as float64 directions of length 1, so that bounds and priors mean the same for every network."""
    return normalize(features.double(), dim=-1)


@dataclass(frozen=True, kw_only=True)
class LinearRewards:
    """theta_a = inv(A_a) b_a, A_a = ridge I + sum of phi phi', b_a = sum of phi r (Li et al. 2010, eq. 3).

    Features of old decisions go stale as the network learns. Every ``refresh_batches`` batches of rewards (0: never) the
    regressions are made anew from the latest ``window_episodes`` episodes, whose features are computed again (Riquelme et
    al. 2018, section 4); what is older is forgotten. Kept are ids, actions and rewards, never features.
    """

    ridge: Annotated[float, "(0, inf)"]
    refresh_batches: Annotated[int, "[0, inf)"]
    window_episodes: Annotated[int, "[1, inf)"]
    state: dict[str, Tensor] = field(init=False, default_factory=dict)

    def inverse(self, actions: int, like: Tensor) -> Tensor:
        """inv(A_a) [A, H, H] float64, that of nothing seen at first; ``like`` [..., H] tells width and device."""
        if "inverse" not in self.state:
            width = like.shape[-1]
            start = torch.eye(width, dtype=torch.float64, device=like.device) / self.ridge
            self.state["inverse"] = start.repeat(actions, 1, 1)
            self.state["moment"] = torch.zeros(actions, width, dtype=torch.float64, device=like.device)
            self.state["batches"] = torch.zeros((), dtype=torch.int64)
        for name in ("inverse", "moment"):  # resumed state lies on the processor
            self.state[name] = self.state[name].to(like.device)
        return self.state["inverse"]

    def mean(self) -> Tensor:
        """theta [A, H]."""
        return torch.einsum("ahg,ag->ah", self.state["inverse"], self.state["moment"])

    def observe(self, trajectory: Trajectory, features: Callable[[Trajectory], Tensor]) -> None:
        """Add the decisions whose reward was told, or make everything anew where it is time."""
        if "inverse" not in self.state:
            return  # nothing was decided by this explorer: a log of another one
        self.state["batches"] += 1
        if self.refresh_batches:
            self._keep(trajectory)
            if int(self.state["batches"]) % self.refresh_batches == 0:
                self._make_anew(features)
                return
        self._add(trajectory, features)

    def _add(self, trajectory: Trajectory, features: Callable[[Trajectory], Tensor]) -> None:
        if bool((trajectory.mask & trajectory.observed).any()):
            self._absorb([_decisions(trajectory, unit(features(trajectory)))])

    def _keep(self, trajectory: Trajectory) -> None:
        """Append what is needed to make episodes again, and drop the oldest ones."""
        new = {
            "example": trajectory.observation["id"].repeat_interleave(trajectory.samples),
            "length": trajectory.mask.sum(1),
            "action": trajectory.action[trajectory.mask],
            "reward": trajectory.reward[trajectory.mask],
            "observed": trajectory.observed[trajectory.mask],
        }
        kept = {
            name: torch.cat([self.state[name], x.cpu()]) if name in self.state else x.cpu() for name, x in new.items()
        }
        too_many = max(0, len(kept["length"]) - self.window_episodes)
        decisions = int(kept["length"][:too_many].sum())
        for name, column in kept.items():
            self.state[name] = column[too_many if name in ("example", "length") else decisions :].clone()

    def _make_anew(self, features: Callable[[Trajectory], Tensor]) -> None:
        inverse = self.state["inverse"]
        inverse.copy_(torch.eye(inverse.shape[1], dtype=inverse.dtype, device=inverse.device) / self.ridge)
        self.state["moment"].zero_()
        lengths = self.state["length"].tolist()
        flat = np.empty(sum(lengths), _ROW)
        for name in _ROW.names or ():
            flat[name] = self.state[name].numpy()
        episodes = np.split(flat, np.cumsum(lengths)[:-1])
        alike: dict[tuple[int, bytes], list[int]] = {}  # what came before a decision is all that its features depend on
        for n in sorted(range(len(lengths)), key=lengths.__getitem__):  # of like length together: little is padded
            alike.setdefault((int(self.state["example"][n]), episodes[n]["action"][:-1].tobytes()), []).append(n)
        groups = list(alike.values())
        waiting: list[tuple[Tensor, Tensor, Tensor]] = []
        for at in range(0, len(groups), _CHUNK_EPISODES):
            some = groups[at : at + _CHUNK_EPISODES]
            read = unit(features(self._episodes([group[0] for group in some], episodes).to(inverse.device)))
            group_of = torch.tensor([place for place, group in enumerate(some) for _ in group], device=inverse.device)
            told = self._episodes([n for group in some for n in group], episodes).to(inverse.device)
            waiting.append(_decisions(told, read[group_of]))
            if sum(len(reward) for _, _, reward in waiting) >= _WAITING_DECISIONS:
                self._absorb(waiting)
        self._absorb(waiting)

    def _episodes(self, places: list[int], episodes: list[npt.NDArray[np.void]]) -> Trajectory:
        """Kept episodes as a trajectory."""
        return from_rows(
            example=[int(self.state["example"][n]) for n in places],
            decisions=[episodes[n] for n in places],
            truncated=[False] * len(places),
        )

    def _absorb(self, waiting: list[tuple[Tensor, Tensor, Tensor]]) -> None:
        """Add all that waits, many decisions at once, and empty it."""
        if waiting:
            phi, action, reward = (torch.cat(column) for column in zip(*waiting, strict=True))
            absorb(self.state["inverse"], self.state["moment"], phi, action, reward)
            waiting.clear()


def _decisions(trajectory: Trajectory, phi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Features [m, H], actions [m] and rewards [m] of the decisions whose reward was told; ``phi`` [N, T, H]."""
    told = trajectory.mask & trajectory.observed
    return phi[told], trajectory.action[told], trajectory.reward[told].double()
