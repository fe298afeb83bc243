"""From a probability to a decision: the operating threshold and the uncertain band around it."""

from pathlib import Path
from typing import assert_never

import numpy as np
import scipy
from pydantic import Field, model_validator

from stages.base.files import Sha256, read_json_as
from stages.base.parameters import Parameters
from stages.measures.calibration import Calibration, Share, log_odds
from stages.measures.parameters import Rule

CALIBRATION = Path("models/calibration.json")
# How far a band may miss its threshold, because log-odds are clipped and rounded.
ROUNDING = 1e-6


def is_positive(y_score: np.ndarray, threshold: float) -> np.ndarray:
    """Return which images are predicted positive, bool (N,): those at or above the threshold."""
    return y_score >= threshold


def choose_threshold(
    y_true: np.ndarray, y_score: np.ndarray, rule: Rule, target_sensitivity: float
) -> float:
    """Return the operating threshold that `rule` gives on these (validation) images.

    - `fixed`: 0.5.
    - `youden`: maximizes sensitivity + specificity - 1 (Youden, Cancer 3:32, 1950).
    - `balanced`: maximizes the lower of sensitivity and specificity (López-Ratón et al., J Stat
      Softw 61(8), 2014, criterion SpEqualSe).
    - `sensitivity`: the sensitivity is at least `target_sensitivity`.

    If several thresholds qualify, the highest is taken.

    Raises:
        ValueError: a class that the rule needs is missing.
    """
    positives = np.sort(y_score[y_true == 1])[::-1]
    if rule == "fixed":
        return 0.5
    if len(positives) == 0 or (rule != "sensitivity" and len(positives) == len(y_true)):
        raise ValueError(f"the rule {rule} needs images of both classes")
    match rule:
        case "sensitivity":
            reached = np.arange(1, len(positives) + 1) / len(positives) >= target_sensitivity
            return float(positives[np.argmax(reached)])
        case "youden" | "balanced":
            from sklearn.metrics import roc_curve

            false_positive_rate, sensitivity, thresholds = roc_curve(
                y_true, y_score, drop_intermediate=False
            )
            both = sensitivity, 1 - false_positive_rate
            gain = both[0] + both[1] if rule == "youden" else np.minimum(*both)
            # The curve starts with an infinite threshold, at which nothing is positive.
            return float(thresholds[1:][np.argmax(gain[1:])])
        case _:
            assert_never(rule)


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


def uncertain_band(
    y_true: np.ndarray, y_score: np.ndarray, threshold: float, max_error_rate: float
) -> Band:
    """Return the narrowest band such that the error rate outside it is at most `max_error_rate`.

    The band is symmetric about the threshold in log-odds (the reject option of Chow, IEEE Trans Inf
    Theory 16:41, 1970). It is empty if the error rate of all images is low enough, and 0 to 1 if
    no narrower band suffices.
    """
    distance = confidence(y_score, threshold)
    _, error_rate, least = coverage_curve(y_true, y_score, threshold)
    if error_rate[-1] <= max_error_rate:
        return Band(low=None, high=None)
    enough = np.flatnonzero(error_rate <= max_error_rate)
    if len(enough) == 0:
        return Band(low=0.0, high=1.0)
    # The most confident undecided image sets the bounds; its exact score is kept so that rounding
    # cannot exclude it.
    undecided = distance < least[enough[-1]]
    reach = float(distance[undecided].max())
    center = float(log_odds(threshold))
    low = min(float(scipy.special.expit(center - reach)), float(y_score[undecided].min()))
    high = max(float(scipy.special.expit(center + reach)), float(y_score[undecided].max()))
    # Nor may rounding include a decided image that is as far away on the other side.
    positive = is_positive(y_score, threshold)
    below, above = y_score[~undecided & ~positive], y_score[~undecided & positive]
    low = max(low, float(np.nextafter(below.max(initial=-1), 1)))
    high = min(high, float(np.nextafter(above.min(initial=2), 0)))
    return Band(low=low, high=high)


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
    """Sensitivity and specificity; None if a class is missing."""

    sensitivity: Share | None
    specificity: Share | None


class Decision(Parameters):
    """How a model's probability becomes a decision; the content of models/calibration.json.

    Attributes:
        calibration: applied to the model's probability first.
        threshold: operating point, in calibrated probabilities.
        target_sensitivity: of the rule `sensitivity`; None for other rules.
        uncertain: band of calibrated probabilities.
        validation: rates on the validation slides.
        model_sha256: of the model.json that this file belongs to.
        slide_deviation: of the log-odds (`stages.measures.percentages`).
    """

    threshold: Share
    threshold_rule: Rule
    target_sensitivity: float | None = Field(gt=0, le=1)
    uncertain: Band
    calibration: Calibration
    validation: Rates
    model_sha256: Sha256
    slide_deviation: float = Field(ge=0)

    @model_validator(mode="after")
    def _fit_together(self) -> "Decision":
        if (self.threshold_rule == "sensitivity") != (self.target_sensitivity is not None):
            raise ValueError(
                "target_sensitivity must be a number if threshold_rule is 'sensitivity', else null"
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
