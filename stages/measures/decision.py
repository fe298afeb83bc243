"""From a probability to a decision: the operating threshold and the uncertain band around it."""

from pathlib import Path

import numpy as np
from pydantic import Field, model_validator

from stages.base.files import Sha256, read_json_as
from stages.base.parameters import Parameters
from stages.measures.calibration import Calibration, Share, log_odds
from stages.measures.classes import Classes
from stages.measures.parameters import Rule
from stages.measures.percentages import SlideShift

CALIBRATION = Path("models/calibration.json")
# How far a band may miss its threshold, because log-odds are clipped and rounded.
ROUNDING = 1e-6


def is_positive(y_score: np.ndarray, threshold: float) -> np.ndarray:
    """Return which images are predicted positive, bool (N,): those at or above the threshold."""
    return y_score >= threshold


def confidence(y_score: np.ndarray, threshold: float) -> np.ndarray:
    """Return the distance of each probability from the threshold in log-odds, float (N,)."""
    return np.abs(log_odds(y_score) - log_odds(threshold))


class Band(Parameters):
    """The probabilities from `low` to `high`, both included, that are too uncertain to decide by.

    Both are None if there is no band. They may be equal.
    """

    low: Share | None
    high: Share | None

    @model_validator(mode="after")
    def _fit_together(self) -> "Band":
        if (self.low is None) != (self.high is None) or (
            self.low is not None and self.high is not None and self.low > self.high
        ):
            raise ValueError("low and high must both be null, or low must not be above high")
        return self

    def contains(self, y_score: np.ndarray) -> np.ndarray:
        """Return which probabilities are in the band, bool (N,)."""
        if self.low is None or self.high is None:
            return np.zeros(len(y_score), dtype=bool)
        return (y_score >= self.low) & (y_score <= self.high)


def coverage_curve(
    y_true: np.ndarray, y_score: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (coverage, error rate, least confidence), float (n,) each, by descending confidence.

    Each point decides the images with at least that confidence: which share of all images they
    are, and which share of them is wrong. Equally confident images are decided together.
    """
    distance = confidence(y_score, threshold)
    order = np.argsort(-distance, kind="stable")
    wrong = (y_true == 1) != is_positive(y_score, threshold)
    errors = np.cumsum(wrong[order])
    last = np.flatnonzero(np.append(np.diff(distance[order]) != 0, True))
    return (last + 1) / len(y_true), errors[last] / (last + 1), distance[order][last]


class Rates(Parameters):
    """Sensitivity and specificity; None if a class is missing.

    `coverage` is the share of crops that are decided, and the last two are the rates among these.
    """

    sensitivity: Share | None
    specificity: Share | None
    coverage: Share
    decided_sensitivity: Share | None
    decided_specificity: Share | None


def measure_rates(y_true: np.ndarray, y_score: np.ndarray, threshold: float, band: Band) -> Rates:
    """Return the rates of all crops and of the decided ones.

    Args:
        y_true: int (N,).
        y_score: float (N,).
    """
    decided, right = ~band.contains(y_score), (y_true == 1) == is_positive(y_score, threshold)

    def share(rows: np.ndarray) -> float | None:
        return float(right[rows].mean()) if rows.any() else None

    return Rates(
        sensitivity=share(y_true == 1),
        specificity=share(y_true == 0),
        coverage=float(decided.mean()),
        decided_sensitivity=share(decided & (y_true == 1)),
        decided_specificity=share(decided & (y_true == 0)),
    )


class Interval(Parameters):
    """A 95 % interval, both ends included."""

    low: Share
    high: Share


class Bound(Parameters):
    """How many of a class are decided wrongly, at most, with 95 % confidence over slides."""

    at_most: Share | None  # the upper bound of their share; None with a single slide
    # Whether the crops are too few to show that `max_error_rate` holds, so that the band rests on a
    # normal distribution of the log-odds.
    extrapolated: bool


class Bounds(Parameters):
    """The bounds of both classes: of missed positives, and of negatives predicted positive."""

    positive: Bound
    negative: Bound


class Decision(Parameters):
    """How a model's probability becomes a decision; the content of models/calibration.json."""

    threshold: Share  # the operating point, in calibrated probabilities
    threshold_interval: Interval | None  # of the threshold, over slides; None if it is fixed
    threshold_rule: Rule
    # Of the rules about sensitivity; None for other rules.
    target_sensitivity: float | None = Field(gt=0, le=1)
    uncertain: Band  # band of calibrated probabilities
    max_error_rate: Share  # of each class, the share that is allowed to be decided wrongly
    errors: Bounds  # the bounds of these shares
    calibration: Calibration  # applied to the model's probability first
    validation: Rates  # rates on the validation slides
    classes: Classes  # the calibrated log-odds on the validation slides, by class
    prevalence: Share  # the share of positives on the validation slides
    model_sha256: Sha256  # of the model.json that this file belongs to
    slide_shift: SlideShift  # of the log-odds, for the percentage of a slide

    @model_validator(mode="after")
    def _fit_together(self) -> "Decision":
        of_sensitivity = self.threshold_rule.endswith("sensitivity")
        if of_sensitivity != (self.target_sensitivity is not None):
            raise ValueError(
                "target_sensitivity must be a number if threshold_rule is about sensitivity, else "
                "null"
            )
        low, high = self.uncertain.low, self.uncertain.high
        if (
            low is not None
            and high is not None
            and not low - ROUNDING <= self.threshold <= high + ROUNDING
        ):
            raise ValueError(
                f"the uncertain band, {low} to {high}, does not contain the threshold "
                f"{self.threshold}"
            )
        return self

    def is_positive(self, y_score: np.ndarray) -> np.ndarray:
        """Return which calibrated probabilities are predicted positive, bool (N,)."""
        return is_positive(y_score, self.threshold)

    def is_uncertain(self, y_score: np.ndarray) -> np.ndarray:
        """Return which calibrated probabilities are in the uncertain band, bool (N,)."""
        return self.uncertain.contains(y_score)


def read_decision(path: Path = CALIBRATION) -> Decision:
    """Return the decision saved by the stage `calibrate`.

    Raises:
        UserError: the file is missing or damaged.
    """
    return read_json_as(path, Decision)
