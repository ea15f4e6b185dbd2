"""Pays what a Python function of the user says, at the last decision."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from torch import Tensor

from rlft_cli.errors import RewardFailure, UsageError
from rlft_cli.metrics.alignment import at_last_decision, contexts_of, one_number_each
from rlft_cli.reward import Batch


@dataclass(frozen=True, kw_only=True)
class Function:
    """r_T = function(contexts, replies, references)[n], called by keyword with three lists of N; it returns N numbers.

    For dialogue a context is the list of turns before the reply ({"role", "content"}), reply and reference are texts; for
    tags words and tags, for classes text and label. UsageError where the path names no function.
    """

    decisions: ClassVar[tuple[str, ...]] = ("tags", "classes", "tokens")
    pays: ClassVar[str] = "episode"

    path: str
    contract: Literal["reference", "alone", "none"]
    found: list[Callable[..., Any]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        """Import the function, so that a wrong path is refused before anything is trained."""
        module, _, name = self.path.rpartition(".")
        try:
            function = vars(importlib.import_module(module)).get(name) if module else None
        except Exception as problem:  # a module of the user may raise anything
            raise UsageError(
                f"reward.path={self.path}: cannot import {module} ({type(problem).__name__}: {problem}); its folder must be "
                "on PYTHONPATH: PYTHONPATH=FOLDER rlft train ..."
            ) from problem
        if not callable(function):
            raise UsageError(f"reward.path={self.path} names no function; expected package.module.function")
        self.found.append(function)

    def __call__(self, action: Tensor, mask: Tensor, batch: Batch) -> Tensor:
        """Reward [N, T] float32; RewardFailure where the function raises, or gives no number for each reply."""
        given = {
            "contexts": list(contexts_of(batch)),
            "replies": list(batch.predictions),
            "references": list(batch.references),
        }
        try:
            values = self.found[0](**given)
        except Exception as problem:  # whatever the user's function raises
            raise RewardFailure(
                f"the reward function {self.path} raised {type(problem).__name__}: {problem}; it is called with contexts=, "
                "replies= and references= (lists of one length) and returns one number for each reply"
            ) from problem
        return at_last_decision(one_number_each(values, len(mask), f"the reward function {self.path}"), mask)
