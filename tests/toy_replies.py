"""Prompts and replies of random ids, and policies over tokens that step along them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rlft_cli.model import Output
from rlft_cli.task import State

LOW, HIGH = 5, 60  # ids of ordinary words in the vocabularies of the tests


def prompts(lengths: list[int], pad: int = 0, extra: int = 0) -> dict[str, Tensor]:
    """Left-padded random prompts; row n depends on n and its length only."""
    width = max(lengths) + extra
    rows = []
    for n, length in enumerate(lengths):
        ids = torch.randint(LOW, HIGH, (length,), generator=torch.Generator().manual_seed(100 + n))
        rows.append(torch.cat([torch.full((width - length,), pad), ids]))
    mask = torch.arange(width)[None, :] >= width - torch.tensor(lengths)[:, None]
    return {"id": torch.arange(len(lengths)), "prompt_ids": torch.stack(rows), "prompt_mask": mask}


def replies(rows: int, width: int) -> Tensor:
    return torch.randint(LOW, HIGH, (rows, width), generator=torch.Generator().manual_seed(7))


def acted(policy: Any, observation: dict[str, Tensor], action: Tensor) -> list[Output]:
    """Outputs of stepping along known actions."""
    rows, decisions = action.shape
    cache = policy.begin(observation, rows // observation["id"].shape[0])
    previous, stacked = torch.full((rows,), -1), []
    for t in range(decisions):
        state = State(t=t, previous=previous, length=torch.full((rows,), decisions), done=torch.zeros(rows).bool())
        output, cache = policy.step(cache, state)
        stacked.append(output)
        previous = action[:, t]
    return stacked


def act(policy: Any, observation: dict[str, Tensor], action: Tensor) -> Tensor:
    """Scores [N, T, V] of stepping along known actions."""
    return torch.stack([output.scores for output in acted(policy, observation, action)], dim=1)


def act_values(policy: Any, observation: dict[str, Tensor], action: Tensor) -> Tensor:
    """Values [N, T] of stepping along known actions."""
    values = [output.value for output in acted(policy, observation, action)]
    return torch.stack([value for value in values if value is not None], dim=1)
