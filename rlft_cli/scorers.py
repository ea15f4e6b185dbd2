"""Other checkpoints as judges of replies, and where the scores of a reward model lie for the policy that a run starts with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlft_cli.errors import RewardFailure, UsageError
from rlft_cli.reward import Reward
from rlft_cli.reward.reward_model import RewardModel
from rlft_cli.reward.weighted_sum import WeightedSum
from rlft_cli.sampler import budget_batches
from rlft_cli.task import Row, TaskSettings

BATCH_TOKENS = 8192  # of replies that are judged at once, padding included
LEAST_SPREAD = 1e-6  # of scores that differ


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A checkpoint that reads rows; ``settings`` bind a new task each time, so that nothing piles up."""

    settings: TaskSettings
    labels: list[str]
    codec: Any
    policy: Any  # an nn.Module that is a Policy, without gradient
    device: torch.device
    autocast: Callable[[], AbstractContextManager[Any]]

    @torch.no_grad()
    def scores(self, rows: Sequence[Row]) -> Tensor:
        """Scores [len(rows), A] of the one decision on each row, float32 on the CPU."""
        task = self.settings.build(self.labels, self.codec)
        ids = task.ask(rows)
        cost = task.cost(ids)
        order = sorted(range(len(ids)), key=cost.__getitem__)
        found = torch.zeros(len(ids), len(self.labels))
        self.policy.eval()
        for places in budget_batches(order, cost, BATCH_TOKENS, 256):
            observation = {
                name: tensor.to(self.device) for name, tensor in task.collate([ids[place] for place in places]).items()
            }
            action = torch.zeros(len(places), 1, dtype=torch.int64, device=self.device)
            with self.autocast():
                found[places] = self.policy(observation, action).scores[:, 0].float().cpu()
        return found


@dataclass(frozen=True, kw_only=True)
class RewardModelScorer:
    """Scores of replies to contexts (lists of turns) by a checkpoint of task=preference."""

    reader: Reader

    def __call__(self, contexts: Sequence[Any], replies: Sequence[str]) -> list[float]:
        """One score for each reply; UsageError where there is nothing that a reply answers."""
        if any(not any(turn["content"].strip() for turn in turns) for turns in contexts):
            raise UsageError(
                "a reward model judges replies to a prompt, and nothing stands before the first block of a text "
                "(task.given_tokens=0); choose another reward, or train with task.given_tokens=32"
            )
        rows = [
            {"turns": turns, "chosen": reply, "rejected": None, "origin": "a reply"}
            for turns, reply in zip(contexts, replies, strict=True)
        ]
        scores: list[float] = self.reader.scores(rows)[:, 0].tolist() if rows else []
        return scores


@dataclass(frozen=True, kw_only=True)
class ClassScorer:
    """Probabilities of one class for replies by a checkpoint of task=classification; 0 for a reply without text."""

    reader: Reader
    number: int  # of the class

    def __call__(self, replies: Sequence[str]) -> list[float]:
        """One probability for each reply."""
        filled = [n for n, reply in enumerate(replies) if reply.strip()]
        found = [0.0] * len(replies)
        if filled:
            scores = self.reader.scores([{"text": replies[n], "label": "", "origin": "a reply"} for n in filled])
            for n, chance in zip(filled, scores.softmax(-1)[:, self.number].tolist(), strict=True):
                found[n] = chance
        return found


def parts_of(reward: Reward, key: str = "reward") -> Iterator[tuple[str, Reward]]:
    """A reward and what it is made of, each with its key in the configuration."""
    yield key, reward
    if isinstance(reward, WeightedSum):
        for n, term in enumerate(reward.terms):
            yield from parts_of(term, f"{key}.terms.{n}")


def measure(model: RewardModel, contexts: Sequence[Any], replies: Sequence[str]) -> None:
    """Measure centre and scale, as far as they are not given, on replies of the policy that the run starts with."""
    scores = torch.tensor(model.scorer[0](contexts, replies), dtype=torch.float64)
    spread = float(scores.std())
    if model.scale is None and not spread > LEAST_SPREAD:
        raise RewardFailure(
            f"the reward model {model.checkpoint} gives all of {len(scores)} sampled replies the same score "
            f"({float(scores[0]):.4g}), so there is nothing to learn from it; train it longer, or give reward.scale=1"
        )
    if model.centre is None:
        model.measured["centre"] = float(scores.mean())
    if model.scale is None:
        model.measured["scale"] = spread


__all__ = ["ClassScorer", "Reader", "RewardModelScorer", "measure", "parts_of"]
