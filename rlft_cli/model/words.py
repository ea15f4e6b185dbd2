"""Policies over tags and classes: one encoder pass, then a small head that the decisions walk through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rlft_cli.episode import ILLEGAL_SCORE
from rlft_cli.errors import RlftError
from rlft_cli.model import Output
from rlft_cli.returns import categorical_mean, dueling
from rlft_cli.task import State

HEADS_FILE = "heads.safetensors"
Drawn = dict[str, Tensor]  # of the observation, what an explorer drew for each episode


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


class NoiseScale(nn.Module):
    """What factorised noise adds to a linear layer: e_out * (S (e_in * x) + s) (Fortunato et al. 2018, eqs. 9 to 11).

    S and s are learned and start at 1 / sqrt(H); the paper's sigma_0 is a factor of e_out.
    """

    def __init__(self, width: int, actions: int) -> None:
        super().__init__()
        self.widths = [width, actions]
        self.weight = nn.Parameter(torch.full((actions, width), width**-0.5))
        self.bias = nn.Parameter(torch.full((actions,), width**-0.5))

    def forward(self, features: Tensor, noise: Tensor) -> Tensor:
        """Scores to add [..., A] for features [..., H] and noise [..., H + A], which is e_in beside e_out."""
        into, out = noise.split(self.widths, dim=-1)
        added: Tensor = out * nn.functional.linear(features * into, self.weight, self.bias)
        return added


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """How many numbers of each action the algorithm reads beside, or in place of, its score.

    "heads:n": n of their own beside it (a reward model, Q heads). "quantiles:n": n quantiles of the return, whose mean is
    the score. "atoms:n:low:high": n logits of a distribution over evenly spaced returns, whose mean is the score.
    """

    heads: int = 0
    quantiles: int = 0
    atoms: int = 0
    low: float = 0.0
    high: float = 0.0

    @staticmethod
    def of(reads: frozenset[str]) -> Numbers:
        """From what the algorithm reads."""
        told = dict(name.split(":", 1) for name in reads if ":" in name)
        count, low, high = [*told.get("atoms", "0:0:0").split(":")]
        return Numbers(
            heads=int(told.get("heads", "0")),
            quantiles=int(told.get("quantiles", "0")),
            atoms=int(count),
            low=float(low),
            high=float(high),
        )


class Head(nn.Module):
    """Hidden features to scores, and to values or a dueling split where the algorithm reads them."""

    def __init__(
        self, width: int, head_width: int, actions: int, histories: int, dropout: float, reads: frozenset[str]
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(width, head_width)
        self.history = nn.Embedding(histories, head_width) if histories else None
        self.norm = nn.LayerNorm(head_width)
        self.numbers = Numbers.of(reads)
        self.score = nn.Linear(head_width, actions * max(1, self.numbers.quantiles, self.numbers.atoms))
        self.heads = nn.Linear(head_width, actions * self.numbers.heads) if self.numbers.heads else None
        self.advantage_value = nn.Linear(head_width, 1) if "dueling" in reads else None
        self.value = nn.Linear(head_width, 1) if "value" in reads else None
        self.noise = NoiseScale(head_width, actions) if "noise" in reads else None
        nn.init.normal_(self.score.weight, std=0.02)  # scores near 0: optimistic under a 0/1 reward (METHODS 2.3)
        nn.init.zeros_(self.score.bias)
        if self.heads is not None:
            nn.init.normal_(self.heads.weight, std=0.02)
            nn.init.zeros_(self.heads.bias)
        if self.history is not None:
            nn.init.normal_(self.history.weight, std=0.02)

    def features(self, hidden: Tensor) -> Tensor:
        """Project hidden states [..., D] once; what every history shares [..., H]."""
        projected: Tensor = self.project(self.dropout(hidden))
        return projected

    def forward(self, features: Tensor, previous: Tensor | None, legal: Tensor | None, drawn: Drawn) -> Output:
        """Scores [..., A] of features [..., H] after the actions ``previous`` [...], legal [..., A].

        ``drawn`` [N, ...] is what an explorer drew for each episode; features are [N, H] or have more dimensions after N.
        """
        if self.history is not None and previous is not None:
            features = features + self.history(previous)
        features = torch.relu(self.norm(features))
        if "feature_mask" in drawn:
            features = features * _beside(features, drawn["feature_mask"])
        scores, heads = self._numbers(features)
        if self.noise is not None and "weight_noise" in drawn:
            scores = scores + self.noise(features, _beside(features, drawn["weight_noise"]))
        if self.advantage_value is not None:
            allowed = legal if legal is not None else torch.ones_like(scores, dtype=torch.bool)
            scores = dueling(self.advantage_value(features), scores, allowed)
        if legal is not None:
            scores = scores.masked_fill(~legal, ILLEGAL_SCORE)
        value = self.value(features).squeeze(-1) if self.value is not None else None
        return Output(scores=scores, value=value, features=features, heads=heads)

    def _numbers(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scores [..., A], and the numbers [..., A, n] that the algorithm reads beside them or that they are the mean of."""
        scores: Tensor = self.score(features)
        told = self.numbers
        if told.quantiles or told.atoms:
            each = scores.unflatten(-1, (-1, told.quantiles or told.atoms))
            if told.quantiles:
                return each.mean(-1), each
            support = torch.linspace(told.low, told.high, told.atoms, device=each.device)
            return categorical_mean(each, support), each
        if self.heads is None:
            return scores, None
        heads: Tensor = self.heads(features)
        return scores, heads.unflatten(-1, (-1, told.heads))


def _beside(features: Tensor, drawn: Tensor) -> Tensor:
    """Drawn numbers [N, X] as [N, 1, ..., X] beside features [N, ..., H]."""
    return drawn.view(drawn.shape[0], *[1] * (features.dim() - 2), drawn.shape[1])


def _drawn(observation: dict[str, Tensor]) -> Drawn:
    return {name: observation[name] for name in ("feature_mask", "weight_noise") if name in observation}


@dataclass(frozen=True, kw_only=True)
class WordCache:
    """Features of every decision, read once."""

    features: Tensor  # [N, T, H] before the previous action is added
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
        return self._score(features, torch.cat([start, action[:, :-1]], dim=1), _drawn(observation))

    def begin(self, observation: dict[str, Tensor], samples: int) -> WordCache:
        """Encode the sentences once for ``samples`` episodes each."""
        features = self._features(observation).repeat_interleave(samples, dim=0)
        return WordCache(features=features, drawn=_drawn(observation))

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
        return self._score(features, _drawn(observation))

    def _score(self, features: Tensor, drawn: Drawn) -> Output:
        with torch.autocast(features.device.type, enabled=False):
            output: Output = self.head(features, None, None, drawn)
        return output

    def begin(self, observation: dict[str, Tensor], samples: int) -> WordCache:
        """Encode the texts once for ``samples`` episodes each."""
        features = self._features(observation).repeat_interleave(samples, dim=0)
        return WordCache(features=features, drawn=_drawn(observation))

    def step(self, cache: WordCache, state: State) -> tuple[Output, WordCache]:
        """Scores [N, A] of the one decision."""
        return self._score(cache.features[:, state.t], cache.drawn), cache

    def table(self, cache: WordCache) -> Tensor:
        """Scores [N, 1, 1, A] of the one decision, before which there is none."""
        return self._score(cache.features, cache.drawn).scores[:, :, None]


def _first_of(mask: Tensor) -> Tensor:
    """Mark the first input of each window: [W, L]."""
    return (torch.arange(mask.shape[1], device=mask.device)[None, :] == 0) & mask.bool()


def save_heads(policy: nn.Module, folder: Path) -> None:
    """Write every weight that is not in ``policy.body``."""
    heads = {k: v.contiguous() for k, v in policy.state_dict().items() if not k.startswith("body.")}
    save_file(heads, folder / HEADS_FILE)


def load_heads(policy: nn.Module, folder: Path) -> None:
    """Load the heads where the folder has them (a checkpoint of rlft); RlftError where they do not fit.

    A value or dueling head that the checkpoint lacks (it was trained by another algorithm) keeps its start.
    """
    if not (folder / HEADS_FILE).exists():
        return
    stored, own = load_file(folder / HEADS_FILE), policy.state_dict()
    wrong = [k for k, v in stored.items() if k in own and own[k].shape != v.shape]
    if wrong:
        raise RlftError(
            f"{folder / HEADS_FILE}: {wrong[0]} has shape {list(stored[wrong[0]].shape)}, this task and model need "
            f"{list(own[wrong[0]].shape)}; start from a checkpoint with the same labels and model.head_width"
        )
    policy.load_state_dict({k: v for k, v in stored.items() if k in own}, strict=False)


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


__all__ = ["ClassPolicy", "TagPolicy", "legal_transitions", "load_heads", "save_heads", "word_policy"]
