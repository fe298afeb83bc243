"""Measures of a binary classifier, its operating threshold, and intervals from a bootstrap over slides.

Functions take (y_true, y_score) like scikit-learn's: y_true int (N,) of 0 and 1, y_score float (N,), and an image is called
positive where y_score >= threshold.
"""

import math
from typing import Literal

import numpy as np
from pydantic import Field
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score, roc_curve

from stages.params import Parameters


class EvaluateParameters(Parameters):
    """`evaluate` in params.yaml."""

    threshold: Literal["fixed", "youden", "sensitivity"]
    target: float = Field(gt=0, le=1)
    bootstrap: int = Field(ge=0, le=1_000_000)
    seed: int = Field(ge=0, lt=2**32)


def choose_threshold(y_true: np.ndarray, y_score: np.ndarray, rule: str, target: float) -> float:
    """Return the operating threshold that `rule` gives on these (validation) images.

    `fixed` is 0.5; `youden` maximises sensitivity + specificity - 1 (Youden, Cancer 3:32, 1950; the highest such threshold);
    `sensitivity` is the highest threshold at which the sensitivity reaches `target`.

    Raises:
        ValueError: a class that the rule needs is missing.
    """
    positives = np.sort(y_score[y_true == 1])[::-1]
    if rule == "fixed":
        return 0.5
    if len(positives) == 0 or (rule == "youden" and len(positives) == len(y_true)):
        raise ValueError(f"the rule {rule} needs images of both classes")
    if rule == "youden":
        false_positive_rate, sensitivity, thresholds = roc_curve(y_true, y_score)
        # The first threshold of the curve is infinite: nothing is called positive there.
        return float(thresholds[1:][np.argmax((sensitivity - false_positive_rate)[1:])])
    reached = np.arange(1, len(positives) + 1) / len(positives) >= target
    return float(positives[np.argmax(reached)])


def confusion(y_true: np.ndarray, y_pred: np.ndarray, weight: np.ndarray | None = None) -> tuple[int, int, int, int]:
    """Return (true negatives, false positives, false negatives, true positives); `weight` counts an image several times."""
    counts = np.bincount(2 * y_true + y_pred, weights=weight, minlength=4)
    tn, fp, fn, tp = (int(count) for count in counts)
    return tn, fp, fn, tp


def rates(tn: int, fp: int, fn: int, tp: int) -> dict[str, float | None]:
    """Return the measures that follow from the confusion counts; None where the denominator is zero."""
    sensitivity, specificity = _ratio(tp, tp + fn), _ratio(tn, tn + fp)
    both = sensitivity is not None and specificity is not None
    return {
        "accuracy": _ratio(tp + tn, tn + fp + fn + tp),
        "balanced_accuracy": (sensitivity + specificity) / 2 if both else None,
        "precision": _ratio(tp, tp + fp),
        "sensitivity": sensitivity,
        "specificity": specificity,
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
        "matthews": _ratio(tp * tn - fp * fn, math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))),
    }


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator else None


def score(y_true: np.ndarray, y_score: np.ndarray, threshold: float) -> dict[str, float | None]:
    """Return every measure; None where it is not defined, such as ROC AUC with one class alone."""
    both = len(np.unique(y_true)) == 2
    return {
        "roc_auc": float(roc_auc_score(y_true, y_score)) if both else None,
        "average_precision": float(average_precision_score(y_true, y_score)) if y_true.any() else None,
        "brier": float(brier_score_loss(y_true, y_score, pos_label=1)) if len(y_true) else None,
        **rates(*confusion(y_true, (y_score >= threshold).astype(np.int64))),
    }


def why_undefined(name: str, y_true: np.ndarray) -> str:
    """Say in words why a measure that `score` gave as None is not defined on these images."""
    if name == "matthews" and len(np.unique(y_true)) == 2:
        return "all images were called the same class"
    if name == "precision" and y_true.any():
        return "no image was called positive"
    return "there is no positive image" if not y_true.any() else "there is no negative image"


def slide_bootstrap(
    y_true: np.ndarray, y_score: np.ndarray, threshold: float, slides: np.ndarray, replicates: int, seed: int
) -> dict[str, dict[str, float] | None]:
    """Return 95 % intervals of ROC AUC, sensitivity, specificity and F1, as the images of one slide are alike.

    Slides, not images, are drawn with replacement, as many as there are, `replicates` times (the cluster bootstrap; Field and
    Welsh, JRSS B 69:369, 2007); low and high are the 2.5th and 97.5th percentile. Draws on which a measure is not defined
    are left out; None where that is more than half of them.

    Args:
        slides: text or int array (N,), the slide of each image.
    """
    random = np.random.default_rng(seed)
    codes = np.unique(slides, return_inverse=True)[1]
    number = int(codes.max()) + 1
    y_pred = (y_score >= threshold).astype(np.int64)
    drawn: dict[str, list[float]] = {"roc_auc": [], "sensitivity": [], "specificity": [], "f1": []}
    for _ in range(replicates):
        weight = np.bincount(random.integers(number, size=number), minlength=number)[codes]
        measured = rates(*confusion(y_true, y_pred, weight))
        both = measured["balanced_accuracy"] is not None
        measured["roc_auc"] = float(roc_auc_score(y_true, y_score, sample_weight=weight)) if both else None
        for name, values in drawn.items():
            if measured[name] is not None:
                values.append(measured[name])
    intervals: dict[str, dict[str, float] | None] = {}
    for name, values in drawn.items():
        low, high = np.percentile(values, (2.5, 97.5)) if values else (0, 0)
        intervals[name] = {"low": float(low), "high": float(high)} if 2 * len(values) > replicates else None
    return intervals
