"""Long lists of like cases: the quick suite runs those that are named, `make test-all` every one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def thinned(cases: Iterable[Any], quick: Callable[[Any], bool]) -> list[Any]:
    """Cases for ``pytest.mark.parametrize``; those that are not ``quick`` are marked slow. A tuple is several arguments."""
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=[] if quick(case) else [pytest.mark.slow])
        for case in cases
    ]


def every_other(cases: Iterable[Any]) -> list[Any]:
    """``thinned``, the first, third, fifth ... being the quick ones."""
    listed = list(cases)
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=[pytest.mark.slow] if n % 2 else [])
        for n, case in enumerate(listed)
    ]
