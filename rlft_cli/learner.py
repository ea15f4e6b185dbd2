"""learn(): the one loop. Roll out or demonstrate, reward, feedback, remember, prepare, update, yield."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from rlft_cli.collect import collect
from rlft_cli.errors import RewardFailure
from rlft_cli.training import Training
from rlft_cli.update import update


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What happened in one step of the loop."""

    step: int
    passes: float
    done: float  # part of the budget spent, 0 to 1
    pass_ended: bool
    signals: dict[str, float]


def learn(training: Training) -> Iterator[Progress]:
    """Train until the budget is spent; NonFiniteError after three updates in a row that are not numbers.

    RewardFailure where a reward cannot be had: the training is then as it was before that step.
    """
    t = training
    while t.done < 1.0:
        # RL acts and learns without dropout: the same policy (law 8), and so does what compares with a reference policy.
        t.policy.train(t.algorithm.needs == "labels" and t.reference is None)
        place = t.place()
        ids, pass_ended = t.sampler.next()
        try:
            signals, news = collect(t, ids)
        except RewardFailure:  # of a reward that is not ours: a function, a server
            t.go_back(place)
            raise
        if _all_ready(t, news):
            for _ in range(t.memory.replay_ratio):
                batch = t.memory.sample(t.optim.batch_tokens, t.optim.max_batch_episodes, t.memory_generator)
                signals.update(update(t, batch))
        t.step += 1
        t.seen += len(ids)
        yield Progress(step=t.step, passes=t.seen / len(t.sampler), done=t.done, pass_ended=pass_ended, signals=signals)


def _all_ready(t: Training, news: bool) -> bool:
    """Whether every process can learn: an update is a joint work, and one that stayed away would be waited for."""
    ready = t.memory.ready() and (news or not t.memory.fresh)
    if t.accelerator.num_processes == 1:
        return ready
    able = t.accelerator.reduce(torch.tensor(float(ready), device=t.accelerator.device), "sum")
    return bool(able == t.accelerator.num_processes)
