"""What a model is: a codec between text and ids, and a policy that scores decisions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Output:
    """Scores of known decisions."""

    scores: Tensor  # [N, T, A]; illegal actions hold ILLEGAL_SCORE
    value: Tensor | None  # [N, T] state values, where the algorithm reads them
    features: Tensor | None = None  # [N, T, D] what the head reads; policies over tags and classes give it
    heads: Tensor | None = None  # [N, T, A, n] more numbers of every action, where the algorithm reads such


class Codec(Protocol):
    """Text to ids and back; one per model, saved beside the weights."""

    pad_id: int
    unk_id: int
    eos_id: int  # ends a reply; -1 for encoders
    prefix: list[int]  # ids before every input ([CLS]); may be empty
    suffix: list[int]  # ids after every input ([SEP]); may be empty
    max_tokens: int  # longest input, prefix and suffix included

    def word_pieces(self, words: Sequence[str]) -> list[list[int]]:
        """Ids of each word, at least one for every word ([UNK] where the tokenizer drops it)."""
        ...

    def text_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without prefix and suffix."""
        ...

    def chat_ids(self, turns: Sequence[dict[str, str]]) -> list[int]:
        """Ids of a conversation up to where the assistant's next reply begins, in the model's chat template."""
        ...

    def text(self, ids: Sequence[int]) -> str:
        """Text of ids, special tokens left out."""
        ...

    def save(self, folder: Path) -> None:
        """Write the tokenizer files."""
        ...


class Policy(Protocol):
    """An nn.Module that acts step by step and scores known decisions in one pass (law 1: both agree).

    Policies over tags and classes also read, beside the input, what an explorer drew for each of the N episodes:
    "feature_mask" [N, H], by which features are multiplied, and "weight_noise" [N, H + A], the factors of a noisy last
    layer (where ``reads`` held "noise" when it was built).
    """

    width: int  # H, of a decision's features; 0 where there are none
    actions: int  # A

    def __call__(self, observation: dict[str, Tensor], action: Tensor) -> Output:
        """Score ``action`` [N, T], N a multiple of the observation's B."""
        ...

    def begin(self, observation: dict[str, Tensor], samples: int) -> Any:
        """Read the input once and return a cache for N = B * samples episodes."""
        ...

    def step(self, cache: Any, state: Any) -> tuple[Output, Any]:
        """Output of the next decision, without the T: scores [N, A], value [N], features [N, D]; and the cache after it."""
        ...

    def table(self, cache: Any) -> Tensor:
        """Scores [N, T, P, A] of every decision after every previous action, the last of the P being none (the start).

        Only a policy whose state is the input and the last action has one; another raises RlftError.
        """
        ...


class Model(Protocol):
    """The configured side of a model: a frozen dataclass that opens weights and builds codec and policy."""

    decides: ClassVar[tuple[str, ...]]  # which task.decisions it can take

    def open(self) -> Path | None:
        """Folder of pretrained weights in Hub format, fetched if need be; None for a model trained from scratch."""
        ...

    def codec(self, folder: Path | None, corpus: Iterable[str]) -> Codec:
        """Tokenizer from the folder, or (folder None) built from the training texts."""
        ...

    def policy(self, folder: Path | None, task: Any, reads: frozenset[str]) -> Any:
        """Build the policy (nn.Module) for a task and what an algorithm reads; with heads where the folder has them."""
        ...
