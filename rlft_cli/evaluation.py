"""How good a policy is: its answers, greedy unless told otherwise, scored by the task; rewards; intervals."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from rlft_cli.decode import Aids, Asked, Decode
from rlft_cli.decode.greedy import Greedy
from rlft_cli.episode import demonstrate
from rlft_cli.errors import RlftError, UsageError
from rlft_cli.finite import require_finite
from rlft_cli.metrics.bootstrap import Floats, Interval, bootstrap, bootstrap_mean, paired_difference, ratio
from rlft_cli.metrics.paired import win_rate
from rlft_cli.model import Output
from rlft_cli.returns import action_log_prob, kl_exact
from rlft_cli.reward import Batch, Reward
from rlft_cli.sampler import budget_batches
from rlft_cli.task import Task

KL_EPISODES = 16  # scored at once for a KL: each decision of each has a score for every action, twice
Scorer = Callable[[dict[str, Tensor], Tensor], Output]  # a policy's forward, or that of a snapshot


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What an evaluation found, in the order of the ids it was given."""

    predictions: list[Any]
    references: list[Any]
    rewards: Floats | None  # [n] of each episode
    ids: list[int]  # of the examples
    actions: list[Tensor]  # [T] int64 of each episode
    metrics: dict[str, Interval]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One policy against another on the same examples."""

    difference: dict[str, Interval]  # ours minus theirs, of the task's metrics and of the reward
    win_rate: Interval | None  # share of examples on which ours earns more, a tie counting half; None without a reward


def compare(task: Task, ours: Evaluation, theirs: Evaluation, seed: int, resamples: int) -> Comparison:
    """Hold two evaluations against each other, each resample drawn for both; UsageError where the examples differ."""
    if ours.references != theirs.references:
        raise UsageError(
            f"the two checkpoints make other examples of the same data ({len(ours.references)} and "
            f"{len(theirs.references)}, or with other references); compare checkpoints of one task with the same task settings"
        )
    difference = task.compare(ours.predictions, theirs.predictions, ours.references, seed, resamples)
    if ours.rewards is None or theirs.rewards is None:
        return Comparison(difference=difference, win_rate=None)
    difference["reward"] = paired_difference(ours.rewards, theirs.rewards, seed, resamples)
    return Comparison(difference=difference, win_rate=win_rate(ours.rewards, theirs.rewards, seed, resamples))


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Evaluation of a policy on examples of a task."""

    task: Task
    device: torch.device
    autocast: Callable[[], AbstractContextManager[Any]]
    batch_tokens: int
    resamples: int
    seed: int
    decode: Decode = field(default_factory=Greedy)
    aids: Aids = field(default_factory=Aids)

    def batches(self, ids: Sequence[int]) -> list[list[int]]:
        """Places in ``ids`` in batches of like length."""
        cost = self.task.cost(ids)
        order = sorted(range(len(ids)), key=cost.__getitem__)
        return list(budget_batches(order, cost, self.batch_tokens, 512))

    def _observe(self, ids: list[int]) -> dict[str, Tensor]:
        return {name: tensor.to(self.device) for name, tensor in self.task.collate(ids).items()}

    @torch.no_grad()
    def predict(self, policy: nn.Module, ids: Sequence[int]) -> list[Any]:
        """Predictions, one per id."""
        policy.eval()
        found: dict[int, Any] = {}
        for places in self.batches(ids):
            some = [ids[place] for place in places]
            action, mask = self._answer(policy, some)
            found.update(zip(places, self.task.decode(action, mask, some), strict=True))
        return [found[place] for place in range(len(ids))]

    def _answer(self, policy: Any, ids: list[int]) -> tuple[Tensor, Tensor]:
        """Actions [B, T] of the answers to examples, and their mask."""
        observation = self._observe(ids)

        def checked(scores: Tensor) -> Tensor:
            require_finite(scores, observation, "in evaluation")
            return scores

        with self.autocast():
            return self.decode(
                Asked(policy=policy, task=self.task, observation=observation, checked=checked, aids=self.aids)
            )

    @torch.no_grad()
    def evaluate(
        self, policy: nn.Module, ids: Sequence[int], reward: Reward | None, *, likelihood: bool = True
    ) -> Evaluation:
        """Predict, score against the references, and judge with the reward that training used, unless it cannot be had.

        ``likelihood``: of written texts, also how likely the references are, which is the same however one decodes.
        """
        if not ids:
            raise RlftError("there are no examples to evaluate on; give a split that is not empty")
        start = time.perf_counter()
        policy.eval()
        found: dict[int, Any] = {}
        taken: dict[int, Tensor] = {}
        earned = np.zeros(len(ids))
        for places in self.batches(ids):
            some = [ids[place] for place in places]
            action, mask = self._answer(policy, some)
            predictions, references = self.task.decode(action, mask, some), self.task.references(some)
            found.update(zip(places, predictions, strict=True))
            taken |= {place: row[real].cpu() for place, row, real in zip(places, action, mask, strict=True)}
            if reward is None:
                continue
            contexts = self.task.contexts(some)
            batch = Batch(references=references, predictions=predictions, labels=self.task.labels, contexts=contexts)
            paid = reward(action, mask, batch)
            earned[places] = paid.sum(1).cpu().numpy()
        predictions = [found[place] for place in range(len(ids))]
        references = self.task.references(ids)
        metrics = dict(self.task.score(predictions, references, self.seed, self.resamples))
        if reward is not None:
            metrics["reward"] = self._ratio(earned, np.ones(len(ids)))
        if likelihood and self.task.decisions == "tokens":
            metrics |= self._likelihood(policy, ids)
        return Evaluation(
            predictions=predictions,
            references=references,
            rewards=None if reward is None else earned,
            ids=list(ids),
            actions=[taken[place] for place in range(len(ids))],
            metrics=metrics,
            seconds=time.perf_counter() - start,
        )

    @torch.no_grad()
    def divergence(
        self, policy: nn.Module, reference: Scorer, ids: Sequence[int], actions: Sequence[Tensor]
    ) -> Interval:
        """KL(policy || reference) in nats an episode, measured on actions [T] that were drawn from ``policy``; its interval."""
        policy.eval()
        nats = np.zeros(len(ids))
        order = sorted(range(len(ids)), key=lambda place: len(actions[place]))
        for places in (order[n : n + KL_EPISODES] for n in range(0, len(ids), KL_EPISODES)):
            action = pad_sequence([actions[place] for place in places], batch_first=True).to(self.device)
            length = torch.tensor([len(actions[place]) for place in places], device=self.device)
            mask = torch.arange(action.shape[1], device=self.device)[None, :] < length[:, None]
            observation = self._observe([ids[place] for place in places])
            with self.autocast():
                scores, other = (one(observation, action).scores.float() for one in (policy, reference))
            nats[places] = torch.where(mask, kl_exact(scores, other), 0.0).sum(1).cpu().numpy()
        return bootstrap_mean(nats, self.seed, self.resamples)

    def _likelihood(self, policy: nn.Module, ids: Sequence[int]) -> dict[str, Interval]:
        """log_likelihood: mean log-probability of the references' tokens in nats, ends included; perplexity = exp(-it)."""
        nll, tokens = np.zeros(len(ids)), np.zeros(len(ids))
        for places in self.batches(ids):
            known = demonstrate(self.task, self._observe([ids[place] for place in places])).to(self.device)
            with self.autocast():
                scores = policy(known.observation, known.action).scores
            log_prob = torch.where(known.mask, action_log_prob(scores, known.action), 0.0)
            nll[places], tokens[places] = -log_prob.sum(1).cpu().numpy(), known.mask.sum(1).cpu().numpy()
        mean = self._ratio(nll, tokens)
        likelihood = {"value": -mean["value"], "low": -mean["high"], "high": -mean["low"]}
        return {
            "log_likelihood": likelihood,
            "perplexity": {name: float(np.exp(value)) for name, value in mean.items()},
        }

    def _ratio(self, top: Floats, bottom: Floats) -> Interval:
        """sum(top) / sum(bottom) of per-example numbers [n], with a 95 % bootstrap interval over examples."""
        totals = np.stack([top, bottom], axis=1)
        return bootstrap(totals, lambda t: {"ratio": ratio(t[:, 0], t[:, 1])}, self.seed, self.resamples)["ratio"]
