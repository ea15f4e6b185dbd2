"""Comparisons of which length tells nothing: as many preferred replies that are longer as ones that are shorter."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from rlft_cli.data.checks import Row
from rlft_cli.metrics.replies import Language, words

Keep = Callable[[list[Row], int], list[Row]]  # some of the rows, of the number that is asked


def match_lengths(rows: Sequence[Row], language: Language, keep: Keep) -> list[Row]:
    """Of comparisons with d words more and with d words less in the preferred reply, as many of the one as of the other.

    For each d > 0 all of the rarer side are kept, and as many of the other side as ``keep`` chooses; d = 0 is kept whole.
    So the difference of length has the same distribution whichever reply was preferred, and nothing can be learned from
    it (exact matching: Rosenbaum and Rubin 1985). A single reply that was judged counts as one beside an empty one; it is
    matched with single ones only. The rows stay in their order.
    """
    sides: dict[tuple[bool, int], list[Row]] = defaultdict(list)
    for row in rows:
        chosen, rejected = row["chosen"], row["rejected"]
        more = len(words(chosen or "", language)) - len(words(rejected or "", language))
        sides[chosen is None or rejected is None, more].append(row)
    kept: set[int] = set()
    for (single, more), some in sides.items():
        count = min(len(some), len(sides.get((single, -more), ())))
        kept.update(id(row) for row in (some if count == len(some) else keep(some, count)))
    return [row for row in rows if id(row) in kept]


__all__ = ["match_lengths"]
