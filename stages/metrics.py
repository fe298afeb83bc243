"""Measures of a binary classifier, its operating threshold, and intervals from a bootstrap over slides.

Functions take (y_true, y_score) like scikit-learn's: y_true int (N,) of 0 and 1, y_score float (N,). An image is called positive
where y_score >= threshold. scikit-learn takes longer to import than most of this takes to run: it is, where it is needed.
"""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Literal

import numpy as np
import scipy
from pydantic import Field

from stages.base.parameters import Parameters
from stages.calibration import Method, log_odds

LOWER_IS_BETTER = ("brier", "calibration_error")
TITLES = {"roc_auc": "ROC AUC", "f1": "F1"}
WITH_INTERVALS = ("roc_auc", "sensitivity", "specificity", "f1")


class EvaluateParameters(Parameters):
    """`evaluate` in params.yaml."""

    calibration: Method
    threshold: Literal["fixed", "youden", "balanced", "sensitivity"]
    target: float = Field(gt=0, le=1)
    uncertain: float = Field(ge=0, lt=1)
    bootstrap: int = Field(ge=0, le=1_000_000)
    seed: int = Field(ge=0, lt=2**32)


def choose_threshold(y_true: np.ndarray, y_score: np.ndarray, rule: str, target: float) -> float:
    """Return the operating threshold that `rule` gives on these (validation) images.

    `fixed` is 0.5; `youden` maximises sensitivity + specificity - 1 (Youden, Cancer 3:32, 1950; the highest such threshold);
    `balanced` maximises the lower of sensitivity and specificity, which are nearly equal there (López-Ratón et al., J Stat Softw
    61(8), 2014, criterion SpEqualSe; the highest such threshold); `sensitivity` is the highest threshold at which the
    sensitivity reaches `target`.

    Raises:
        ValueError: a class that the rule needs is missing.
    """
    positives = np.sort(y_score[y_true == 1])[::-1]
    if rule == "fixed":
        return 0.5
    if len(positives) == 0 or (rule != "sensitivity" and len(positives) == len(y_true)):
        raise ValueError(f"the rule {rule} needs images of both classes")
    if rule in ("youden", "balanced"):
        from sklearn.metrics import roc_curve

        false_positive_rate, sensitivity, thresholds = roc_curve(y_true, y_score, drop_intermediate=False)
        specificity = 1 - false_positive_rate
        gain = sensitivity + specificity if rule == "youden" else np.minimum(sensitivity, specificity)
        # The first threshold of the curve is infinite: nothing is called positive there.
        return float(thresholds[1:][np.argmax(gain[1:])])
    reached = np.arange(1, len(positives) + 1) / len(positives) >= target
    return float(positives[np.argmax(reached)])


def sureness(y_score: np.ndarray, threshold: float) -> np.ndarray:
    """Return how far each probability is from the threshold, float (N,), in log-odds.

    In them 0.01 is as far from 0.1 as 0.5 is from 0.92.
    """
    return np.abs(log_odds(y_score) - log_odds(threshold))


def uncertain_band(y_true: np.ndarray, y_score: np.ndarray, threshold: float, error: float) -> tuple[float, float]:
    """Return (low, high): probabilities between them, the bounds included, are too uncertain to decide by.

    The band is symmetric about the threshold in log-odds, and the narrowest outside which at most the share `error` of these
    (validation) images is on the wrong side (the reject option of Chow, IEEE Trans Inf Theory 16:41, 1970). It is empty,
    (threshold, threshold) with low = high, where no band is needed, and (0, 1) where none suffices.
    """
    distance = sureness(y_score, threshold)
    _, wrong, at = coverage_curve(y_true, y_score, threshold)
    if wrong[-1] <= error:
        return threshold, threshold
    enough = np.flatnonzero(wrong <= error)
    if len(enough) == 0:
        return 0.0, 1.0
    # The surest of those that are left out bounds the band; as it is, so that rounding does not let it out.
    left_out = distance < at[enough[-1]]
    reach = float(distance[left_out].max())
    centre = float(log_odds(threshold))
    low = min(float(scipy.special.expit(centre - reach)), float(y_score[left_out].min()))
    high = max(float(scipy.special.expit(centre + reach)), float(y_score[left_out].max()))
    return low, high


def is_certain(y_score: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return which probabilities lie outside the band that `uncertain_band` gave, bool (N,): all, where it is empty."""
    return np.ones(len(y_score), dtype=bool) if low == high else (y_score < low) | (y_score > high)


def coverage_curve(y_true: np.ndarray, y_score: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (coverage, error, sureness), float (n,) each: deciding the images that are at least so sure, which share is decided
    and which share of these wrongly. From the surest to all.
    """
    distance = sureness(y_score, threshold)
    order = np.argsort(-distance, kind="stable")
    wrong = (y_true == 1) != (y_score >= threshold)
    errors = np.cumsum(wrong[order])
    # Images that are equally sure are decided together.
    last = np.flatnonzero(np.append(np.diff(distance[order]) != 0, True))
    return (last + 1) / len(y_true), errors[last] / (last + 1), distance[order][last]


def calibration_error(y_true: np.ndarray, y_score: np.ndarray, sample_weight: np.ndarray | None = None) -> float:
    """Return the expected calibration error: |share of positives - mean probability| over 15 bins of equal width, weighted by
    their images (Guo et al., ICML 2017).
    """
    weight = np.ones(len(y_true)) if sample_weight is None else sample_weight
    bins = np.minimum((y_score * 15).astype(np.int64), 14)
    return float(np.abs(np.bincount(bins, weights=weight * (y_true - y_score), minlength=15)).sum() / weight.sum())


OF_PROBABILITIES = ("roc_auc", "average_precision", "brier", "calibration_error")


def of_probability(name: str) -> Callable[..., float]:
    """Return one of the measures `OF_PROBABILITIES`, a function of (y_true, y_score, sample_weight)."""
    from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

    measures = (roc_auc_score, average_precision_score, brier_score_loss, calibration_error)
    return dict(zip(OF_PROBABILITIES, measures))[name]


def confusion(y_true: np.ndarray, y_pred: np.ndarray, weight: np.ndarray | None = None) -> tuple[int, int, int, int]:
    """Return (true negatives, false positives, false negatives, true positives).

    Args:
        y_pred: bool or int array (N,), what each image was called.
        weight: int array (N,), how many times each image counts.
    """
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
        of_probabilities: those of `OF_PROBABILITIES` to compute, which take more time than the others.
    """
    tn, fp, fn, tp = confusion(y_true, y_pred, weight)
    images = tn + fp + fn + tp
    defined = {"roc_auc": tn + fp and fn + tp, "average_precision": fn + tp, "brier": images, "calibration_error": images}
    measures: dict[str, float | None] = {}
    for name in of_probabilities:
        measure = of_probability(name)
        measures[name] = float(measure(y_true, y_score, sample_weight=weight)) if defined[name] else None
    return measures | rates(tn, fp, fn, tp)


def why_undefined(name: str, y_true: np.ndarray) -> str:
    """Say in words why a measure that `score` gave as None is not defined on these images."""
    if name == "matthews" and len(np.unique(y_true)) == 2:
        return "all images were called the same class"
    if name == "precision" and y_true.any():
        return "no image was called positive"
    return "there is no positive image" if not y_true.any() else "there is no negative image"


def slide_bootstrap(
    y_true: np.ndarray, y_score: np.ndarray, y_pred: np.ndarray, slides: np.ndarray, replicates: int, seed: int
) -> dict[str, dict[str, float] | None]:
    """Return 95 % intervals of ROC AUC, sensitivity, specificity and F1, as the images of one slide are alike.

    Slides, not images, are drawn with replacement, as many as there are, `replicates` times (the cluster bootstrap; Field and
    Welsh, JRSS B 69:369, 2007); low and high are the 2.5th and 97.5th percentile. Draws on which a measure is not defined
    are left out; None where that is more than half of them.

    Args:
        y_pred: bool or int array (N,), what each image was called.
        slides: text or int array (N,), the slide of each image.
    """
    codes = np.unique(slides, return_inverse=True)[1]
    drawn: dict[str, list[float]] = {name: [] for name in WITH_INTERVALS}
    for counts in slide_draws(int(codes.max()) + 1, replicates, seed):
        measured = score(y_true, y_score, y_pred, counts[codes], of_probabilities=("roc_auc",))
        for name, values in drawn.items():
            if (value := measured[name]) is not None:
                values.append(value)
    return {name: interval(values, replicates) for name, values in drawn.items()}


def slide_draws(slides: int, replicates: int, seed: int) -> Iterator[np.ndarray]:
    """Yield, for each of `replicates` draws with replacement of as many slides as there are, how often each was drawn.

    int array (slides,), with a sum of `slides`.
    """
    random = np.random.default_rng(seed)
    for _ in range(replicates):
        yield np.bincount(random.integers(slides, size=slides), minlength=slides)


def interval(values: Sequence[float], replicates: int, level: float = 0.95) -> dict[str, float] | None:
    """Return the percentile interval of a measure's values on bootstrap draws; None if half of the draws did not define it."""
    if 2 * len(values) <= replicates:
        return None
    low, high = np.percentile(values, (50 * (1 - level), 50 * (1 + level)))
    return {"low": float(low), "high": float(high)}


def title(measure: str) -> str:
    """Return the name of a measure as a reader would write it."""
    return TITLES.get(measure, measure.replace("_", " "))
