"""Texts that end a reply besides the model's end mark."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from rlft_cli.errors import UsageError
from rlft_cli.model import Codec


class Stops:
    """Stop strings of replies in the tokens of one model; a stop string ends a reply and is not part of its text."""

    def __init__(self, texts: Sequence[str], codec: Codec) -> None:
        if "" in texts:
            raise UsageError("task.stop holds an empty text, which would end every reply at once; leave it out")
        self.texts, self._codec = list(texts), codec
        self._stop = re.compile("|".join(map(re.escape, texts))) if texts else None
        # A token holds at least one byte, and the first of those looked back at may be cut in the middle of a letter.
        self.look_back = max((len(text.encode()) + 1 for text in texts), default=0)

    def learned(self, reply: str) -> str:
        """The part of a written reply that an episode can hold: up to the end of the first stop string."""
        end = self._stop.search(reply) if self._stop else None
        return reply[: end.end()] if end else reply

    def before(self, text: str) -> str:
        """What stands before the first stop string."""
        end = self._stop.search(text) if self._stop else None
        return text[: end.start()] if end else text

    def hold(self, ids: Sequence[int]) -> bool:
        """Whether reply ids hold a stop string."""
        return self._stop is not None and self._stop.search(self._codec.text(ids)) is not None

    def stopped(self, action: Tensor, mask: Tensor) -> Tensor:
        """Which rows [N] of tokens [N, T] hold a stop string where the mask [N, T] is True."""
        if self._stop is None:
            return torch.zeros(len(action), dtype=torch.bool, device=action.device)
        rows = zip(action.tolist(), mask.tolist(), strict=True)
        found = [self.hold([token for token, real in zip(*row, strict=True) if real]) for row in rows]
        return torch.tensor(found, device=action.device)


__all__ = ["Stops"]
