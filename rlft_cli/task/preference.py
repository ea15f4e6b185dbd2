"""Preferences as episodes of one decision: which of two replies to a prompt is the better one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from rlft_cli.errors import RlftError
from rlft_cli.metrics.bootstrap import Floats, clustered_mean
from rlft_cli.model import Codec
from rlft_cli.task import Decisions, Row, State
from rlft_cli.task.prompts import TurnsPrompt, check_turns
from rlft_cli.task.replies import LeftOut, Turns, reply_action, require_room

LABELS = ["first", "second"]


@dataclass(frozen=True, kw_only=True)
class _Pair:
    prompt: list[int]
    replies: tuple[list[int], list[int]]  # ids as they are shown; the second is empty where one reply was judged
    better: int  # 0 or 1
    turns: Turns
    asked: int  # number of its prompt, which several comparisons may have


@dataclass(frozen=True, kw_only=True)
class Preference:
    """Settings of the preference task: what a model reads of prompt and replies."""

    decisions: ClassVar[Decisions] = "pairs"
    rows: ClassVar[str] = "preference"

    context_turns: Annotated[int, "[1, inf)"]
    max_prompt_tokens: Annotated[int, "[8, inf)"]
    max_reply_tokens: Annotated[int, "[1, inf)"]

    def fit(self, rows: Sequence[Row]) -> list[str]:
        """The two places in which replies are shown."""
        return list(LABELS)

    def build(self, labels: list[str], codec: Codec) -> PreferenceTask:
        """Bind to a codec; UsageError where prompt and reply are longer than the model reads."""
        require_room(self.max_prompt_tokens, self.max_reply_tokens, codec)
        return PreferenceTask(self, codec)


class PreferenceTask:
    """Comparisons of two replies, and judgements of single ones, which are comparisons with nothing (of reward 0).

    The order in which two replies are shown is drawn by their hash, so that it tells nothing.
    """

    decisions: ClassVar[Decisions] = "pairs"
    rows: ClassVar[str] = "preference"
    primary = "accuracy"

    def __init__(self, settings: Preference, codec: Codec) -> None:
        self.settings, self.codec = settings, codec
        self.labels = list(LABELS)
        self.left_out = LeftOut()
        self._prompt = TurnsPrompt(context_turns=settings.context_turns, max_prompt_tokens=settings.max_prompt_tokens)
        self._pairs: list[_Pair] = []
        self._asked: dict[tuple[tuple[str, str], ...], int] = {}  # numbers of prompts

    def add(self, rows: Sequence[Row]) -> list[int]:
        """Tokenise comparisons; the better reply is the first or the second one by chance, the same every time."""
        return self._add(rows, shuffled=True)

    def ask(self, rows: Sequence[Row]) -> list[int]:
        """Add rows to be judged: the reply under "chosen" is shown first."""
        return self._add(rows, shuffled=False)

    def _add(self, rows: Sequence[Row], *, shuffled: bool) -> list[int]:
        first = len(self._pairs)
        texts = [row[key] for row in rows for key in ("chosen", "rejected") if row[key] is not None]
        ids = iter(self.codec.text_ids(texts) if texts else [])
        for row in rows:
            check_turns(row)
            chosen, rejected = (None if row[key] is None else self._reply(next(ids)) for key in ("chosen", "rejected"))
            shown = [reply for reply in (chosen, rejected) if reply is not None]
            if not shown:
                raise RlftError(f"{row['origin']}: has no reply to judge; expected one or two")
            better = 0 if chosen is not None else 1
            if len(shown) == 2 and shuffled and _second(row):
                shown, better = shown[::-1], 1
            self._pairs.append(
                _Pair(
                    prompt=self._prompt.ids(row["turns"], row["origin"], self.codec, self.left_out),
                    replies=(shown[0], shown[1] if len(shown) == 2 else []),
                    better=better,
                    turns=row["turns"],
                    asked=self._number(row["turns"]),
                )
            )
        return list(range(first, len(self._pairs)))

    def _number(self, turns: Turns) -> int:
        return self._asked.setdefault(tuple((turn["role"], turn["content"]) for turn in turns), len(self._asked))

    def _reply(self, ids: list[int]) -> list[int]:
        """Reply ids with their end; a reply of which nothing can be written is read as silence."""
        return reply_action(self.codec, ids, self.settings.max_reply_tokens, self.left_out, None) or [self.codec.eos_id]

    def cost(self, ids: Sequence[int]) -> list[int]:
        """Input tokens of each comparison: the prompt is read with each reply."""
        return [self._cost(self._pairs[n]) for n in ids]

    def _cost(self, pair: _Pair) -> int:
        return sum(len(pair.prompt) + len(reply) for reply in pair.replies if reply)

    def collate(self, ids: Sequence[int]) -> dict[str, Tensor]:
        """Prompts [B, P] padded on the left, replies [B, 2, R] padded on the right, and their masks (bool)."""
        pairs = [self._pairs[n] for n in ids]
        pad, width = self.codec.pad_id, max(len(pair.prompt) for pair in pairs)
        longest = max(len(reply) for pair in pairs for reply in pair.replies)
        prompts = [[pad] * (width - len(pair.prompt)) + pair.prompt for pair in pairs]
        replies = [[reply + [pad] * (longest - len(reply)) for reply in pair.replies] for pair in pairs]
        length = torch.tensor([[len(reply) for reply in pair.replies] for pair in pairs])
        size = torch.tensor([len(pair.prompt) for pair in pairs])
        return {
            "id": torch.tensor(list(ids), dtype=torch.int64),
            "prompt_ids": torch.tensor(prompts, dtype=torch.int64),
            "prompt_mask": torch.arange(width)[None, :] >= width - size[:, None],
            "reply_ids": torch.tensor(replies, dtype=torch.int64),
            "reply_mask": torch.arange(longest) < length[..., None],
        }

    def reset(self, observation: dict[str, Tensor], samples: int) -> State:
        """Before the decision."""
        length = torch.ones_like(observation["id"]).repeat_interleave(samples)
        return State(t=0, previous=torch.full_like(length, -1), length=length, done=length <= 0)

    def step(self, state: State, action: Tensor) -> State:
        """The episode ends at once."""
        return State(t=state.t + 1, previous=action, length=state.length, done=torch.ones_like(state.done))

    def truncated(self, action: Tensor, mask: Tensor) -> Tensor:
        """Never."""
        return torch.zeros(action.shape[0], dtype=torch.bool, device=action.device)

    def demonstration(self, ids: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Which reply was preferred [B, 1]: 0 the first, 1 the second."""
        action = torch.tensor([[self._pairs[n].better] for n in ids])
        return action, torch.ones_like(action, dtype=torch.bool)

    def contexts(self, ids: Sequence[int]) -> list[Turns]:
        """The turns of each prompt."""
        return [self._pairs[n].turns for n in ids]

    def references(self, ids: Sequence[int]) -> list[Any]:
        """Place of the better reply: "first" or "second"."""
        return [LABELS[self._pairs[n].better] for n in ids]

    def decode(self, action: Tensor, mask: Tensor, ids: Sequence[int]) -> list[Any]:
        """Of each comparison the chosen place, the number of its prompt, and the place of the reply of more tokens.

        {"preferred": "first", "prompt": 0, "longer": "second"}; "longer" is None of a single reply and where none is.
        """
        chosen = zip(action[:, 0].tolist(), (self._pairs[n] for n in ids), strict=True)
        return [{"preferred": LABELS[a], "prompt": pair.asked, "longer": _longer(pair)} for a, pair in chosen]

    def score(
        self, predictions: Sequence[Any], references: Sequence[Any], seed: int, resamples: int
    ) -> dict[str, dict[str, float]]:
        """Part of the comparisons that are decided as the reference does, with a 95 % interval over prompts.

        accuracy_longer and accuracy_shorter are of those alone whose better reply is the longer, or the shorter, one of two:
        where they lie far apart, length decides. Each is there where such comparisons are.
        """
        if not predictions:
            raise RlftError("nothing to score: 0 comparisons were given, at least 1 was expected; is the split empty?")
        return _means(_right(predictions, references), predictions, references, seed, resamples)

    def compare(
        self, ours: Sequence[Any], theirs: Sequence[Any], references: Sequence[Any], seed: int, resamples: int
    ) -> dict[str, dict[str, float]]:
        """Differences, ours minus theirs, of the metrics of ``score``, with paired 95 % bootstrap intervals."""
        gain = np.subtract(_right(ours, references), _right(theirs, references))
        return _means(gain, ours, references, seed, resamples)

    def details(self, predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, Any]:
        """What was left out of all rows so far."""
        return {"left_out": asdict(self.left_out)}

    def signatures(self) -> dict[str, str]:
        """How the metrics were computed, for reports."""
        return {}


def _right(predictions: Sequence[Any], references: Sequence[Any]) -> list[float]:
    return [float(one["preferred"] == better) for one, better in zip(predictions, references, strict=True)]


def _means(
    values: Sequence[float] | Floats, predictions: Sequence[Any], references: Sequence[Any], seed: int, resamples: int
) -> dict[str, dict[str, float]]:
    """Means over all comparisons, and over those whose better reply is the longer, or the shorter, one of two."""
    better = [
        None if one["longer"] is None else one["longer"] == reference
        for one, reference in zip(predictions, references, strict=True)
    ]
    chosen = {
        "accuracy": range(len(better)),
        "accuracy_longer": [n for n, longer in enumerate(better) if longer],
        "accuracy_shorter": [n for n, longer in enumerate(better) if longer is False],
    }
    return {
        name: clustered_mean([values[n] for n in some], [predictions[n]["prompt"] for n in some], seed, resamples)
        for name, some in chosen.items()
        if some
    }


def _longer(pair: _Pair) -> str | None:
    first, second = map(len, pair.replies)
    return None if first == second or not second else LABELS[int(second > first)]


def _second(row: Row) -> bool:
    """Whether the preferred reply is shown second: a coin thrown by the texts themselves."""
    text = "\n".join([*(turn["content"] for turn in row["turns"]), *sorted((row["chosen"], row["rejected"]))])
    lower_first = hashlib.sha256(text.encode()).digest()[0] % 2 == 0
    return bool((row["chosen"] <= row["rejected"]) != lower_first)


__all__ = ["LABELS", "Preference", "PreferenceTask"]
