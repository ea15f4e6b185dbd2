"""The side that sees the references: what episodes were worth, what of that is told, and, for the log, what was wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rlft_cli.episode import Trajectory
from rlft_cli.errors import UsageError
from rlft_cli.feedback import Feedback, Signal
from rlft_cli.reward import Batch, Reward
from rlft_cli.task import Task


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Reward and feedback of a training; signals and counts leave it, and no label (law 6)."""

    task: Task
    reward: Reward
    feedback: Feedback
    generator: torch.Generator  # of noise and delays, apart from that of the actions
    chances: bool  # whether what is learned from them reads rewards as chances

    @property
    def whole(self) -> bool:
        """Whether replies and dialogues are judged, which nobody does token by token or act by act."""
        return self.task.decisions in ("tokens", "acts")

    def tell(self, trajectory: Trajectory, ids: Sequence[int]) -> Signal:
        """What the learner is told of a trajectory whose rows belong to the examples ``ids`` [N]."""
        batch = Batch(
            references=self.task.references(ids),
            predictions=self.task.decode(trajectory.action, trajectory.mask, ids),
            labels=self.task.labels,
            contexts=self.task.contexts(ids),
            whole=self.whole,
        )
        reward = torch.zeros_like(trajectory.reward)
        if self.feedback.reads_reward:
            reward = self.reward(trajectory.action, trajectory.mask, batch)
        return self._usable(self.feedback(reward, trajectory, batch, self.generator))

    def pass_on(self, logged: Trajectory) -> Signal:
        """What the learner is told of a trajectory whose rewards were given long ago; there are no references."""
        batch = Batch(references=[], predictions=[], labels=self.task.labels, whole=self.whole)
        return self._usable(self.feedback(logged.reward, logged, batch, self.generator))

    def _usable(self, signal: Signal) -> Signal:
        """The signal as it is; UsageError for rewards outside [0, 1] where they are read as chances, and are no estimates."""
        told = signal.reward[signal.observed]
        if self.chances and signal.exact and bool(((told < 0) | (told > 1)).any()):
            raise UsageError(
                "algo.loss_kind=bce (and softmax) reads rewards as chances and needs them in [0, 1], but there is one of "
                f"{float(told.min()):g} to {float(told.max()):g}; type algo.loss_kind=mse"
            )
        return signal

    def mistakes(self, trajectory: Trajectory, ids: Sequence[int]) -> int:
        """The regret of tags or classes on the examples ``ids`` [B], R = sum over decisions of r*(x) - r(x, a).

        Counted for the reward that is 1 where a decision is that of the reference and 0 elsewhere, whatever the run is
        paid in: there r* = 1, and the regret is the number of wrong decisions (METHODS 4). A measurement for the log.
        """
        right, _ = self.task.demonstration(ids)
        wrong = trajectory.action != right.to(trajectory.action.device).repeat_interleave(trajectory.samples, dim=0)
        return int((wrong & trajectory.mask).sum())
