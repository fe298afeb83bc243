"""Measures of a binary classifier.

Functions take (y_true, y_score) like scikit-learn's: y_true int (N,) of 0 and 1, y_score float
(N,). scikit-learn takes longer to import than most of this takes to run: it is, where it is needed.
"""

import math
from collections.abc import Callable, Collection

import numpy as np

LOWER_IS_BETTER = ("brier", "calibration_error")
TITLES = {"roc_auc": "ROC AUC", "f1": "F1"}


def calibration_error(
    y_true: np.ndarray, y_score: np.ndarray, sample_weight: np.ndarray | None = None
) -> float:
    """Return the expected calibration error: |share of positives - mean probability| over 15 bins
    of equal width, weighted by their images (Guo et al., ICML 2017).
    """
    weight = np.ones(len(y_true)) if sample_weight is None else sample_weight
    bins = np.minimum((y_score * 15).astype(np.int64), 14)
    return float(
        np.abs(np.bincount(bins, weights=weight * (y_true - y_score), minlength=15)).sum()
        / weight.sum()
    )


OF_PROBABILITIES = ("roc_auc", "average_precision", "brier", "calibration_error")


def of_probability(name: str) -> Callable[..., float]:
    """Return one of the measures `OF_PROBABILITIES`, a function of (y_true, y_score,
    sample_weight).
    """
    from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

    measures = (roc_auc_score, average_precision_score, brier_score_loss, calibration_error)
    return dict(zip(OF_PROBABILITIES, measures))[name]


def confusion(
    y_true: np.ndarray, y_pred: np.ndarray, weight: np.ndarray | None = None
) -> tuple[int, int, int, int]:
    """Return (true negatives, false positives, false negatives, true positives).

    Args:
        y_pred: bool or int array (N,), what each image was called.
        weight: int array (N,), how many times each image counts.
    """
    counts = np.bincount(2 * y_true + y_pred, weights=weight, minlength=4)
    tn, fp, fn, tp = (int(count) for count in counts)
    return tn, fp, fn, tp


def rates(tn: int, fp: int, fn: int, tp: int) -> dict[str, float | None]:
    """Return the measures that follow from the confusion counts; None where the denominator is
    zero.
    """
    sensitivity, specificity = _ratio(tp, tp + fn), _ratio(tn, tn + fp)
    return {
        "accuracy": _ratio(tp + tn, tn + fp + fn + tp),
        "balanced_accuracy": None
        if sensitivity is None or specificity is None
        else (sensitivity + specificity) / 2,
        "precision": _ratio(tp, tp + fp),
        "sensitivity": sensitivity,
        "specificity": specificity,
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
        "matthews": _ratio(
            tp * tn - fp * fn, math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
        ),
    }


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator else None


def score(
    y_true: np.ndarray,
    y_score: np.ndarray,
    y_pred: np.ndarray,
    weight: np.ndarray | None = None,
    of_probabilities: Collection[str] = OF_PROBABILITIES,
) -> dict[str, float | None]:
    """Return every measure; None where it is not defined, such as ROC AUC with one class alone.

    Args:
        y_pred: bool or int array (N,), what each image was called.
        weight: int array (N,), how many times each image counts.
        of_probabilities: those of `OF_PROBABILITIES` to compute, which take more time than the
            others.
    """
    tn, fp, fn, tp = confusion(y_true, y_pred, weight)
    images = tn + fp + fn + tp
    defined = {
        "roc_auc": tn + fp and fn + tp,
        "average_precision": fn + tp,
        "brier": images,
        "calibration_error": images,
    }
    measures: dict[str, float | None] = {}
    for name in of_probabilities:
        measure = of_probability(name)
        measures[name] = (
            float(measure(y_true, y_score, sample_weight=weight)) if defined[name] else None
        )
    return measures | rates(tn, fp, fn, tp)


def why_undefined(name: str, y_true: np.ndarray) -> str:
    """Say in words why a measure that `score` gave as None is not defined on these images."""
    if name == "matthews" and len(np.unique(y_true)) == 2:
        return "all images were called the same class"
    if name == "precision" and y_true.any():
        return "no image was called positive"
    return "there is no positive image" if not y_true.any() else "there is no negative image"


def title(measure: str) -> str:
    """Return the name of a measure as a reader would write it."""
    return TITLES.get(measure, measure.replace("_", " "))
