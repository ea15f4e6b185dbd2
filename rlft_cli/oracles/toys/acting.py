"""A policy and a task for the tagging toy that act step by step, so that rollout() itself can be measured; decisions alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rlft_cli.episode import ILLEGAL_SCORE, Decision
from rlft_cli.model import Output
from rlft_cli.oracles.toys.tagging import Tagging
from rlft_cli.task import State
from rlft_cli.task.ner import Ner, NerTask


class TaggingPolicy:
    """The first-order softmax policy of the toy; it gives no features."""

    def __init__(self, toy: Tagging) -> None:
        self.toy = toy
        self.width, self.actions = 0, len(toy.tags)

    def __call__(self, observation: dict[str, Tensor], action: Tensor) -> Output:
        """Score known tags [N, T]."""
        word = torch.arange(action.shape[1])[None, :].expand_as(action)
        previous = torch.cat([torch.full_like(action[:, :1], -1), action[:, :-1]], 1)
        return Output(scores=self._score(word, previous), value=None)

    def begin(self, observation: dict[str, Tensor], samples: int) -> None:
        """There is nothing to read."""

    def step(self, cache: Any, state: State) -> tuple[Output, Any]:
        """Scores [N, K] of the next tag."""
        scores = self._score(torch.full_like(state.previous, state.t), state.previous)
        return Output(scores=scores, value=None), cache

    def table(self, cache: Any) -> Tensor:
        """Scores [1, T, K + 1, K] after every previous tag; the last is the start."""
        words, tags = len(self.toy.gold), len(self.toy.tags)
        word = torch.arange(words)[:, None].expand(-1, tags + 1)
        return self._score(word, torch.arange(tags + 1).expand_as(word))[None]

    def _score(self, word: Tensor, previous: Tensor) -> Tensor:
        tags, words = len(self.toy.tags), len(self.toy.gold)
        emission, transition = self.toy.theta[: words * tags].view(words, tags), self.toy.theta[words * tags :]
        previous = torch.where(previous < 0, tags, previous)
        scores = emission[word] + transition.view(tags + 1, tags)[previous]
        return scores.masked_fill(~self.toy.legal[previous], ILLEGAL_SCORE)


def sentence_task(toy: Tagging) -> tuple[NerTask, dict[str, Tensor]]:
    """The shipping task over the toy's tags, and an observation of one sentence of its length."""
    codec: Any = None  # no text is read
    task = NerTask(Ner(max_window_tokens=1, window_overlap_tokens=0), toy.tags, codec)
    words = torch.ones(1, len(toy.gold), dtype=torch.bool)
    return task, {"id": torch.zeros(1, dtype=torch.int64), "word_mask": words}


def decision(
    scores: Tensor, legal: Tensor | None = None, progress: float = 0.0, features: Tensor | None = None, t: int = 0
) -> Decision:
    """Decision t of n episodes that end with it: scores [n, A], legal [n, A] (or all are), features [n, H]."""
    allowed = torch.ones_like(scores, dtype=torch.bool) if legal is None else legal
    return Decision(
        scores=scores,
        legal=allowed,
        progress=progress,
        t=t,
        rows=torch.arange(len(scores)),
        length=torch.full((len(scores),), t + 1),
        features=features,
        table=lambda: (scores[:, None, None], allowed[:, None, None]),
    )
