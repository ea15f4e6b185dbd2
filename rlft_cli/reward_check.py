"""The contract of a reward of replies, asked of it once before anything is learned from it; each breach has its message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlft_cli.errors import RlftError
from rlft_cli.metrics.bootstrap import paired_difference
from rlft_cli.reward import Batch, Reward
from rlft_cli.task import Task

EXAMPLES = 32  # each with its reference and with the reference of another one
RESAMPLES = 1000
SAME = 0.1  # part of the spread by which a reward may depend on the batch: models in bfloat16 round, and pad
TINY = 1e-6


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Replies to one context each: the references, then as many of other examples."""

    action: Tensor  # [N, T]
    mask: Tensor  # [N, T]
    batch: Batch
    right: int  # how many are references

    def select(self, places: Sequence[int]) -> Probe:
        """Some of them, in this order."""
        batch = Batch(
            references=[self.batch.references[n] for n in places],
            predictions=[self.batch.predictions[n] for n in places],
            labels=self.batch.labels,
            contexts=[self.batch.contexts[n] for n in places],
        )
        return Probe(action=self.action[places], mask=self.mask[places], batch=batch, right=0)


def check_reward(reward: Reward, task: Task, ids: Sequence[int], device: torch.device, name: str) -> str | None:
    """RlftError with the first breach: a reward is finite, one for each reply, of its own reply alone, and tells replies apart.

    Asked on up to 32 of the examples ``ids``. What is asked follows ``reward.contract``; a control is asked nothing. A
    reward that cannot be had raises what it raises. What these examples cannot tell comes back as a warning: whether
    references earn more than replies to other contexts, where the 95 % interval of the paired difference holds 0.
    """
    if reward.contract == "none":
        return None
    probe = _probe(task, ids, device)
    if probe is None:
        return None
    total = _asked(reward, probe, name)
    spread = float(total.max() - total.min())
    if spread <= TINY:
        raise _breach(
            name,
            f"pays {float(total[0]):.4g} for each of {len(total)} different replies, so there is nothing to learn from it",
            "look at what it reads of replies",
        )
    _require_own_reply(reward, probe, total, max(TINY, SAME * spread), name)
    return _order(total[: probe.right], total[probe.right :], name) if reward.contract == "reference" else None


def _order(right: Tensor, wrong: Tensor, name: str) -> str | None:
    """RlftError where references [N] surely earn no more than replies to other contexts [N]; a warning where none can say."""
    gain = paired_difference(right.tolist(), wrong.tolist(), seed=0, resamples=RESAMPLES)
    if gain["high"] <= 0:
        raise _breach(
            name,
            f"pays references {float(right.mean()):.4g} on average, and replies to other contexts {float(wrong.mean()):.4g}: "
            "more is to be better",
            "look at its sign, or at the data",
        )
    if gain["low"] > 0:
        return None
    return (
        f"reward={name}: {len(right)} references and as many replies to other contexts cannot tell whether it pays references "
        f"more ({gain['value']:.2g} [{gain['low']:.2g}, {gain['high']:.2g}]); a policy may learn from it to answer whatever "
        "pays: read its replies, and a metric that it was not trained on"
    )


def _probe(task: Task, ids: Sequence[int], device: torch.device) -> Probe | None:
    """References and replies of other examples to the same contexts; None where all references are one and the same."""
    some = list(ids[:EXAMPLES])
    texts = task.references(some)
    others = [
        next((m for m in (*range(n + 1, len(some)), *range(n)) if texts[m] != texts[n]), None) for n in range(len(some))
    ]
    kept = [n for n, other in enumerate(others) if other is not None]
    if not kept:
        return None
    here = [some[n] for n in kept]
    spoken = here + [some[other] for n in kept if (other := others[n]) is not None]
    action, mask = (tensor.to(device) for tensor in task.demonstration(spoken))
    batch = Batch(
        references=task.references(here * 2),
        predictions=task.decode(action, mask, spoken),
        labels=task.labels,
        contexts=task.contexts(here * 2),
    )
    return Probe(action=action, mask=mask, batch=batch, right=len(here))


def _asked(reward: Reward, probe: Probe, name: str) -> Tensor:
    """Sum of the rewards of each reply [N]; RlftError where they are not finite, or not one for each decision."""
    paid = reward(probe.action, probe.mask, probe.batch)
    if paid.shape != probe.mask.shape:
        want = list(probe.mask.shape)
        raise _breach(name, f"gives rewards of shape {list(paid.shape)} for {want} decisions", "return one for each")
    bad = (~torch.isfinite(paid) & probe.mask).any(1).nonzero()
    if len(bad):
        n = int(bad[0])
        raise _breach(
            name,
            f"is {paid[n][probe.mask[n]].tolist()} for the reply {probe.batch.predictions[n][:80]!r}",
            "mend that case",
        )
    return torch.where(probe.mask, paid, torch.zeros_like(paid)).sum(1).float()


def _require_own_reply(reward: Reward, probe: Probe, total: Tensor, tolerance: float, name: str) -> None:
    """RlftError where the reward of a reply depends on its place in the batch, or on the other replies there."""
    turned = list(range(len(total)))[::-1]
    moved = _asked(reward, probe.select(turned), name)
    if float((moved - total[turned]).abs().max()) > tolerance:
        raise _breach(name, "changes with the order of the batch", "it must judge every reply by itself")
    every = list(range(len(total)))
    uneven = [every[:1], every[1:4], every[4:]]  # halves would hold the same texts, once as references
    parts = torch.cat([_asked(reward, probe.select(part), name) for part in uneven if part])
    if float((parts - total).abs().max()) > tolerance:
        raise _breach(
            name,
            "changes with the other replies of the batch (a metric that is added up over calls does that)",
            "it must judge every reply by itself",
        )


def _breach(name: str, fault: str, advice: str) -> RlftError:
    return RlftError(
        f"reward={name} breaks the contract of a reward: it {fault}; {advice}. (A reward whose keys hold a contract can be "
        "asked less: reward.contract=alone or reward.contract=none)"
    )


__all__ = ["check_reward"]
