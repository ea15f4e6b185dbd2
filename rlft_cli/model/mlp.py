"""A perceptron over what came to light before each act of a dialogue: small, from scratch, reads no text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, NoReturn

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rlft_cli.errors import RlftError
from rlft_cli.model import Output
from rlft_cli.model.head import Head, drawn_of, load_heads
from rlft_cli.task import State


class NoText:
    """The codec of a model that reads no text."""

    pad_id, unk_id, eos_id, max_tokens = 0, 0, -1, 1
    prefix: list[int]
    suffix: list[int]

    def __init__(self) -> None:
        self.prefix, self.suffix = [], []

    def word_pieces(self, words: Sequence[str]) -> NoReturn:
        """RlftError: there are no words."""
        raise _no_text()

    def text_ids(self, texts: Sequence[str]) -> NoReturn:
        """RlftError: there is no text."""
        raise _no_text()

    def chat_ids(self, turns: Sequence[dict[str, str]]) -> NoReturn:
        """RlftError: there is no text."""
        raise _no_text()

    def text(self, ids: Sequence[int]) -> NoReturn:
        """RlftError: there is no text."""
        raise _no_text()

    def save(self, folder: Path) -> None:
        """There is no tokenizer to write."""


def _no_text() -> RlftError:
    return RlftError("model=mlp reads what a dialogue system has understood, and no text; for text type model=lstm")


class Perceptron(nn.Module):
    """Linear layers with ReLU: what was seen [..., F] -> hidden states [..., H]."""

    def __init__(self, seen_width: int, hidden_width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.seen_width, self.width = seen_width, hidden_width
        steps: list[nn.Module] = []
        for n in range(layers):
            steps += [nn.Linear(hidden_width if n else seen_width, hidden_width), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*steps)

    def forward(self, seen: Tensor) -> Tensor:
        """Hidden states."""
        hidden: Tensor = self.layers(seen)
        return hidden

    def save_pretrained(self, folder: Path) -> None:
        """Write config.json and model.safetensors."""
        folder.mkdir(parents=True, exist_ok=True)
        shape = {"model_type": "rlft_mlp", "seen_width": self.seen_width, "hidden_width": self.width}
        (folder / "config.json").write_text(json.dumps(shape, indent=2) + "\n", encoding="utf-8")
        save_file(
            {name: weight.contiguous() for name, weight in self.state_dict().items()}, folder / "model.safetensors"
        )


class ActPolicy(nn.Module):
    """Scores of system acts; "seen" [N, T, F] is the state, whose last A numbers say which acts are legal."""

    def __init__(
        self, *, body: Perceptron, actions: int, head_width: int, dropout: float, reads: frozenset[str]
    ) -> None:
        super().__init__()
        self.body = body
        self.actions, self.width = actions, head_width
        self.head = Head(body.width, head_width, actions, 0, dropout, reads)

    def _score(self, seen: Tensor, drawn: dict[str, Tensor]) -> Output:
        legal = seen[..., -self.actions :] > 0.5
        legal = legal | ~legal.any(-1, keepdim=True)  # padding has no legal act, and a mean over none is no number
        with torch.autocast(seen.device.type, enabled=False):
            output: Output = self.head(self.head.features(self.body(seen)), None, legal, drawn)
        return output

    def forward(self, observation: dict[str, Tensor], action: Tensor) -> Output:
        """Score known acts: action [N, T] -> scores [N, T, A]."""
        return self._score(observation["seen"], drawn_of(observation))

    def begin(self, observation: dict[str, Tensor], samples: int) -> dict[str, Tensor]:
        """There is nothing to read before a dialogue begins; the cache is what an explorer drew."""
        return drawn_of(observation)

    def step(self, cache: dict[str, Tensor], state: State) -> tuple[Output, dict[str, Tensor]]:
        """Scores [N, A] of the next act."""
        assert state.seen is not None
        return self._score(state.seen, cache), cache

    def table(self, cache: dict[str, Tensor]) -> NoReturn:
        """RlftError: what follows an act is up to the user."""
        raise RlftError(
            "a dialogue has no table of scores: what follows an act is up to the user; type another explore="
        )


@dataclass(frozen=True, kw_only=True)
class Mlp:
    """A perceptron from scratch."""

    decides: ClassVar[tuple[str, ...]] = ("acts",)

    hidden_width: Annotated[int, "[1, inf)"]
    layers: Annotated[int, "[1, inf)"]
    head_width: Annotated[int, "[1, inf)"]
    dropout: Annotated[float, "[0, 1)"]

    def open(self) -> None:
        """Nothing to fetch: trained from scratch."""
        return

    def codec(self, folder: Path | None, corpus: Iterable[str]) -> NoText:
        """None is needed."""
        return NoText()

    def policy(self, folder: Path | None, task: Any, reads: frozenset[str]) -> ActPolicy:
        """Random weights from torch's global generator, or those of a checkpoint."""
        body = Perceptron(task.seen_width, self.hidden_width, self.layers, self.dropout)
        if folder is not None:
            _load(body, folder)
        policy = ActPolicy(
            body=body, actions=len(task.labels), head_width=self.head_width, dropout=self.dropout, reads=reads
        )
        if folder is not None:
            load_heads(policy, folder)
        return policy


def _load(body: Perceptron, folder: Path) -> None:
    try:
        body.load_state_dict(load_file(folder / "model.safetensors"))
    except Exception as problem:  # safetensors and torch raise kinds of their own
        raise RlftError(
            f"{folder / 'model.safetensors'}: cannot read the weights ({problem}); give a checkpoint that model=mlp trained "
            "for the same slots and requests, with the same model.hidden_width and model.layers"
        ) from problem


__all__ = ["ActPolicy", "Mlp", "NoText", "Perceptron"]
