"""Calibration intercept and slope of probabilities, with intervals over slides."""

from typing import NamedTuple

import numpy as np
import scipy

from stages.measures.calibration import log_odds
from stages.measures.intervals import Estimate, from_influence


class CalibrationLine(NamedTuple):
    """How probabilities are calibrated: at best, the intercept is 0 and the slope 1.

    A positive intercept: there are more positives than the probabilities say. A slope below 1: the
    probabilities are too extreme.
    """

    intercept: Estimate
    slope: Estimate


def calibration_line(
    y_true: np.ndarray, y_score: np.ndarray, slides: np.ndarray
) -> CalibrationLine:
    """Return the coefficients of logistic regressions on the log-odds of the probabilities.

    The slope is that of the log-odds; the intercept is that of a model whose slope is 1, known as
    calibration in the large (Cox, Biometrika 45:562, 1958; Van Calster et al., BMC Med 17:230,
    2019).
    """
    y_true, odds = np.asarray(y_true, dtype=np.int64), log_odds(y_score)
    counts = np.bincount(y_true, minlength=2)
    if not counts.all():
        nothing = Estimate(0, reason="a class is missing")
        return CalibrationLine(nothing, nothing)
    ones = np.ones(len(odds))
    value, of_crops = _fit(ones[:, None], y_true, odds)
    intercept = from_influence(value, of_crops, y_true, slides)
    lowest, highest = (np.array([f(odds[y_true == k]) for k in (0, 1)]) for f in (np.min, np.max))
    if lowest[1] >= highest[0] or lowest[0] >= highest[1]:
        reason = "the scores separate the classes"
        return CalibrationLine(intercept, Estimate(intercept.slides, reason=reason))
    value, of_crops = _fit(np.column_stack([odds, ones]), y_true, 0 * odds)
    return CalibrationLine(intercept, from_influence(value, of_crops, y_true, slides))


def _fit(x: np.ndarray, y_true: np.ndarray, offset: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the first coefficient of a logistic regression, and the influence of each crop on it.

    Args:
        x: float (n, k), the inputs.
        offset: float (n,), added to the log-odds.
    """

    def loss(beta: np.ndarray) -> float:
        odds = x @ beta + offset
        return float(np.sum(np.logaddexp(0, odds) - y_true * odds))

    def slopes(beta: np.ndarray) -> np.ndarray:
        return x.T @ (scipy.special.expit(x @ beta + offset) - y_true)

    def curvature(beta: np.ndarray) -> np.ndarray:
        p = scipy.special.expit(x @ beta + offset)
        return (x.T * (p * (1 - p))) @ x

    found = scipy.optimize.minimize(
        loss, np.zeros(x.shape[1]), jac=slopes, hess=curvature, method="trust-exact"
    ).x
    wrong = y_true - scipy.special.expit(x @ found + offset)
    return float(found[0]), np.linalg.solve(curvature(found), x.T * wrong)[0]
