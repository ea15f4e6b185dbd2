"""Named entity recognition: one BIO tag per word, decided from left to right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from rlft_cli.errors import RlftError
from rlft_cli.metrics.spans import compare_spans, score_spans
from rlft_cli.model import Codec
from rlft_cli.task import Decisions, Row, State
from rlft_cli.task.windows import Window, pad_windows, word_windows


@dataclass(frozen=True, kw_only=True)
class Ner:
    """Settings of the tagging task."""

    decisions: ClassVar[Decisions] = "tags"
    rows: ClassVar[str] = "tagged_words"

    max_window_tokens: Annotated[int, "[8, inf)"]
    window_overlap_tokens: Annotated[int, "[0, inf)"]

    def fit(self, rows: Sequence[Row]) -> list[str]:
        """O, then B- and I- of every type in alphabetical order."""
        types = sorted({tag[2:] for row in rows for tag in row["tags"] if tag != "O"})
        return ["O", *[f"{prefix}-{name}" for name in types for prefix in "BI"]]

    def build(self, labels: list[str], codec: Codec) -> NerTask:
        """Bind to the tags and to a model's codec."""
        return NerTask(self, labels, codec)


@dataclass(frozen=True, kw_only=True)
class _Sentence:
    row: Row
    windows: list[Window]
    cost: int


class NerTask:
    """Sentences as episodes; long ones are read in overlapping windows, and every word gets exactly one tag (law 5)."""

    decisions: ClassVar[Decisions] = "tags"
    rows: ClassVar[str] = "tagged_words"
    primary = "f1"

    def __init__(self, settings: Ner, labels: list[str], codec: Codec) -> None:
        self.settings, self.labels, self.codec = settings, labels, codec
        self._number = {label: n for n, label in enumerate(labels)}
        self._sentences: list[_Sentence] = []

    def add(self, rows: Sequence[Row]) -> list[int]:
        """Tokenise sentences word by word and lay them into windows."""
        vocabulary = list({word for row in rows for word in row["words"]})
        pieces = dict(zip(vocabulary, self.codec.word_pieces(vocabulary), strict=True))
        first = len(self._sentences)
        limit = min(self.settings.max_window_tokens, self.codec.max_tokens)
        for row in rows:
            windows = word_windows(
                [pieces[word] for word in row["words"]], limit, self.settings.window_overlap_tokens, self.codec
            )
            self._sentences.append(_Sentence(row=dict(row), windows=windows, cost=sum(len(w.ids) for w in windows)))
        return list(range(first, len(self._sentences)))

    def ask(self, rows: Sequence[Row]) -> list[int]:
        """Add rows to be answered; their labels are not read."""
        return self.add(rows)

    def cost(self, ids: Sequence[int]) -> list[int]:
        """Input tokens of each sentence, all windows together."""
        return [self._sentences[i].cost for i in ids]

    def collate(self, ids: Sequence[int]) -> dict[str, Tensor]:
        """Windows [W, L] and, for each word [B, T], the window and position of its first piece."""
        chosen = [self._sentences[i] for i in ids]
        width = max(len(s.row["words"]) for s in chosen)
        window, position = (
            torch.zeros(len(ids), width, dtype=torch.long),
            torch.zeros(len(ids), width, dtype=torch.long),
        )
        mask, number = torch.zeros(len(ids), width, dtype=torch.bool), 0
        for b, sentence in enumerate(chosen):
            for w in sentence.windows:
                words = slice(w.first_word, w.first_word + len(w.positions))
                window[b, words], position[b, words], mask[b, words] = number, torch.tensor(w.positions), True
                number += 1
        inputs = pad_windows([w for s in chosen for w in s.windows], self.codec.pad_id)
        return {"id": torch.tensor(ids), **inputs, "word_window": window, "word_position": position, "word_mask": mask}

    def reset(self, observation: dict[str, Tensor], samples: int) -> State:
        """Before the first word."""
        length = observation["word_mask"].sum(1).repeat_interleave(samples)
        return State(t=0, previous=torch.full_like(length, -1), length=length, done=length <= 0)

    def step(self, state: State, action: Tensor) -> State:
        """On to the next word."""
        return State(t=state.t + 1, previous=action, length=state.length, done=state.length <= state.t + 1)

    def truncated(self, action: Tensor, mask: Tensor) -> Tensor:
        """A sentence always ends by itself."""
        return torch.zeros(action.shape[0], dtype=torch.bool, device=action.device)

    def demonstration(self, ids: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Reference tags [B, T]; RlftError for a tag that training did not know."""
        rows = [self._sentences[i].row for i in ids]
        width = max(len(row["words"]) for row in rows)
        action, mask = torch.zeros(len(ids), width, dtype=torch.long), torch.zeros(len(ids), width, dtype=torch.bool)
        for b, row in enumerate(rows):
            unknown = next((tag for tag in row["tags"] if tag not in self._number), None)
            if unknown is not None:
                raise RlftError(
                    f"{row['origin']}: tag {unknown!r} is not among the model's tags {', '.join(self.labels)}"
                )
            action[b, : len(row["tags"])] = torch.tensor([self._number[tag] for tag in row["tags"]])
            mask[b, : len(row["tags"])] = True
        return action, mask

    def contexts(self, ids: Sequence[int]) -> list[Any]:
        """Words of each sentence."""
        return [self._sentences[i].row["words"] for i in ids]

    def references(self, ids: Sequence[int]) -> list[Any]:
        """Reference tags of each sentence."""
        return [self._sentences[i].row["tags"] for i in ids]

    def decode(self, action: Tensor, mask: Tensor, ids: Sequence[int]) -> list[Any]:
        """One tag per word of each sentence."""
        names, lengths = self.labels, mask.sum(1).tolist()
        return [[names[a] for a in row[:n]] for row, n in zip(action.tolist(), lengths, strict=True)]

    def score(
        self, predictions: Sequence[Any], references: Sequence[Any], seed: int, resamples: int
    ) -> dict[str, dict[str, float]]:
        """Strict span precision, recall and F1 with 95 % intervals, overall and by type; conlleval mode beside it."""
        return score_spans(list(predictions), list(references), seed, resamples)

    def compare(
        self, ours: Sequence[Any], theirs: Sequence[Any], references: Sequence[Any], seed: int, resamples: int
    ) -> dict[str, dict[str, float]]:
        """Differences, ours minus theirs, of the metrics of ``score``, with paired 95 % bootstrap intervals."""
        return compare_spans(ours, theirs, references, seed, resamples)

    def details(self, predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, Any]:
        """Nothing beside the metrics."""
        return {}

    def signatures(self) -> dict[str, str]:
        """How the metrics were computed, for reports."""
        return {"scheme": "IOB2, strict spans; *_conlleval: seqeval's default mode"}
