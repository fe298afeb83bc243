"""Measures against tables worked by hand and against scikit-learn; thresholds."""

import math
from itertools import product

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st

from stages.measures.decision import coverage_curve
from stages.measures.scores import (
    MEASURES,
    Confusion,
    calibration_error,
    confusion,
    score,
)

Y = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
S = np.array([0.9, 0.8, 0.6, 0.3, 0.7, 0.4, 0.3, 0.2, 0.1, 0.1])


def test_a_table_worked_by_hand():
    measured = score(Y, S, S >= 0.5)
    assert confusion(Y, (S >= 0.5).astype(int)) == (5, 1, 1, 3)
    assert measured["accuracy"] == 8 / 10
    assert measured["sensitivity"] == 3 / 4
    assert measured["specificity"] == 5 / 6
    assert measured["balanced_accuracy"] == pytest.approx((3 / 4 + 5 / 6) / 2)
    assert measured["precision"] == 3 / 4
    assert measured["npv"] == 5 / 6
    assert measured["f1"] == 6 / 8
    assert measured["matthews"] == pytest.approx((3 * 5 - 1 * 1) / math.sqrt(4 * 4 * 6 * 6))
    # Of 24 pairs the positive is above in 6 + 6 + 5 and, for 0.3, in 3 and tied in 1.
    assert measured["roc_auc"] == pytest.approx((6 + 6 + 5 + 3.5) / 24)
    # Brier: 0.01 + 0.04 + 0.16 + 0.49 + 0.49 + 0.16 + 0.09 + 0.04 + 0.01 + 0.01 over 10.
    assert measured["brier"] == pytest.approx(0.15)


labels_and_scores = st.integers(2, 60).flatmap(
    lambda n: st.tuples(
        np_st.arrays(np.int64, n, elements=st.integers(0, 1)),
        np_st.arrays(np.float64, n, elements=st.integers(0, 20).map(lambda value: value / 20)),
    )
)


@given(labels_and_scores, st.floats(0, 1))
def test_like_scikit_learn(arrays, threshold):
    y_true, y_score = arrays
    y_pred = (y_score >= threshold).astype(int)
    measured = score(y_true, y_score, y_pred)
    expected = {
        "accuracy": sklearn.metrics.accuracy_score(y_true, y_pred),
        "sensitivity": sklearn.metrics.recall_score(y_true, y_pred, zero_division=np.nan),
        "specificity": sklearn.metrics.recall_score(
            y_true, y_pred, pos_label=0, zero_division=np.nan
        ),
        "precision": sklearn.metrics.precision_score(y_true, y_pred, zero_division=np.nan),
        "f1": sklearn.metrics.f1_score(y_true, y_pred, zero_division=np.nan),
    }
    for name, value in expected.items():
        assert measured[name] == (None if np.isnan(value) else pytest.approx(value)), name
    if measured["matthews"] is not None:
        assert measured["matthews"] == pytest.approx(
            sklearn.metrics.matthews_corrcoef(y_true, y_pred)
        )
    if len(set(y_true)) == 2:
        assert measured["roc_auc"] == pytest.approx(sklearn.metrics.roc_auc_score(y_true, y_score))
        assert measured["balanced_accuracy"] == pytest.approx(
            sklearn.metrics.balanced_accuracy_score(y_true, y_pred)
        )


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_is_a_number_or_says_why_it_is_undefined(name):
    """On all sets of up to two images of each class and prediction."""
    for counts in product(range(3), repeat=4):
        y_true, y_pred = np.repeat([0, 0, 1, 1], counts), np.repeat([0, 1, 0, 1], counts)
        value = score(y_true, 0.1 + 0.8 * y_pred, y_pred, names=[name])[name]
        reason = MEASURES[name].why_undefined(Confusion(*counts))
        assert reason if value is None else math.isfinite(value) and not reason, counts


@given(labels_and_scores, st.floats(0.05, 0.95))
def test_the_coverage_curve_ends_with_all_crops(arrays, threshold):
    y_true, y_score = arrays
    coverage, errors, at = coverage_curve(y_true, y_score, threshold)
    wrong = (y_true == 1) != (y_score >= threshold)
    assert coverage[-1] == 1 and errors[-1] == pytest.approx(np.mean(wrong))
    assert np.all(np.diff(coverage) > 0) and np.all(np.diff(at) < 0)


def test_the_calibration_error_by_hand():
    # One bin of 1/15 for 0.90 and 0.91, another for 0.1: |1/2 - 0.905| * 2/3 + |0 - 0.1| * 1/3.
    y_true, y_score = np.array([1, 0, 0]), np.array([0.90, 0.91, 0.1])
    assert calibration_error(y_true, y_score) == pytest.approx(0.405 * 2 / 3 + 0.1 / 3)
    assert calibration_error(y_true[[2] * 5], y_score[[2] * 5]) == pytest.approx(0.1)
    assert calibration_error(np.array([1, 0]), np.array([1.0, 0.0])) == 0
