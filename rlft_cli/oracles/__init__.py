"""What an oracle is: an object that ships, the truth about it on a problem small enough to enumerate, and the distance.

A module of this folder proves one family; its ``ORACLES`` list what it proves. Toys, the enumerable problems, are in
``toys/``. Everything is float64 and has a fixed seed, so that a row gives the same error every time.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One row of ``rlft verify``."""

    object: str
    oracle: str
    error: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether the error is within the tolerance; an error that is not a number is not."""
        return self.error <= self.tolerance


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """``distance(subject)`` must not exceed ``tolerance``.

    The subject is an argument so that a mutation of it can be put in its place: tests/oracles/ holds, for each oracle,
    a wrong subject that must fail. Where something must differ or be ordered, the distance is what is missing for it.
    """

    name: str  # unique, for ``only=`` and the tests
    row: int  # of the table in METHODS 7.1
    object: str  # what is proven
    oracle: str  # the truth that it is held against
    tolerance: float
    subject: Any  # the object as it ships, or what makes a new one where it keeps a state; the distance knows which
    distance: Callable[[Any], float]

    def verify(self) -> Finding:
        """Measure what ships."""
        error = float(self.distance(self.subject))
        return Finding(object=self.object, oracle=self.oracle, error=error, tolerance=self.tolerance)


def oracles() -> list[Oracle]:
    """All oracles of this folder's modules, ordered by their row."""
    names = [found.name for found in pkgutil.iter_modules(__path__) if not found.ispkg]
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    listed: list[Sequence[Oracle]] = [vars(module).get("ORACLES", ()) for module in modules]
    return sorted((oracle for some in listed for oracle in some), key=lambda oracle: (oracle.row, oracle.name))
