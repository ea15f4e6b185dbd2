"""Long lists of like cases: the quick suite runs those that are named, `make test-all` every one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def thinned(cases: Iterable[Any], quick: Callable[[Any], bool]) -> list[Any]:
    """Cases for ``pytest.mark.parametrize``; those that are not ``quick`` are marked slow. A tuple is several arguments."""
    return [_case(case, quick(case)) for case in cases]


def every_other(cases: Iterable[Any]) -> list[Any]:
    """``thinned``, the first, third, fifth ... being the quick ones."""
    return [_case(case, n % 2 == 0) for n, case in enumerate(cases)]


def _case(case: Any, quick: bool) -> Any:
    return pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=[] if quick else [pytest.mark.slow])
