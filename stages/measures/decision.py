"""Where to cut, and how sure to be: the operating threshold, and the band of probabilities that is
too uncertain to decide by.

An image is called positive where y_score >= threshold.
"""

from pathlib import Path

import numpy as np
import scipy
from pydantic import Field, model_validator

from stages.base.files import Sha256, read_json_as
from stages.base.parameters import Parameters
from stages.measures.calibration import Calibration, Share, log_odds
from stages.measures.parameters import Rule


def choose_threshold(y_true: np.ndarray, y_score: np.ndarray, rule: str, target: float) -> float:
    """Return the operating threshold that `rule` gives on these (validation) images.

    `fixed` is 0.5; `youden` maximizes sensitivity + specificity - 1 (Youden, Cancer 3:32, 1950; the
    highest such threshold); `balanced` maximizes the lower of sensitivity and specificity, which
    are nearly equal there (López-Ratón et al., J Stat Softw 61(8), 2014, criterion SpEqualSe; the
    highest such threshold); `sensitivity` is the highest threshold at which the sensitivity reaches
    `target`.

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

        false_positive_rate, sensitivity, thresholds = roc_curve(
            y_true, y_score, drop_intermediate=False
        )
        specificity = 1 - false_positive_rate
        gain = (
            sensitivity + specificity if rule == "youden" else np.minimum(sensitivity, specificity)
        )
        # The first threshold of the curve is infinite: nothing is called positive there.
        return float(thresholds[1:][np.argmax(gain[1:])])
    reached = np.arange(1, len(positives) + 1) / len(positives) >= target
    return float(positives[np.argmax(reached)])


def sureness(y_score: np.ndarray, threshold: float) -> np.ndarray:
    """Return how far each probability is from the threshold, float (N,), in log-odds.

    In them 0.01 is as far from 0.1 as 0.5 is from 0.92.
    """
    return np.abs(log_odds(y_score) - log_odds(threshold))


class Band(Parameters):
    """The probabilities from `low` to `high`, both included, that are too uncertain to decide by;
    both None where there are none.

    A band of one value, low = high, is one: of the images whose probability is just that.
    """

    low: Share | None
    high: Share | None

    @model_validator(mode="after")
    def _whole(self) -> "Band":
        if (self.low is None) != (self.high is None) or (
            self.low is not None and self.high is not None and self.low > self.high
        ):
            raise ValueError(
                "of the uncertain band, low and high are both null, or low is not above high"
            )
        return self

    def holds(self, y_score: np.ndarray) -> np.ndarray:
        """Return which probabilities are uncertain, bool (N,)."""
        if self.low is None or self.high is None:
            return np.zeros(len(y_score), dtype=bool)
        return (y_score >= self.low) & (y_score <= self.high)


def uncertain_band(y_true: np.ndarray, y_score: np.ndarray, threshold: float, error: float) -> Band:
    """Return the band of probabilities that are too uncertain to decide by.

    It is symmetric about the threshold in log-odds, and the narrowest outside which at most the
    share `error` of these (validation) images is on the wrong side (the reject option of Chow, IEEE
    Trans Inf Theory 16:41, 1970). There is none where none is needed, and it is all, from 0 to 1,
    where no narrower one suffices.
    """
    distance = sureness(y_score, threshold)
    _, wrong, at = coverage_curve(y_true, y_score, threshold)
    if wrong[-1] <= error:
        return Band(low=None, high=None)
    enough = np.flatnonzero(wrong <= error)
    if len(enough) == 0:
        return Band(low=0.0, high=1.0)
    # The surest of those that are left out bounds the band; as it is, so that rounding does not let
    # it out.
    left_out = distance < at[enough[-1]]
    reach = float(distance[left_out].max())
    center = float(log_odds(threshold))
    low = min(float(scipy.special.expit(center - reach)), float(y_score[left_out].min()))
    high = max(float(scipy.special.expit(center + reach)), float(y_score[left_out].max()))
    # And so that it takes in none that is decided, on the other side of the threshold and as sure
    # but for rounding.
    below, above = (
        y_score[~left_out & side] for side in (y_score < threshold, y_score >= threshold)
    )
    low = max(low, float(np.nextafter(below.max(initial=-1), 1)))
    high = min(high, float(np.nextafter(above.min(initial=2), 0)))
    return Band(low=low, high=high)


def coverage_curve(
    y_true: np.ndarray, y_score: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (coverage, error, sureness), float (n,) each: deciding the images that are at least so
    sure, which share is decided and which share of these wrongly. From the surest to all.
    """
    distance = sureness(y_score, threshold)
    order = np.argsort(-distance, kind="stable")
    wrong = (y_true == 1) != (y_score >= threshold)
    errors = np.cumsum(wrong[order])
    # Images that are equally sure are decided together.
    last = np.flatnonzero(np.append(np.diff(distance[order]) != 0, True))
    return (last + 1) / len(y_true), errors[last] / (last + 1), distance[order][last]


THRESHOLD = Path("models/threshold.json")
# By how much a band may miss its threshold, as log-odds are clipped and rounded.
ROUNDING = 1e-6


class Rates(Parameters):
    """Sensitivity and specificity; None where a class is missing."""

    sensitivity: Share | None
    specificity: Share | None


class Decision(Parameters):
    """How a model's probability becomes a call: what models/threshold.json holds.

    The probability is calibrated first. Then it is called positive from `threshold` on, and
    `uncertain` between the bounds of the band. `rule`, with its `target`, chose the threshold;
    `validation` has the rates on the validation slides. `model_sha256` is of the model.json that it
    belongs to.
    """

    threshold: Share
    rule: Rule
    target: float | None = Field(gt=0, le=1)
    uncertain: Band
    calibration: Calibration
    validation: Rates
    model_sha256: Sha256

    @model_validator(mode="after")
    def _fit_together(self) -> "Decision":
        if (self.rule == "sensitivity") != (self.target is not None):
            raise ValueError(
                "target must be a number with rule 'sensitivity', and null with any other"
            )
        low, high = self.uncertain.low, self.uncertain.high
        if (
            low is not None
            and high is not None
            and not low - ROUNDING <= self.threshold <= high + ROUNDING
        ):
            raise ValueError(
                f"the uncertain band is from {low} to {high}, without the threshold {self.threshold}"
            )
        return self


def read_decision(path: Path = THRESHOLD) -> Decision:
    """Return what the stage `threshold` decided. Raises `UserError` if the file is missing or
    damaged.
    """
    return read_json_as(path, Decision)
