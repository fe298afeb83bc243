"""What predictions are worth where they are used: predictive values and net benefit."""

import numpy as np

from stages.measures.intervals import Estimate

# Two intervals at this level both hold with a confidence of 95 % (Bonferroni).
LEVEL_OF_TWO = 0.975


def predictive_values(
    sensitivity: Estimate, specificity: Estimate, prevalence: float
) -> tuple[Estimate, Estimate]:
    """Return the positive and the negative predictive value at a prevalence (Bayes' theorem).

    Each rises with both rates, so its interval goes from both lower limits to both upper ones.

    Args:
        sensitivity, specificity: with intervals at `LEVEL_OF_TWO`.
        prevalence: above 0 and below 1.
    """
    return (
        _predictive_value(sensitivity, specificity, prevalence),
        _predictive_value(specificity, sensitivity, 1 - prevalence),
    )


def _predictive_value(of_class: Estimate, of_other: Estimate, share: float) -> Estimate:
    def value(right: float | None, right_of_other: float | None) -> float | None:
        if right is None or right_of_other is None:
            return None
        predicted = share * right + (1 - share) * (1 - right_of_other)
        return share * right / predicted if predicted else None

    pairs = zip(of_class[1:4], of_other[1:4])
    found, low, high = (value(*pair) for pair in pairs)
    slides = min(of_class.slides, of_other.slides)
    if found is None:
        return Estimate(slides, reason="nothing is predicted so, or a class is missing")
    if low is None or high is None:
        return Estimate(slides, found, reason=of_class.reason or of_other.reason)
    return Estimate(slides, found, low, high)


def net_benefit(y_true: np.ndarray, y_score: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return the net benefit of acting on crops at or above each threshold, float (thresholds,).

    It is the share of crops that are true positives less that of false positives, each weighted by
    the odds of the threshold (Vickers and Elkin, Med Decis Making 26:565, 2006).

    Args:
        thresholds: float, above 0 and below 1.
    """
    positives, negatives = (np.sort(y_score[y_true == label]) for label in (1, 0))
    true, false = (
        len(scores) - np.searchsorted(scores, thresholds) for scores in (positives, negatives)
    )
    return (true - false * thresholds / (1 - thresholds)) / len(y_true)
