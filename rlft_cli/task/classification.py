"""Text classification: one decision for each text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from rlft_cli.errors import RlftError
from rlft_cli.metrics.classification import compare_classes, confusion_matrix, score_classes
from rlft_cli.model import Codec
from rlft_cli.task import Decisions, Row, State
from rlft_cli.task.windows import Window, pad_windows, text_windows


@dataclass(frozen=True, kw_only=True)
class Classification:
    """Settings of the classification task."""

    decisions: ClassVar[Decisions] = "classes"
    rows: ClassVar[str] = "labelled_text"

    max_window_tokens: Annotated[int, "[8, inf)"]
    max_windows: Annotated[int, "[1, inf)"]

    def fit(self, rows: Sequence[Row]) -> list[str]:
        """The labels in alphabetical order."""
        return sorted({row["label"] for row in rows})

    def build(self, labels: list[str], codec: Codec) -> ClassificationTask:
        """Bind to the labels and to a model's codec."""
        return ClassificationTask(self, labels, codec)


class ClassificationTask:
    """Texts as episodes of one decision; a long text is read in windows and pooled over all of them."""

    decisions: ClassVar[Decisions] = "classes"
    rows: ClassVar[str] = "labelled_text"
    primary = "accuracy"

    def __init__(self, settings: Classification, labels: list[str], codec: Codec) -> None:
        self.settings, self.labels, self.codec = settings, labels, codec
        self._number = {label: n for n, label in enumerate(labels)}
        self._texts: list[tuple[Row, list[Window]]] = []

    def add(self, rows: Sequence[Row]) -> list[int]:
        """Tokenise texts."""
        first = len(self._texts)
        limit = min(self.settings.max_window_tokens, self.codec.max_tokens)
        for row, ids in zip(rows, self.codec.text_ids([row["text"] for row in rows]), strict=True):
            self._texts.append((dict(row), text_windows(ids, limit, self.settings.max_windows, self.codec)))
        return list(range(first, len(self._texts)))

    def ask(self, rows: Sequence[Row]) -> list[int]:
        """Add rows to be answered; their labels are not read."""
        return self.add(rows)

    def cost(self, ids: Sequence[int]) -> list[int]:
        """Input tokens of each text, all windows together."""
        return [sum(len(w.ids) for w in self._texts[i][1]) for i in ids]

    def collate(self, ids: Sequence[int]) -> dict[str, Tensor]:
        """Windows [W, L] and the text [W] that each belongs to."""
        groups = [self._texts[i][1] for i in ids]
        row = torch.tensor([b for b, group in enumerate(groups) for _ in group])
        inputs = pad_windows([window for group in groups for window in group], self.codec.pad_id)
        return {"id": torch.tensor(ids), **inputs, "window_row": row}

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
        """Reference classes [B, 1]; RlftError for a label that training did not know."""
        for row in (self._texts[i][0] for i in ids):
            if row["label"] not in self._number:
                known = ", ".join(self.labels[:12])
                raise RlftError(f"{row['origin']}: label {row['label']!r} is not among the model's labels {known}")
        action = torch.tensor([[self._number[self._texts[i][0]["label"]]] for i in ids])
        return action, torch.ones_like(action, dtype=torch.bool)

    def contexts(self, ids: Sequence[int]) -> list[Any]:
        """The text of each example."""
        return [self._texts[i][0]["text"] for i in ids]

    def references(self, ids: Sequence[int]) -> list[Any]:
        """Reference label of each text."""
        return [self._texts[i][0]["label"] for i in ids]

    def decode(self, action: Tensor, mask: Tensor, ids: Sequence[int]) -> list[Any]:
        """The chosen label of each text."""
        return [self.labels[a] for a in action[:, 0].tolist()]

    def score(
        self, predictions: Sequence[Any], references: Sequence[Any], seed: int, resamples: int
    ) -> dict[str, dict[str, float]]:
        """Accuracy, macro-F1, MCC and F1 per class with 95 % intervals."""
        return score_classes(list(predictions), list(references), seed, resamples)

    def compare(
        self, ours: Sequence[Any], theirs: Sequence[Any], references: Sequence[Any], seed: int, resamples: int
    ) -> dict[str, dict[str, float]]:
        """Differences, ours minus theirs, of the metrics of ``score``, with paired 95 % bootstrap intervals."""
        return compare_classes(ours, theirs, references, seed, resamples)

    def details(self, predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, Any]:
        """The confusion matrix: rows are references, columns predictions, both in the order of ``labels``."""
        labels = [*self.labels, *sorted(set(references) - set(self.labels))]
        counts = confusion_matrix(predictions, references, labels).tolist()
        return {"confusion_matrix": {"labels": labels, "counts": counts}}

    def signatures(self) -> dict[str, str]:
        """How the metrics were computed, for reports."""
        return {}
