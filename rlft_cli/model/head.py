"""The small head that turns features into scores, and the file that keeps a policy's heads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rlft_cli.episode import ILLEGAL_SCORE
from rlft_cli.errors import RlftError
from rlft_cli.model import Output
from rlft_cli.returns import categorical_mean, dueling

HEADS_FILE = "heads.safetensors"
Drawn = dict[str, Tensor]  # of the observation, what an explorer drew for each episode


def drawn_of(observation: dict[str, Tensor]) -> Drawn:
    """What an explorer drew for each episode, of an observation."""
    return {name: observation[name] for name in ("feature_mask", "weight_noise") if name in observation}


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
        """What every history shares of hidden states [..., D]: their projection, and beside it themselves [..., H + D]."""
        return torch.cat([self.project(self.dropout(hidden)), hidden.detach()], dim=-1)

    def forward(self, features: Tensor, previous: Tensor | None, legal: Tensor | None, drawn: Drawn) -> Output:
        """Scores [..., A] of features [..., H + D] after the actions ``previous`` [...], legal [..., A].

        ``drawn`` [N, ...] is what an explorer drew for each episode; features are [N, H + D] or have more dimensions after N.
        The output's features are the hidden states [..., D]: those of a pretrained body change less while it is trained.
        """
        features, hidden = features.split([self.project.out_features, self.project.in_features], dim=-1)
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
        return Output(scores=scores, value=value, features=hidden, heads=heads)

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
    stored = load_file(folder / HEADS_FILE)
    if "prompt" in stored:  # a soft prompt of tuning=prompt, which a policy over tokens reads where it has one
        policy.register_parameter("prompt", nn.Parameter(stored["prompt"]))
    own = policy.state_dict()
    wrong = [k for k, v in stored.items() if k in own and own[k].shape != v.shape]
    if wrong:
        raise RlftError(
            f"{folder / HEADS_FILE}: {wrong[0]} has shape {list(stored[wrong[0]].shape)}, this task and model need "
            f"{list(own[wrong[0]].shape)}; start from a checkpoint with the same labels and model.head_width"
        )
    policy.load_state_dict({k: v for k, v in stored.items() if k in own}, strict=False)
