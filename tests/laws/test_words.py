"""Law 5: one tag for every word, whatever the words are and however many there are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from thinned import every_other

from rlft_cli.evaluation import Evaluator
from rlft_cli.task.windows import pad_windows, text_windows, word_windows
from toy_training import accelerator, bind, lstm, policy_of, tagged_rows, tiny


@dataclass
class Frame:
    """The part of a codec that windows read."""

    prefix: list[int] = field(default_factory=lambda: [1])
    suffix: list[int] = field(default_factory=lambda: [2])
    unk_id: int = 3
    pad_id: int = 0


LENGTHS = st.lists(st.one_of(st.integers(1, 4), st.integers(1, 200)), max_size=120)
FRAMES = st.sampled_from([Frame(), Frame(prefix=[], suffix=[]), Frame(prefix=[1, 1], suffix=[2, 2])])


def numbered(lengths: list[int]) -> list[list[int]]:
    """Words as lists of ids that tell word and piece apart: 1000 * word + piece + 10."""
    return [[1000 * word + piece + 10 for piece in range(length)] for word, length in enumerate(lengths)]


@settings(max_examples=150, deadline=None)
@given(lengths=LENGTHS, limit=st.integers(8, 64), overlap=st.integers(0, 90), frame=FRAMES)
def test_every_word_is_read_once_from_a_window_that_fits(
    lengths: list[int], limit: int, overlap: int, frame: Any
) -> None:
    pieces = numbered(lengths)
    windows = word_windows(pieces, limit, overlap, frame)
    answered = [w.first_word + n for w in windows for n in range(len(w.positions))]
    assert answered == list(range(len(lengths)))
    for window in windows:
        assert len(window.ids) <= limit
        assert window.ids[: len(frame.prefix)] == frame.prefix
        assert window.ids[len(window.ids) - len(frame.suffix) :] == frame.suffix
        for n, position in enumerate(window.positions):
            assert window.ids[position] == pieces[window.first_word + n][0]


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS, limit=st.integers(16, 64), frame=FRAMES)
def test_windows_hold_whole_words_in_order(lengths: list[int], limit: int, frame: Any) -> None:
    """Nothing between two words of a window is left out; a word keeps its first pieces at least."""
    pieces = numbered(lengths)
    room = limit - len(frame.prefix) - len(frame.suffix)
    for window in word_windows(pieces, limit, 8, frame):
        inner = window.ids[len(frame.prefix) : len(window.ids) - len(frame.suffix)]
        words = sorted({(token - 10) // 1000 for token in inner})
        assert inner == [token for word in words for token in pieces[word][: max(1, room // 4)]]
        assert words == list(range(words[0], words[-1] + 1)) if words else not lengths


def test_words_near_a_cut_are_read_where_they_have_context() -> None:
    """40 words of 1 id, room 10, 4 shared: cuts every 6; each inner word has 2 neighbours on both sides at least."""
    windows = word_windows(numbered([1] * 40), 12, 4, Frame())
    assert len(windows) == 6
    for window in windows:
        for n, position in enumerate(window.positions):
            word = window.first_word + n
            left, right = position - 1, len(window.ids) - 2 - position
            assert left >= min(2, word) and right >= min(1, 39 - word)


@settings(max_examples=60, deadline=None)
@given(length=st.integers(0, 300), limit=st.integers(8, 64), most=st.integers(1, 10), frame=FRAMES)
def test_a_text_is_cut_without_gaps(length: int, limit: int, most: int, frame: Any) -> None:
    ids = list(range(10, 10 + length))
    windows = text_windows(ids, limit, most, frame)
    assert 1 <= len(windows) <= most and all(len(window.ids) <= limit for window in windows)
    inner = [i for w in windows for i in w.ids[len(frame.prefix) : len(w.ids) - len(frame.suffix)]]
    assert inner == (ids[: len(inner)] or [frame.unk_id])
    assert len(inner) == len(ids) or len(windows) == most or not ids


def test_the_mask_comes_from_lengths_and_not_from_ids() -> None:
    padded = pad_windows(word_windows([[0], [0], [0]], 8, 0, Frame(prefix=[], suffix=[])), 0)  # pad id is a word
    assert padded["attention_mask"].tolist() == [[1, 1, 1]]


# -- through a model -----------------------------------------------------------------------------------------------

ODD = [
    "\x00",
    "\x07",
    "\u200b",
    "\ufeff",
    "\u00ad",
    "\u202e",
    " ",
    "\t",
    "\x7f\x80",
    "\ud7ff",
    "\U0001f9d1\u200d\U0001f680",
    "[SEP]",
    "[CLS]",
    "[PAD]",
    "a" * 3000,
    "\u0301" * 50,
    "漢字",
    "...",
    "don't",
    "<|im_end|>",
    "\x00a",
    "a\x00",
]


def tags_of(model: Any, sentences: list[list[str]], window: int = 64) -> list[list[str]]:
    known = tagged_rows(12)
    task = bind(known, model, window)
    ids = task.ask([{"words": words, "origin": "odd:1"} for words in sentences])  # as rlft predict: no tags
    evaluator = Evaluator(
        task=task,
        device=torch.device("cpu"),
        autocast=accelerator().autocast,
        batch_tokens=512,
        resamples=0,
        seed=1,
    )
    policy = policy_of(model, task)
    found: list[list[str]] = evaluator.predict(policy, ids)
    assert task.collate(ids)["word_mask"].sum(1).tolist() == [len(words) for words in sentences]
    return found


@pytest.mark.parametrize("model", every_other([tiny, lstm]))
def test_odd_words_get_a_tag_each(model: Any) -> None:
    sentences = [ODD, *[[word] for word in ODD], ["Anna", "\u200b", "Rome"]]
    found = tags_of(model(), sentences)
    assert [len(tags) for tags in found] == [len(words) for words in sentences]


def test_a_sentence_of_5000_words_gets_5000_tags() -> None:
    words = [word for row in tagged_rows(40) for word in row["words"]]
    sentence = (words * 50)[:5000]
    (tags,) = tags_of(tiny(), [sentence])
    assert len(tags) == 5000
    assert len(set(tags)) > 1


def test_sentences_of_all_lengths_around_a_window() -> None:
    sentences = [["the"] * length for length in range(1, 40)]
    assert [len(tags) for tags in tags_of(tiny(), sentences, window=8)] == list(range(1, 40))
