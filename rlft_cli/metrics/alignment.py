"""Where per-word and per-episode values belong in [N, T] tensors; shared by the rewards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from rlft_cli.errors import RewardFailure, RlftError
from rlft_cli.metrics.bootstrap import Floats

if TYPE_CHECKING:
    from rlft_cli.reward import Batch

NOT_AN_ACTION = -1  # id of a reference label that the model has no action for: no action equals it


def check_episodes(references: int, mask: Tensor) -> None:
    """Refuse a number of references that is not N of mask [N, T]: broadcasting would hide it."""
    if references != mask.shape[0]:
        raise RlftError(f"{references} references for {mask.shape[0]} episodes; expected one for each")


def check_lengths(lengths: Sequence[int], mask: Tensor) -> None:
    """Refuse rows whose number of values differs from the number of decisions in mask [N, T]; RlftError names one."""
    decisions: list[int] = mask.sum(1).tolist()
    if list(lengths) == decisions:
        return
    check_episodes(len(lengths), mask)
    row = next(n for n, (words, steps) in enumerate(zip(lengths, decisions, strict=True)) if words != steps)
    raise RlftError(f"episode {row}: {decisions[row]} decisions for {lengths[row]} words; expected one per word")


def label_ids(names: Sequence[str], labels: Sequence[str]) -> Tensor:
    """Action ids [len(names)] int64 of label names; NOT_AN_ACTION for names that ``labels`` lacks."""
    place = {label: n for n, label in enumerate(labels)}
    ids = np.fromiter(map(place.get, names, repeat(NOT_AN_ACTION)), dtype=np.int64, count=len(names))
    return torch.from_numpy(ids)


def tag_ids(references: Sequence[Sequence[str]], labels: Sequence[str], mask: Tensor) -> Tensor:
    """Reference action ids [N, T] int64 from one tag per decision; NOT_AN_ACTION where mask [N, T] is False."""
    check_lengths([len(tags) for tags in references], mask)
    target = torch.full(mask.shape, NOT_AN_ACTION, dtype=torch.int64, device=mask.device)
    target[mask] = label_ids(list(chain.from_iterable(references)), labels).to(mask.device)
    return target


def per_decision(rows: Sequence[Floats], mask: Tensor) -> Tensor:
    """Lay out one array of values per episode, one value per decision, as [N, T] float32, zero where mask is False."""
    check_lengths([len(row) for row in rows], mask)
    placed = torch.zeros(mask.shape, dtype=torch.float32, device=mask.device)
    if rows:
        placed[mask] = torch.from_numpy(np.concatenate(rows)).to(device=mask.device, dtype=torch.float32)
    return placed


def at_last_decision(values: Sequence[float], mask: Tensor) -> Tensor:
    """Pay one value per episode at its last decision: [N, T] float32, zero elsewhere and in empty episodes."""
    check_episodes(len(values), mask)
    steps = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
    last = steps.masked_fill(~mask, -1).amax(1, keepdim=True) if mask.shape[1] else steps
    paid = torch.tensor(values, dtype=torch.float32, device=mask.device)[:, None]
    return torch.where(mask & (steps == last), paid, 0.0)


def contexts_of(batch: Batch) -> Sequence[Any]:
    """What was answered, one for each prediction; RlftError where that is not known (rewards of a log)."""
    if len(batch.contexts) != len(batch.predictions):
        raise RlftError(
            f"{len(batch.contexts)} contexts for {len(batch.predictions)} replies; this reward reads what was answered: "
            "use it where a policy acts"
        )
    return batch.contexts


def texts_of(context: Any) -> list[str]:
    """Texts of a context: of each turn, of each word, or the one text that it is."""
    parts = [context] if isinstance(context, str) else context
    return [part["content"] if isinstance(part, dict) else str(part) for part in parts]


def one_number_each(values: Any, count: int, who: str) -> list[float]:
    """The rewards that ``who`` gave for ``count`` replies; RewardFailure where they are of another number, or no numbers."""
    try:
        found = [float(value) for value in values]
    except (TypeError, ValueError) as problem:
        raise RewardFailure(f"{who} gave {str(values)[:80]!r}, expected {count} numbers ({problem})") from problem
    if len(found) != count:
        raise RewardFailure(
            f"{who} gave {len(found)} rewards for {count} replies; expected one for each, in their order"
        )
    wrong = next((n for n, value in enumerate(found) if not math.isfinite(value)), None)
    if wrong is not None:
        raise RewardFailure(f"{who} gave {found[wrong]} for reply {wrong + 1} of {count}; expected a finite number")
    return found
