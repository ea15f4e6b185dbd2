"""How well classes were told apart: accuracy, macro-F1, MCC, per class, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rlft_cli.errors import RlftError
from rlft_cli.metrics.bootstrap import Floats, Interval, interval, ratio


def confusion_matrix(predictions: Sequence[str], references: Sequence[str], labels: Sequence[str]) -> NDArray[np.int64]:
    """Count examples by reference (row) and prediction (column): [K, K] in the order of ``labels``.

    Raises RlftError for unequal lengths and for a label that ``labels`` lacks.
    """
    if len(predictions) != len(references):
        raise RlftError(f"{len(predictions)} predicted labels for {len(references)} reference labels")
    place = {label: k for k, label in enumerate(labels)}
    unknown = sorted(({*predictions} | {*references}) - place.keys())
    if unknown:
        raise RlftError(f"label '{unknown[0]}' is none of the {len(labels)} labels that are counted")
    matrix = np.zeros((len(labels), len(labels)), dtype=np.int64)
    rows = [place[label] for label in references]
    columns = [place[label] for label in predictions]
    np.add.at(matrix, (rows, columns), 1)
    return matrix


def score_classes(
    predictions: Sequence[str], references: Sequence[str], seed: int, resamples: int
) -> dict[str, Interval]:
    """Metrics of single-label classification with 95 % bootstrap intervals over examples.

    accuracy, macro_f1 in [0, 1]; mcc in [-1, 1]; f1.<label>, precision.<label>, recall.<label> for every label that
    occurs in predictions or references. macro_f1 is the mean over the labels that occur, in a resample over those
    that occur in it (scikit-learn's default); anything over 0 is 0. Raises RlftError without examples.
    """
    labels = sorted({*predictions, *references})
    matrix = confusion_matrix(predictions, references, labels)
    examples = int(matrix.sum())
    if examples < 1 or resamples < 1:
        raise RlftError(f"{examples} examples and {resamples} resamples to score; expected at least one of each")
    rows, columns = np.nonzero(matrix)
    cells = matrix[rows, columns]
    # Metrics depend on the examples through the cells alone, and drawing examples with replacement makes the cells
    # multinomial: one draw per resample, however many examples there are.
    drawn = np.random.default_rng(seed).multinomial(examples, cells / examples, size=resamples)
    resampled = _metrics(drawn.astype(np.float64), rows, columns, labels)
    observed = _metrics(cells[None].astype(np.float64), rows, columns, labels)
    return {name: interval(float(observed[name][0]), resampled[name]) for name in observed}


def compare_classes(
    ours: Sequence[str], theirs: Sequence[str], references: Sequence[str], seed: int, resamples: int
) -> dict[str, Interval]:
    """Differences, ours minus theirs, of the metrics of ``score_classes`` with paired 95 % bootstrap intervals.

    RlftError without examples, and unless there are as many predictions of either system as references.
    """
    if not len(ours) == len(theirs) == len(references) or not references or resamples < 1:
        raise RlftError(
            f"{len(ours)} and {len(theirs)} predictions to compare for {len(references)} references in {resamples} "
            "resamples; expected one of each system for every reference, and at least one resample"
        )
    labels = sorted({*ours, *theirs, *references})
    place = {label: k for k, label in enumerate(labels)}
    triples = np.array([[place[label] for label in triple] for triple in zip(references, ours, theirs, strict=True)])
    cells, counts = np.unique(triples, axis=0, return_counts=True)  # as in score_classes, with both systems in a cell
    drawn = np.random.default_rng(seed).multinomial(len(references), counts / len(references), size=resamples)

    def difference(totals: Floats) -> dict[str, Floats]:
        mine, other = (_metrics(totals, cells[:, 0], cells[:, k], labels) for k in (1, 2))
        return {name: mine[name] - other[name] for name in mine}

    resampled, observed = difference(drawn.astype(np.float64)), difference(counts[None].astype(np.float64))
    return {name: interval(float(observed[name][0]), resampled[name]) for name in observed}


def _metrics(
    cells: Floats, rows: NDArray[np.int64], columns: NDArray[np.int64], labels: list[str]
) -> dict[str, Floats]:
    """Metrics [R] from counts [R, C] of the confusion cells (rows[c], columns[c]).

    mcc = (c s - sum_k p_k t_k) / sqrt((s^2 - sum_k p_k^2) (s^2 - sum_k t_k^2)), c right of s examples, p_k predicted
    and t_k true examples of class k (Gorodkin 2004, R_K).
    """
    identity = np.eye(len(labels))
    reference = cells @ identity[rows]  # [R, K]
    predicted = cells @ identity[columns]
    matched = (cells * (rows == columns)) @ identity[rows]
    right, total = matched.sum(axis=1), cells.sum(axis=1)
    f1 = ratio(2 * matched, predicted + reference)
    precision, recall = ratio(matched, predicted), ratio(matched, reference)
    spread = np.sqrt((total**2 - (predicted**2).sum(axis=1)) * (total**2 - (reference**2).sum(axis=1)))
    metrics = {
        "accuracy": ratio(right, total),
        "macro_f1": ratio(f1.sum(axis=1), (predicted + reference > 0).sum(axis=1).astype(np.float64)),
        "mcc": ratio(right * total - (predicted * reference).sum(axis=1), spread),
    }
    for k, label in enumerate(labels):
        metrics |= {f"f1.{label}": f1[:, k], f"precision.{label}": precision[:, k], f"recall.{label}": recall[:, k]}
    return metrics
