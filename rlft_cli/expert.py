"""The expert of expert iteration: a tree search from the policy as it is, whose answers are judged as all that is acted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rlft_cli.episode import Trajectory, blank, legal_actions
from rlft_cli.errors import UsageError
from rlft_cli.feedback import Signal
from rlft_cli.finite import require_finite
from rlft_cli.search import Path, Settings, search_together
from rlft_cli.training import Training
from rlft_cli.trees import Answer, Complete, followed, grow, padded


@dataclass(frozen=True, kw_only=True)
class _Told:
    """What the learner was told of one answer."""

    reward: Tensor  # [T]
    observed: Tensor  # [T] bool
    reactions: int


@dataclass(frozen=True, kw_only=True)
class _Tried:
    """All answers to the examples ``ids`` [B] that were tried so far, each once, in their order."""

    training: Training
    ids: list[int]
    told: list[dict[Path, _Told]]

    def judge(self, answers: Sequence[tuple[int, Answer]]) -> list[float]:
        """Hear of answers what the feedback lets through; the worth of each is the sum of its rewards."""
        t, paths = self.training, [answer.path for _, answer in answers]
        ids = [self.ids[n] for n, _ in answers]
        action, mask = padded(paths, t.accelerator.device)
        trajectory = blank({"id": torch.tensor(ids, device=mask.device)}, action, mask)
        if t.task.decisions in ("tags", "classes"):  # for the log alone
            t.regret += t.judge.mistakes(trajectory, ids)
            t.decided += int(mask.sum())
        signal = t.judge.tell(trajectory, ids)
        if bool(signal.delay_steps.any()):
            raise UsageError("a search goes by reactions that are there at once; type feedback=bandit or feedback=full")
        for row, ((n, _), path) in enumerate(zip(answers, paths, strict=True)):
            self.told[n][path] = _Told(
                reward=signal.reward[row, : len(path)],
                observed=signal.observed[row, : len(path)],
                reactions=int(signal.reactions[row]),
            )
        total: list[float] = signal.reward.sum(1).tolist()
        return total


def improve(t: Training, settings: Settings, ids: list[int]) -> tuple[Trajectory, Signal, float]:
    """The best answer to each example that a search found, what was told of it, and by how much it beats the first one.

    Reactions to all other answers are counted here; those to the best one where it is remembered.
    """
    observation = t.inputs(ids)

    def values(scores: Tensor) -> Tensor:
        require_finite(scores, observation, f"at step {t.step}")
        prior = t.explore.warp(t.algorithm.values(scores))  # what the loss makes surer (law 8)
        return _noisy(prior, settings.noise * settings.temperature, t.generator) if settings.noise > 0 else prior

    with t.accelerator.autocast():
        complete = grow(
            t.policy,
            t.task,
            observation,
            values,
            log_prob=True,
            temperature=settings.temperature,
            width=settings.width,
        )
    tried = _Tried(training=t, ids=ids, told=[{} for _ in ids])
    found = search_together(
        followed(_in_precision(t, complete), tried.judge),
        len(ids),
        simulations=settings.simulations,
        exploration=settings.exploration,
    )
    firsts = [float(next(iter(told.values())).reward.sum()) for told in tried.told]
    best = [told.pop(one.best) for told, one in zip(tried.told, found, strict=True)]
    others = [(i, told) for i, kept in zip(ids, tried.told, strict=True) for told in kept.values()]
    t.counts.add(_signal([told for _, told in others], t.accelerator.device))
    t.seen_reactions.update(i for i, told in others if told.reactions > 0)
    action, mask = padded([one.best for one in found], t.accelerator.device)
    signal = _signal(best, t.accelerator.device)
    truncated = t.task.truncated(action, mask)
    trajectory = replace(
        blank(observation, action, mask), reward=signal.reward, observed=signal.observed, truncated=truncated
    )
    return trajectory, signal, sum(one.worth - first for one, first in zip(found, firsts, strict=True)) / len(ids)


def _noisy(scores: Tensor, scale: float, generator: torch.Generator) -> Tensor:
    """Scores [..., A] with Gumbel noise on legal ones: -log of an exponential number (Kool et al. 2019, section 2)."""
    noise = torch.empty_like(scores).exponential_(generator=generator).clamp_(min=1e-30).log_()
    return torch.where(legal_actions(scores), scores - scale * noise, scores)


def _in_precision(t: Training, complete: Complete) -> Complete:
    """Rollouts in the precision of the run; rewards are not part of it."""

    def within(asked: Sequence[tuple[int, Path]]) -> list[Answer]:
        with t.accelerator.autocast():
            return complete(asked)

    return within


def _signal(told: Sequence[_Told], device: torch.device) -> Signal:
    """What was told of several answers, as one signal."""
    reactions = torch.tensor([one.reactions for one in told], dtype=torch.int64, device=device)
    width = max([1, *(len(one.reward) for one in told)])
    reward = torch.zeros(len(told), width, device=device)
    observed = torch.zeros(len(told), width, dtype=torch.bool, device=device)
    for row, one in enumerate(told):
        reward[row, : len(one.reward)], observed[row, : len(one.reward)] = one.reward, one.observed
    return Signal(reward=reward, observed=observed, reactions=reactions, delay_steps=torch.zeros_like(reactions))


__all__ = ["improve"]
