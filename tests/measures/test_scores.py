"""Measures against tables worked by hand and against scikit-learn; thresholds; the bootstrap over
slides.
"""

import json
import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st

from stages.base.files import write_json
from stages.evaluation.curves import write_curves
from stages.evaluation.results import measure
from stages.measures.decision import coverage_curve
from stages.measures.resampling import slide_bootstrap
from stages.measures.scores import (
    MEASURES,
    NONE_PREDICTED_NEGATIVE,
    Confusion,
    Measure,
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


def test_what_is_undefined_is_null_and_says_why(tmp_path, capsys):
    results = measure(
        np.zeros(4, dtype=int), np.array([0.1, 0.2, 0.3, 0.9]), 0.95, np.array(list("aabb")), 50, 0
    )
    write_json(tmp_path / "test.json", results)
    results = json.loads((tmp_path / "test.json").read_text())
    assert (
        results["roc_auc"] is None
        and results["sensitivity"] is None
        and results["precision"] is None
    )
    assert results["specificity"] == 1 and results["accuracy"] == 1
    assert results["undefined"]["roc_auc"] == "there is no positive image"
    assert results["interval_95"]["roc_auc"] is None
    assert results["interval_95"]["specificity"] == {"low": 1, "high": 1}
    assert "warning: roc_auc is not defined: there is no positive image" in capsys.readouterr().err


def test_undefined_if_no_image_is_predicted_positive():
    results = measure(Y, S, 1.0, np.arange(10), 10, 0)
    assert results["precision"] is None and results["matthews"] is None
    assert results["undefined"] == dict.fromkeys(
        ("precision", "matthews"), "no image is predicted positive"
    )
    assert results["f1"] == 0


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_is_a_number_or_says_why_it_is_undefined(name):
    """On all sets of up to two images of each class and prediction."""
    for counts in product(range(3), repeat=4):
        y_true, y_pred = np.repeat([0, 0, 1, 1], counts), np.repeat([0, 1, 0, 1], counts)
        value = score(y_true, 0.1 + 0.8 * y_pred, y_pred, names=[name])[name]
        reason = MEASURES[name].why_undefined(Confusion(*counts))
        assert reason if value is None else math.isfinite(value) and not reason, counts


def test_a_new_rate_says_its_own_reason(monkeypatch):
    rate = Measure(
        "decisions",
        lambda tn, fp, fn, tp: tn / (tn + fn),
        "higher",
        "negative predictive value",
        (NONE_PREDICTED_NEGATIVE,),
    )
    monkeypatch.setitem(MEASURES, "negative_predictive_value", rate)
    results = measure(Y, S, 0.0, np.arange(10), 0, 0)
    assert results["undefined"]["negative_predictive_value"] == "no image is predicted negative"
    assert measure(Y, S, 0.5, np.arange(10), 0, 0)["negative_predictive_value"] == 5 / 6


def test_the_bootstrap_draws_slides():
    # Ten copies of each image are no new evidence: drawing slides, the interval stays as wide.
    slides = np.array(list("aabbccddee"))
    once = slide_bootstrap(Y, S, S >= 0.5, slides, 400, 1)
    tenfold = slide_bootstrap(
        np.repeat(Y, 10), np.repeat(S, 10), np.repeat(S >= 0.5, 10), np.repeat(slides, 10), 400, 1
    )
    assert once == tenfold
    alone = slide_bootstrap(
        np.repeat(Y, 10), np.repeat(S, 10), np.repeat(S >= 0.5, 10), np.arange(100), 400, 1
    )
    assert alone["sensitivity"]["high"] - alone["sensitivity"]["low"] < 0.5 * (
        once["sensitivity"]["high"] - once["sensitivity"]["low"]
    )


def test_the_bootstrap_by_enumeration():
    """Two slides have four equally likely draws: aa, ab, ba, bb, with specificity 1, 0.5, 0.5 and
    0.
    """
    y, s, slides = np.array([0, 1, 0, 1]), np.array([0.1, 0.9, 0.8, 0.9]), np.array(list("aabb"))
    intervals = slide_bootstrap(y, s, s >= 0.5, slides, 2000, 0)
    assert intervals["specificity"] == {"low": 0, "high": 1}
    assert intervals["sensitivity"] == {"low": 1, "high": 1}


def test_the_bootstrap_is_seeded_and_may_be_off():
    slides = np.array(list("aabbccddee"))
    assert slide_bootstrap(Y, S, S >= 0.5, slides, 50, 7) == slide_bootstrap(
        Y, S, S >= 0.5, slides, 50, 7
    )
    assert slide_bootstrap(Y, S, S >= 0.5, slides, 0, 7) == dict.fromkeys(
        ("roc_auc", "sensitivity", "specificity", "f1")
    )


def test_curves_have_headers_alone_where_one_class_is_missing(workplace):
    write_curves(np.zeros(3, dtype=int), np.array([0.1, 0.2, 0.3]), 0.5)
    assert (
        Path("metrics/plots/roc.csv").read_text() == "false_positive_rate,sensitivity,operating\n"
    )
    write_curves(Y, S, 0.5)
    assert Path("metrics/plots/roc.csv").read_text().splitlines()[1:3] == [
        "0.0,0.0,0",
        "0.0,0.25,0",
    ]


@pytest.mark.parametrize("threshold", [0.05, 0.35, 0.5, 0.62, 0.99])
def test_the_operating_point_is_on_the_curves_once(workplace, threshold):
    write_curves(Y, S, threshold)
    called = threshold <= S
    sensitivity, alarms = np.mean(called[Y == 1]), np.mean(called[Y == 0])
    precision = np.mean(Y[called]) if called.any() else 1
    for name, point in {
        "roc": (alarms, sensitivity),
        "precision_recall": (sensitivity, precision),
    }.items():
        lines = Path(f"metrics/plots/{name}.csv").read_text().splitlines()[1:]
        curve = [tuple(map(float, line.split(","))) for line in lines]
        assert [pytest.approx(one[:2]) == point for one in curve if one[2]] == [True]
        along = [one[0] for one in curve]
        assert along == sorted(along, reverse=name != "roc")


def test_the_calibration_has_counts_and_intervals(workplace):
    write_curves(np.array([0, 1, 1, 1]), np.array([0.1, 0.15, 0.9, 0.95]), 0.5)
    lines = Path("metrics/plots/calibration.csv").read_text().splitlines()
    assert lines[0] == "predicted,observed,ideal,crops,low,high"
    rows = [list(map(float, line.split(","))) for line in lines[1:]]
    # Wilson's intervals of 1 of 2 and of 2 of 2.
    assert rows[0] == pytest.approx([0.125, 0.5, 0.125, 2, 0.0945, 0.9055], abs=1e-4)
    assert rows[1] == pytest.approx([0.925, 1, 0.925, 2, 0.3424, 1], abs=1e-4)


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
    assert calibration_error(y_true, y_score, np.array([0, 0, 5])) == pytest.approx(0.1)
    assert calibration_error(np.array([1, 0]), np.array([1.0, 0.0])) == 0
