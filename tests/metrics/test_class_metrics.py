"""Classification metrics against scikit-learn and hand arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sklearn

from rlft_cli.errors import RlftError
from rlft_cli.metrics.classification import confusion_matrix, score_classes

LABELS = ["a", "b", "c", "never seen"]
EXACT = 1e-12


def draw(seed: int, size: int) -> tuple[list[str], list[str]]:
    generator = np.random.default_rng(seed)
    references = generator.choice(LABELS[:3], size=size, p=[0.6, 0.3, 0.1])
    predictions = np.where(generator.random(size) < 0.5, references, generator.choice(LABELS[:3], size=size))
    return predictions.tolist(), references.tolist()


@pytest.mark.filterwarnings("ignore:A single label was found")
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("size", [1, 5, 80])
def test_equals_scikit_learn(seed: int, size: int) -> None:
    predictions, references = draw(seed, size)
    ours = {name: metric["value"] for name, metric in score_classes(predictions, references, 0, 2).items()}
    assert ours["accuracy"] == pytest.approx(sklearn.accuracy_score(references, predictions), abs=EXACT)
    macro = sklearn.f1_score(references, predictions, average="macro", zero_division=0)
    assert ours["macro_f1"] == pytest.approx(macro, abs=EXACT)
    assert ours["mcc"] == pytest.approx(sklearn.matthews_corrcoef(references, predictions), abs=EXACT)
    report = sklearn.classification_report(references, predictions, output_dict=True, zero_division=0)
    for label in {*references, *predictions}:
        for ours_name, theirs in (("f1", "f1-score"), ("precision", "precision"), ("recall", "recall")):
            assert ours[f"{ours_name}.{label}"] == pytest.approx(report[label][theirs], abs=EXACT)
    matrix = confusion_matrix(predictions, references, LABELS)
    assert (matrix == sklearn.confusion_matrix(references, predictions, labels=LABELS)).all()


def test_confusion_matrix_by_hand() -> None:
    # rows are references: one a taken for b, one a right, one b right
    assert confusion_matrix(["b", "a", "b"], ["a", "a", "b"], ["a", "b"]).tolist() == [[1, 1], [0, 1]]


def test_interval_has_the_binomial_width() -> None:
    # 300 of 400 right: standard error sqrt(.75 * .25 / 400) = .02165, so 95 % is .75 -+ .0424
    metric = score_classes(["a"] * 300 + ["b"] * 100, ["a"] * 400, seed=0, resamples=4000)["accuracy"]
    assert metric["value"] == 0.75
    assert metric["low"] == pytest.approx(0.75 - 0.0424, abs=0.004)
    assert metric["high"] == pytest.approx(0.75 + 0.0424, abs=0.004)


@pytest.mark.slow
def test_macro_interval_equals_scikit_learn_on_drawn_examples() -> None:
    predictions, references = map(np.array, draw(1, 60))
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(400):
        rows = generator.integers(60, size=60)
        drawn.append(sklearn.f1_score(references[rows], predictions[rows], average="macro", zero_division=0))
    metric = score_classes(predictions.tolist(), references.tolist(), seed=0, resamples=2000)["macro_f1"]
    assert [metric["low"], metric["high"]] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.04)


def test_same_seed_same_interval() -> None:
    predictions, references = draw(0, 40)
    assert score_classes(predictions, references, 5, 50) == score_classes(predictions, references, 5, 50)
    assert score_classes(predictions, references, 5, 50) != score_classes(predictions, references, 6, 50)


def test_bad_input_is_refused() -> None:
    with pytest.raises(RlftError, match="1 predicted labels for 2"):
        score_classes(["a"], ["a", "b"], 0, 10)
    with pytest.raises(RlftError, match="0 examples"):
        score_classes([], [], 0, 10)
    with pytest.raises(RlftError, match="'z' is none of the 1 labels"):
        confusion_matrix(["z"], ["a"], ["a"])
