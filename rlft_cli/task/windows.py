"""Long inputs as windows that fit a model, so that no word is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlft_cli.model import Codec


@dataclass(frozen=True, kw_only=True)
class Window:
    """Ids of one window, and where the first pieces of the words lie that are read from it."""

    ids: list[int]
    first_word: int
    positions: list[int]  # one per word that this window answers for


def word_windows(pieces: Sequence[Sequence[int]], limit: int, overlap: int, codec: Codec) -> list[Window]:
    """Lay words (lists of ids) into windows of at most ``limit`` ids with about ``overlap`` shared ids between them.

    Each word is read from exactly one window, the one in which it stands farther from a cut. A single word of more ids
    than a quarter of a window keeps its first ids: its tag is read at the first one.
    """
    room = limit - len(codec.prefix) - len(codec.suffix)
    pieces = [word[: max(1, room // 4)] for word in pieces]
    spans = _cut(pieces, room, min(overlap, room // 2))
    windows, start = [], 0
    for n, (first, last) in enumerate(spans):
        ids, places = list(codec.prefix), {}
        for word in range(first, last):
            places[word] = len(ids)
            ids.extend(pieces[word])
        end = last if n + 1 == len(spans) else (spans[n + 1][0] + last + 1) // 2  # middle of the shared words
        windows.append(
            Window(ids=ids + list(codec.suffix), first_word=start, positions=[places[w] for w in range(start, end)])
        )
        start = end
    assert start == len(pieces)
    return windows


def _cut(pieces: Sequence[Sequence[int]], room: int, overlap: int) -> list[tuple[int, int]]:
    """Word ranges [first, last) that fit the room; neighbours share about ``overlap`` ids."""
    spans, first = [], 0
    while True:
        last, used = first, 0
        while last < len(pieces) and used + len(pieces[last]) <= room:
            used += len(pieces[last])
            last += 1
        spans.append((first, last))
        if last >= len(pieces):
            return spans
        shared, following = 0, last
        while following - 1 > first and shared + len(pieces[following - 1]) <= overlap:
            following -= 1
            shared += len(pieces[following])
        first = following


def text_windows(ids: Sequence[int], limit: int, most: int, codec: Codec) -> list[Window]:
    """Cut the ids of a text into at most ``most`` windows of at most ``limit`` ids."""
    room = limit - len(codec.prefix) - len(codec.suffix)
    chunks = [ids[at : at + room] for at in range(0, max(1, len(ids)), room)][:most]
    return [
        Window(ids=[*codec.prefix, *(chunk or [codec.unk_id]), *codec.suffix], first_word=0, positions=[])
        for chunk in chunks
    ]


def pad_windows(windows: Sequence[Window], pad_id: int) -> dict[str, Tensor]:
    """input_ids and attention_mask [W, L]; the mask comes from lengths, never from ids."""
    width = max(len(w.ids) for w in windows)
    ids = torch.full((len(windows), width), pad_id, dtype=torch.long)
    mask = torch.zeros(len(windows), width, dtype=torch.long)
    for n, window in enumerate(windows):
        ids[n, : len(window.ids)] = torch.tensor(window.ids)
        mask[n, : len(window.ids)] = 1
    return {"input_ids": ids, "attention_mask": mask}
