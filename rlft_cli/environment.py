"""Tagging as a Gymnasium environment, one sentence an episode and one word a step, for agents that others wrote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rlft_cli.errors import RlftError, UsageError
from rlft_cli.model.words import legal_transitions
from rlft_cli.reward import Batch, Reward
from rlft_cli.task import Row

try:
    import gymnasium
    from gymnasium import spaces
except ImportError as problem:
    raise RlftError("rlft_cli.environment needs Gymnasium; type pip install 'rlft[gym]'") from problem

Observation = dict[str, npt.NDArray[np.int64]]


class TaggingEnvironment(gymnasium.Env[dict[str, Any], np.int64]):
    """The decisions of ``task=ner`` on given sentences, paid by any reward of rlft.

    An observation is the whole sentence and the tags so far, so that what follows depends on nothing else, whatever the
    reward: "words" [L] numbers of the words, 0 beyond the end, and "tags" [L] numbers of the tags plus one, 0 where none
    was given yet; L is the longest sentence. An action is the number of a tag. ``info["action_mask"]`` [A] int8 says
    which tags are legal next, as ``action_space.sample(mask)`` reads it. An I- that goes on with nothing is taken for the
    B- of its type: agents without a mask reach the same sequences, and the optimum is the same.

    A step pays by how much the rewards up to it have grown, with O for all that follows. Over a sentence that is the sum
    that rlft pays; step by step it is the same where a reward depends on nothing that comes after it.
    """

    def __init__(self, rows: Sequence[Row], *, labels: Sequence[str], reward: Reward) -> None:
        """Sentences ("words" and "tags" of each row) and their tags, as ``Ner.fit`` finds them; UsageError if unfit."""
        _check(rows, labels)
        self.rows, self.labels, self.reward = list(rows), list(labels), reward
        self.metadata = {"render_modes": []}
        words = sorted({word for row in rows for word in row["words"]})
        self._longest = max(len(row["words"]) for row in rows)
        self._number = {word: n for n, word in enumerate(words, start=1)}
        self._legal = legal_transitions(self.labels).numpy()  # [A + 1, A]
        self._row, self._tags, self._paid = self.rows[0], list[int](), 0.0
        self._over = True
        self.action_space = spaces.Discrete(len(self.labels))
        self.observation_space = spaces.Dict(
            {
                "words": spaces.MultiDiscrete([len(words) + 1] * self._longest),
                "tags": spaces.MultiDiscrete([len(self.labels) + 1] * self._longest),
            }
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin a sentence: one at random, or that of number ``options["sentence"]``; UsageError where there is none."""
        super().reset(seed=seed)
        chosen = (options or {}).get("sentence", int(self.np_random.integers(len(self.rows))))
        if chosen not in range(len(self.rows)):
            raise UsageError(f"options: sentence={chosen!r}; expected a whole number from 0 to {len(self.rows) - 1}")
        self._row = self.rows[chosen]
        self._tags, self._paid, self._over = [], 0.0, False
        return self._observe(), self._told()

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Tag the next word; UsageError where there is none."""
        if self._over:
            raise UsageError("there is no word left to tag: call reset() first")
        label = int(action)
        if not self._allowed()[label]:
            label = self.labels.index(f"B-{self.labels[label][2:]}")
        self._tags.append(label)
        paid = self._worth()
        earned, self._paid = paid - self._paid, paid
        self._over = len(self._tags) == len(self._row["words"])
        return self._observe(), earned, self._over, False, self._told()

    def _allowed(self) -> npt.NDArray[np.bool_]:
        """Which tags [A] are legal next."""
        legal: npt.NDArray[np.bool_] = self._legal[self._tags[-1] if self._tags else len(self.labels)]
        return legal

    def _worth(self) -> float:
        """Rewards up to the last tagged word, with O for all that follows."""
        missing = len(self._row["words"]) - len(self._tags)
        action = torch.tensor([[*self._tags, *[self.labels.index("O")] * missing]])
        names = [self.labels[label] for label in action[0].tolist()]
        batch = Batch(
            references=[self._row["tags"]], predictions=[names], labels=self.labels, contexts=[self._row["words"]]
        )
        reward = self.reward(action, torch.ones_like(action, dtype=torch.bool), batch)
        return float(reward[0, : len(self._tags)].double().sum())

    def _observe(self) -> Observation:
        words, tags = np.zeros((2, self._longest), np.int64)
        words[: len(self._row["words"])] = [self._number[word] for word in self._row["words"]]
        tags[: len(self._tags)] = np.array(self._tags, np.int64) + 1
        return {"words": words, "tags": tags}

    def _told(self) -> dict[str, Any]:
        return {"action_mask": self._allowed().astype(np.int8)}


def _check(rows: Sequence[Row], labels: Sequence[str]) -> None:
    """UsageError for sentences without words, and for labels that cannot be decided one by one."""
    empty = next((n for n, row in enumerate(rows) if not row["words"] or len(row["words"]) != len(row["tags"])), None)
    if not rows or empty is not None:
        which = "there is no sentence" if empty is None else f"sentence {empty} has not one tag for each of its words"
        raise UsageError(f"{which}; expected rows with 'words' and as many 'tags', at least one of each")
    missing = [f"B-{label[2:]}" for label in labels if label.startswith("I-") and f"B-{label[2:]}" not in labels]
    missing += [] if "O" in labels else ["O"]
    if missing:
        raise UsageError(f"the labels lack {', '.join(missing)}; take those that Ner.fit finds in the rows")


__all__ = ["Observation", "TaggingEnvironment"]
