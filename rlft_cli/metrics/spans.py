"""How well entities were found: spans of BIO tags and their precision, recall and F1, strict and as conlleval."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np

from rlft_cli.errors import RlftError
from rlft_cli.metrics.bootstrap import Floats, Interval, bootstrap, ratio
from rlft_cli.metrics.paired import paired_bootstrap

Mode = Literal["strict", "conlleval"]
Span = tuple[int, int, str]  # first word, one past the last word, type
Tags = Sequence[str]

_MODES: tuple[Mode, ...] = ("strict", "conlleval")
_WORD_COUNTS = ("sentences", "words", "correct", "predicted_words", "reference_words")
_SPAN_COUNTS = ("matched", "predicted", "reference")


@lru_cache(maxsize=4096)
def _parts(tag: str) -> tuple[str, str]:
    """Split a BIO tag into prefix and type; ("O", "") for O."""
    prefix, _, kind = tag.partition("-")
    if tag == "O" or (prefix in ("B", "I") and kind):
        return prefix, kind
    raise RlftError(f"'{tag}' is not a BIO tag: expected O, B-TYPE or I-TYPE, such as B-PER")


def spans(tags: Tags, mode: Mode = "strict") -> set[Span]:
    """Find the entities (start, end, type) in BIO tags, words start to end - 1.

    strict is IOB2: only B- opens an entity, and an I- that does not go on with an open entity of its type opens
    nothing (seqeval mode="strict", scheme=IOB2). conlleval lets such an I- open an entity (conlleval.pl and
    seqeval's default). On valid BIO both agree. Raises RlftError for a tag that is not BIO.
    """
    found: set[Span] = set()
    start, open_kind = -1, ""
    for t, tag in enumerate(tags):
        prefix, kind = _parts(tag)
        if prefix == "I" and start >= 0 and kind == open_kind:
            continue
        if start >= 0:
            found.add((start, t, open_kind))
            start = -1
        if prefix == "B" or (prefix == "I" and mode == "conlleval"):
            start, open_kind = t, kind
    if start >= 0:
        found.add((start, len(tags), open_kind))
    return found


def span_f1(predicted: set[Span], reference: set[Span]) -> float:
    """F1 of one sentence, 2 |both| / (|predicted| + |reference|), in [0, 1].

    1 where both are empty: else a policy that rightly tags nothing would get no credit on sentences without an
    entity (64 % of WNUT-17 train). Corpus F1 does not use this convention.
    """
    total = len(predicted) + len(reference)
    return 2 * len(predicted & reference) / total if total else 1.0


def check_words(predictions: Sequence[Tags], references: Sequence[Tags]) -> None:
    """Refuse predictions that have not exactly one tag for every reference word; RlftError names the sentence."""
    if len(predictions) != len(references):
        raise RlftError(f"{len(predictions)} predicted sentences for {len(references)} reference sentences")
    for n, (prediction, reference) in enumerate(zip(predictions, references, strict=True)):
        if len(prediction) != len(reference):
            raise RlftError(
                f"sentence {n}: {len(prediction)} predicted tags for {len(reference)} words; expected one tag per "
                "original word (words lost to truncation or to the tokenizer would drop gold entities unseen)"
            )


def score_spans(
    predictions: Sequence[Tags], references: Sequence[Tags], seed: int, resamples: int
) -> dict[str, Interval]:
    """Corpus metrics of BIO tags with 95 % bootstrap intervals over sentences; rates in [0, 1].

    f1, precision, recall are micro averages over strict spans, ``*.<TYPE>`` those of one type; ``*_conlleval`` the
    same over lenient spans, for comparison with published tables. predicted_entity_rate and reference_entity_rate
    are the shares of words with a tag other than O; predicted_entities and reference_entities are strict entities per
    sentence; support (also ``support.<TYPE>``) counts strict reference entities. Anything over 0 is 0.
    Types are those named by any tag. Raises RlftError where a sentence has not one tag per word.
    """
    check_words(predictions, references)
    kinds = sorted({_parts(tag)[1] for rows in (predictions, references) for tags in rows for tag in tags} - {""})
    counts = _counts(predictions, references, kinds)
    return bootstrap(counts, lambda totals: _metrics(totals, kinds), seed, resamples)


def compare_spans(
    ours: Sequence[Tags], theirs: Sequence[Tags], references: Sequence[Tags], seed: int, resamples: int
) -> dict[str, Interval]:
    """Differences, ours minus theirs, of the metrics of ``score_spans`` with paired 95 % bootstrap intervals.

    What counts references alone has no difference and is left out. RlftError where a sentence has not one tag per word.
    """
    check_words(ours, references)
    check_words(theirs, references)
    kinds = sorted({_parts(tag)[1] for rows in (ours, theirs, references) for tags in rows for tag in tags} - {""})
    counts = [_counts(predictions, references, kinds) for predictions in (ours, theirs)]
    found = paired_bootstrap(counts[0], counts[1], lambda totals: _metrics(totals, kinds), seed, resamples)
    return {name: gap for name, gap in found.items() if not name.startswith(("support", "reference_"))}


def _counts(predictions: Sequence[Tags], references: Sequence[Tags], kinds: list[str]) -> Floats:
    """Count per sentence, [S, 5 + 2 * 3 * K]: words, then for each mode matched, predicted, reference spans by type."""
    place = {kind: k for k, kind in enumerate(kinds)}
    words = np.zeros((len(references), len(_WORD_COUNTS)))
    found = np.zeros((len(references), 2, len(_SPAN_COUNTS), len(kinds)))
    for n, (prediction, reference) in enumerate(zip(predictions, references, strict=True)):
        words[n] = (
            1,
            len(reference),
            sum(p == r for p, r in zip(prediction, reference, strict=True)),
            len(prediction) - list(prediction).count("O"),
            len(reference) - list(reference).count("O"),
        )
        for m, mode in enumerate(_MODES):
            predicted, gold = spans(prediction, mode), spans(reference, mode)
            for c, group in enumerate((predicted & gold, predicted, gold)):
                for _, _, kind in group:
                    found[n, m, c, place[kind]] += 1
    return np.concatenate([words, found.reshape(len(references), 2 * len(_SPAN_COUNTS) * len(kinds))], axis=1)


def _metrics(totals: Floats, kinds: list[str]) -> dict[str, Floats]:
    """Turn counts [R, C] of ``_counts``, summed over sentences, into metrics [R]."""
    sentences, words, correct, predicted_words, reference_words = totals[:, : len(_WORD_COUNTS)].T
    found = totals[:, len(_WORD_COUNTS) :].reshape(len(totals), 2, len(_SPAN_COUNTS), len(kinds))
    strict, conlleval = found.sum(axis=3).transpose(1, 2, 0)  # each [3, R]
    metrics = {
        **_precision_recall_f1(strict, ""),
        **_precision_recall_f1(conlleval, "_conlleval"),
        "predicted_entity_rate": ratio(predicted_words, words),
        "reference_entity_rate": ratio(reference_words, words),
        "predicted_entities": ratio(strict[1], sentences),
        "reference_entities": ratio(strict[2], sentences),
        "token_accuracy": ratio(correct, words),
        "support": strict[2],
    }
    for k, kind in enumerate(kinds):
        metrics |= _precision_recall_f1(found[:, 0, :, k].T, f".{kind}")
        metrics[f"support.{kind}"] = found[:, 0, 2, k]
    return metrics


def _precision_recall_f1(found: Floats, suffix: str) -> dict[str, Floats]:
    """P = matched / predicted, R = matched / reference, F1 = 2 matched / (predicted + reference); found [3, R]."""
    matched, predicted, reference = found
    return {
        f"f1{suffix}": ratio(2 * matched, predicted + reference),
        f"precision{suffix}": ratio(matched, predicted),
        f"recall{suffix}": ratio(matched, reference),
    }
