"""Measures of a binary classifier: one table, from which everything said of a measure is derived.

To add a measure, add its row to `MEASURES` and a case worked by hand to its test.
Arrays are (y_true, y_score) as in scikit-learn: int of 0 and 1, and float, both (N,).
"""

import math
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple, assert_never

import numpy as np

Outcome = Literal["better", "worse", "not settled"]
# ROC AUC of the pairs whose two crops are of one fold (Airola et al., Comput Stat Data Anal
# 55:1828, 2011): unlike the ROC AUC of pooled folds it does not depend on how the models of
# different folds are calibrated.
WITHIN_FOLDS = "roc_auc_within_folds"


class Confusion(NamedTuple):
    """How many images of each class are predicted as each class."""

    true_negative: int
    false_positive: int
    false_negative: int
    true_positive: int


class Undefined(NamedTuple):
    """A reason for which a measure is undefined: the sum of these counts is 0."""

    reason: str
    counts: Callable[[int, int, int, int], int]


NO_IMAGE = Undefined("there is no image", lambda tn, fp, fn, tp: tn + fp + fn + tp)
NO_POSITIVE = Undefined("there is no positive image", lambda tn, fp, fn, tp: fn + tp)
NO_NEGATIVE = Undefined("there is no negative image", lambda tn, fp, fn, tp: tn + fp)
NONE_PREDICTED_POSITIVE = Undefined(
    "no image is predicted positive", lambda tn, fp, fn, tp: fp + tp
)
NONE_PREDICTED_NEGATIVE = Undefined(
    "no image is predicted negative", lambda tn, fp, fn, tp: tn + fn
)
ALL_TRUE_NEGATIVE = Undefined(
    "no image is positive or predicted positive", lambda tn, fp, fn, tp: fp + fn + tp
)


class Measure(NamedTuple):
    """A row of `MEASURES`."""

    # The input of `function`. `scores`: (y_true, y_score). `decisions`: the four counts of
    # `Confusion`.
    of: Literal["scores", "decisions"]
    function: Callable[..., float]
    better: Literal["higher", "lower"]
    title: str
    # All reasons for which it may be undefined, the first that applies being given.
    undefined: tuple[Undefined, ...]
    # Largest allowed difference between results that are rounded differently, twice the largest
    # measured (docs/reproducibility.md); None: not compared, as a single decision that tips over
    # can exceed any useful tolerance.
    tolerance: float | None = None

    @property
    def sign(self) -> int:
        """1 if higher is better, -1 if lower is better."""
        match self.better:
            case "higher":
                return 1
            case "lower":
                return -1
            case _:
                assert_never(self.better)

    def why_undefined(self, counts: Confusion) -> str:
        """Return the reason for which it is undefined on these images; empty if it is defined."""
        return next((one.reason for one in self.undefined if not one.counts(*counts)), "")


def calibration_error(y_true: np.ndarray, y_score: np.ndarray) -> float:
    """Return the expected calibration error (Guo et al., ICML 2017).

    It is |share of positives - mean probability| over 15 bins of equal width, weighted by the
    number of images in each.
    """
    bins = np.minimum((y_score * 15).astype(np.int64), 14)
    gaps = np.bincount(bins, weights=y_true - y_score, minlength=15)
    return float(np.abs(gaps).sum() / len(y_true))


def of_scikit_learn(name: str) -> Callable[..., float]:
    """Return a function of scikit-learn, which is slow to import and thus imported when called."""

    def measure(y_true: np.ndarray, y_score: np.ndarray) -> float:
        import sklearn.metrics

        return float(getattr(sklearn.metrics, name)(y_true, y_score))

    return measure


def sensitivity(tn: int, fp: int, fn: int, tp: int) -> float:
    return tp / (tp + fn)


def specificity(tn: int, fp: int, fn: int, tp: int) -> float:
    return tn / (tn + fp)


def matthews(tn: int, fp: int, fn: int, tp: int) -> float:
    return (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))


# In the order in which files and tables list them.
MEASURES = {
    "roc_auc": Measure(
        "scores",
        of_scikit_learn("roc_auc_score"),
        "higher",
        "ROC AUC",
        (NO_POSITIVE, NO_NEGATIVE),
        tolerance=0.006,
    ),
    "average_precision": Measure(
        "scores",
        of_scikit_learn("average_precision_score"),
        "higher",
        "average precision",
        (NO_POSITIVE,),
        tolerance=0.03,
    ),
    "brier": Measure(
        "scores",
        of_scikit_learn("brier_score_loss"),
        "lower",
        "Brier score",
        (NO_IMAGE,),
        tolerance=0.005,
    ),
    "calibration_error": Measure(
        "scores", calibration_error, "lower", "calibration error", (NO_IMAGE,), tolerance=0.012
    ),
    "accuracy": Measure(
        "decisions",
        lambda tn, fp, fn, tp: (tp + tn) / (tn + fp + fn + tp),
        "higher",
        "accuracy",
        (NO_IMAGE,),
    ),
    "balanced_accuracy": Measure(
        "decisions",
        lambda *counts: (sensitivity(*counts) + specificity(*counts)) / 2,
        "higher",
        "balanced accuracy",
        (NO_POSITIVE, NO_NEGATIVE),
    ),
    "precision": Measure(
        "decisions",
        lambda tn, fp, fn, tp: tp / (tp + fp),
        "higher",
        "precision",
        (NONE_PREDICTED_POSITIVE,),
    ),
    "npv": Measure(
        "decisions",
        lambda tn, fp, fn, tp: tn / (tn + fn),
        "higher",
        "NPV",
        (NONE_PREDICTED_NEGATIVE,),
    ),
    "sensitivity": Measure("decisions", sensitivity, "higher", "sensitivity", (NO_POSITIVE,)),
    "specificity": Measure("decisions", specificity, "higher", "specificity", (NO_NEGATIVE,)),
    "f1": Measure(
        "decisions",
        lambda tn, fp, fn, tp: 2 * tp / (2 * tp + fp + fn),
        "higher",
        "F1",
        (ALL_TRUE_NEGATIVE,),
    ),
    "matthews": Measure(
        "decisions",
        matthews,
        "higher",
        "Matthews correlation",
        (NO_POSITIVE, NO_NEGATIVE, NONE_PREDICTED_POSITIVE, NONE_PREDICTED_NEGATIVE),
    ),
}


def confusion(y_true: np.ndarray, y_pred: np.ndarray) -> Confusion:
    """Return the confusion counts.

    Args:
        y_pred: bool or int array (N,), the predicted classes.
    """
    counts = np.bincount(2 * y_true + y_pred, minlength=4)
    return Confusion(*(int(count) for count in counts))


def rates(tn: int, fp: int, fn: int, tp: int) -> dict[str, float | None]:
    """Return the measures of decisions by their names; None where undefined."""
    counts = Confusion(tn, fp, fn, tp)
    return {
        name: None if measure.why_undefined(counts) else measure.function(*counts)
        for name, measure in MEASURES.items()
        if measure.of == "decisions"
    }


def score(
    y_true: np.ndarray,
    y_score: np.ndarray,
    y_pred: np.ndarray,
    names: Iterable[str] | None = None,
) -> dict[str, float | None]:
    """Return measures by their names; None where undefined, such as ROC AUC of a single class.

    Args:
        y_pred: bool or int array (N,), the predicted classes.
        names: the measures to compute (default: all).
    """
    counts = confusion(y_true, y_pred)
    return {
        name: _value(MEASURES[name], y_true, y_score, counts)
        for name in (MEASURES if names is None else names)
    }


def _value(
    measure: Measure, y_true: np.ndarray, y_score: np.ndarray, counts: Confusion
) -> float | None:
    if measure.why_undefined(counts):
        return None
    match measure.of:
        case "scores":
            return measure.function(y_true, y_score)
        case "decisions":
            return measure.function(*counts)
        case _:
            assert_never(measure.of)


def outcome(direction: int, low: float | None, high: float | None) -> Outcome:
    """Return what the interval of a difference says.

    Args:
        direction: 1 if higher is better, -1 if lower is better.
    """
    if low is None or high is None:
        return "not settled"
    low, high = sorted((direction * low, direction * high))
    return "better" if low > 0 else "worse" if high < 0 else "not settled"


def sign(name: str) -> int:
    """Return 1 if higher is better, -1 if lower is better."""
    return 1 if name == WITHIN_FOLDS else MEASURES[name].sign


def title(name: str) -> str:
    return "ROC AUC within folds" if name == WITHIN_FOLDS else MEASURES[name].title
