"""Where per-word and per-episode values belong in [N, T] tensors; shared by the rewards."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, repeat

import numpy as np
import torch
from torch import Tensor

from rlft_cli.errors import RlftError
from rlft_cli.metrics.bootstrap import Floats

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
