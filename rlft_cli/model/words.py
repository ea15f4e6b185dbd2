"""Policies over tags and classes: one encoder pass, then a small head that the decisions walk through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rlft_cli.model import Output
from rlft_cli.model.head import Drawn, Head, drawn_of, load_heads
from rlft_cli.task import State


def legal_transitions(tags: Sequence[str]) -> Tensor:
    """BIO legality [A + 1, A] of (previous tag, tag); the last row is the start of a sentence.

    I-X may follow B-X or I-X only; everything else may follow anything (Ramshaw and Marcus 1995, IOB2).
    """
    legal = torch.ones(len(tags) + 1, len(tags), dtype=torch.bool)
    for n, tag in enumerate(tags):
        if tag.startswith("I-"):
            allowed = {f"B-{tag[2:]}", tag}
            legal[:, n] = torch.tensor([previous in allowed for previous in tags] + [False])
    return legal


@dataclass(frozen=True, kw_only=True)
class WordCache:
    """Features of every decision, read once."""

    features: Tensor  # [N, T, H + D] before the previous action is added
    drawn: Drawn


class TagPolicy(nn.Module):
    """Scores of tags in context; the previous tag is part of the state and masks illegal tags."""

    def __init__(
        self,
        *,
        body: nn.Module,
        width: int,
        tags: Sequence[str],
        head_width: int,
        dropout: float,
        reads: frozenset[str],
    ) -> None:
        super().__init__()
        self.body = body
        self.actions, self.width = len(tags), head_width
        self.head = Head(width, head_width, len(tags), len(tags) + 1, dropout, reads)
        self.legal: Tensor
        self.register_buffer("legal", legal_transitions(tags), persistent=False)

    def _features(self, observation: dict[str, Tensor]) -> Tensor:
        hidden = self.body(observation["input_ids"], observation["attention_mask"])  # [W, L, D]
        words = hidden[observation["word_window"], observation["word_position"]]  # [B, T, D]
        with torch.autocast(words.device.type, enabled=False):  # float32 head: acting and learning agree (law 1)
            return self.head.features(words.float())

    def _score(self, features: Tensor, previous: Tensor, drawn: Drawn) -> Output:
        previous = torch.where(previous < 0, self.actions, previous)
        with torch.autocast(features.device.type, enabled=False):
            output: Output = self.head(features, previous, self.legal[previous], drawn)
        return output

    def forward(self, observation: dict[str, Tensor], action: Tensor) -> Output:
        """Score known tags: action [N, T] -> scores [N, T, A], N = B * k."""
        features = self._features(observation)
        features = features.repeat_interleave(action.shape[0] // features.shape[0], dim=0)
        start = torch.full_like(action[:, :1], -1)
        return self._score(features, torch.cat([start, action[:, :-1]], dim=1), drawn_of(observation))

    def begin(self, observation: dict[str, Tensor], samples: int) -> WordCache:
        """Encode the sentences once for ``samples`` episodes each."""
        features = self._features(observation).repeat_interleave(samples, dim=0)
        return WordCache(features=features, drawn=drawn_of(observation))

    def step(self, cache: WordCache, state: State) -> tuple[Output, WordCache]:
        """Scores [N, A] of the tag of word ``state.t``."""
        return self._score(cache.features[:, state.t], state.previous, cache.drawn), cache

    def table(self, cache: WordCache) -> Tensor:
        """Scores [N, T, A + 1, A] of every tag after every previous tag; the last of those is the start."""
        previous = torch.arange(self.actions + 1, device=cache.features.device)
        previous = previous.expand(*cache.features.shape[:2], -1)  # [N, T, A + 1]
        features = cache.features[:, :, None].expand(-1, -1, self.actions + 1, -1)
        return self._score(features, previous, cache.drawn).scores


class ClassPolicy(nn.Module):
    """Scores of classes of a text; one decision."""

    def __init__(
        self,
        *,
        body: nn.Module,
        width: int,
        classes: Sequence[str],
        head_width: int,
        dropout: float,
        pooling: str,
        reads: frozenset[str],
    ) -> None:
        super().__init__()
        self.body = body
        self.pooling = pooling
        self.actions, self.width = len(classes), head_width
        self.head = Head(width, head_width, len(classes), 0, dropout, reads)

    def _features(self, observation: dict[str, Tensor]) -> Tensor:
        mask, row = observation["attention_mask"], observation["window_row"]
        hidden = self.body(observation["input_ids"], mask)  # [W, L, D]
        with torch.autocast(hidden.device.type, enabled=False):
            weight = mask.float() if self.pooling == "mean" else _first_of(mask).float()
            total = hidden.new_zeros(observation["id"].shape[0], hidden.shape[2], dtype=torch.float32)
            total = total.index_add(0, row, (hidden.float() * weight[..., None]).sum(1))
            count = torch.zeros_like(total[:, 0]).index_add(0, row, weight.sum(1))
            return self.head.features(total / count[:, None]).unsqueeze(1)  # [B, 1, H]

    def forward(self, observation: dict[str, Tensor], action: Tensor) -> Output:
        """Score the classes: action [N, 1] -> scores [N, 1, A]."""
        features = self._features(observation)
        features = features.repeat_interleave(action.shape[0] // features.shape[0], dim=0)
        return self._score(features, drawn_of(observation))

    def _score(self, features: Tensor, drawn: Drawn) -> Output:
        with torch.autocast(features.device.type, enabled=False):
            output: Output = self.head(features, None, None, drawn)
        return output

    def begin(self, observation: dict[str, Tensor], samples: int) -> WordCache:
        """Encode the texts once for ``samples`` episodes each."""
        features = self._features(observation).repeat_interleave(samples, dim=0)
        return WordCache(features=features, drawn=drawn_of(observation))

    def step(self, cache: WordCache, state: State) -> tuple[Output, WordCache]:
        """Scores [N, A] of the one decision."""
        return self._score(cache.features[:, state.t], cache.drawn), cache

    def table(self, cache: WordCache) -> Tensor:
        """Scores [N, 1, 1, A] of the one decision, before which there is none."""
        return self._score(cache.features, cache.drawn).scores[:, :, None]


def _first_of(mask: Tensor) -> Tensor:
    """Mark the first input of each window: [W, L]."""
    return (torch.arange(mask.shape[1], device=mask.device)[None, :] == 0) & mask.bool()


def word_policy(
    body: nn.Module,
    task: Any,
    head_width: int,
    dropout: float,
    pooling: str,
    reads: frozenset[str],
    folder: Path | None,
) -> nn.Module:
    """The policy over tags or classes on a body; heads come from the folder where it has them."""
    width: Any = body.width
    policy: nn.Module
    if task.decisions == "tags":
        policy = TagPolicy(
            body=body, width=width, tags=task.labels, head_width=head_width, dropout=dropout, reads=reads
        )
    else:
        policy = ClassPolicy(
            body=body,
            width=width,
            classes=task.labels,
            head_width=head_width,
            dropout=dropout,
            pooling=pooling,
            reads=reads,
        )
    if folder is not None:
        load_heads(policy, folder)
    return policy
