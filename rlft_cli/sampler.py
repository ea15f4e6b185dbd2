"""Which examples come next: shuffled passes cut into batches by a token budget, examples of like length together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

POOL_BATCHES = 40  # sorting inside pools of so many batches keeps passes random and padding small


def budget_batches(order: Sequence[int], cost: Sequence[int], batch_tokens: int, most: int) -> Iterator[list[int]]:
    """Cut ``order`` (places in ``cost``) into runs with longest x count <= batch_tokens and count <= most."""
    batch: list[int] = []
    longest = 0
    for place in order:
        longest = max(longest, cost[place])
        if batch and (longest * (len(batch) + 1) > batch_tokens or len(batch) == most):
            yield batch
            batch, longest = [], cost[place]
        batch.append(place)
    if batch:
        yield batch


class BatchSampler:
    """Endless passes over examples; its whole state is the pass and the place in it."""

    def __init__(self, ids: Sequence[int], cost: Sequence[int], *, batch_tokens: int, most: int, seed: int) -> None:
        self._ids, self._cost = list(ids), list(cost)
        self._batch_tokens, self._most, self._seed = batch_tokens, most, seed
        self.pass_number, self.position = 0, 0
        self._batches = self._cut()

    def __len__(self) -> int:
        """Examples in a pass."""
        return len(self._ids)

    def _cut(self) -> list[list[int]]:
        random = np.random.default_rng([self._seed, self.pass_number])
        order = random.permutation(len(self._ids))
        mean = max(1.0, float(np.mean(self._cost)))
        pool = max(1, int(POOL_BATCHES * min(self._most, self._batch_tokens / mean)))
        batches: list[list[int]] = []
        for at in range(0, len(order), pool):
            part = sorted(order[at : at + pool].tolist(), key=self._cost.__getitem__)
            batches.extend(budget_batches(part, self._cost, self._batch_tokens, self._most))
        random.shuffle(batches)
        return [[self._ids[place] for place in batch] for batch in batches]

    def next(self) -> tuple[list[int], bool]:
        """The next batch of example ids, and whether it ends a pass."""
        batch = self._batches[self.position]
        self.position += 1
        ended = self.position == len(self._batches)
        if ended:
            self.pass_number, self.position = self.pass_number + 1, 0
            self._batches = self._cut()
        return batch, ended

    def state_dict(self) -> dict[str, int]:
        """Pass and place."""
        return {"pass_number": self.pass_number, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go to a pass and place."""
        self.pass_number, self.position = state["pass_number"], state["position"]
        self._batches = self._cut()
