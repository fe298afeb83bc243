"""The uncertain band: which crops are left undecided so that few of each class are decided wrongly.

The errors of each class are bounded separately, because an error rate of all crops hides those of
the rarer class. Each side of the band is bounded from above with 95 % confidence over slides, in
the sense of a tolerance limit: of new crops of the class, at most the allowed share lies beyond.
"""

from typing import NamedTuple

import numpy as np
import scipy

from stages.measures.calibration import log_odds
from stages.measures.classes import effective_crops
from stages.measures.decision import Band
from stages.measures.intervals import FEWEST_SLIDES, proportion

# The confidence of each bound, and the level of a two-sided interval with that upper limit.
CONFIDENCE = 0.95
LEVEL = 2 * CONFIDENCE - 1


class Side(NamedTuple):
    """One side of the band."""

    limit: float  # in log-odds: positives below it, or negatives above it, are decided wrongly
    # The upper bound of the share of the class beyond the limit; None with one slide.
    bound: float | None
    # Whether the crops are too few for the bound, so that the limit rests on a normal distribution
    # of the log-odds.
    extrapolated: bool


def fit_band(
    y_true: np.ndarray,
    y_score: np.ndarray,
    slides: np.ndarray,
    threshold: float,
    max_error_rate: float,
) -> tuple[Band, dict[str, Side]]:
    """Return the narrowest band outside of which at most `max_error_rate` of each class lie.

    Args:
        y_true: int (n,), both classes.
        y_score: float (n,), probabilities.
        slides: text or int (n,).

    Returns:
        the band, and its two sides by the class whose errors they bound.
    """
    odds, positive = log_odds(y_score), np.asarray(y_true) == 1
    missed = _side(odds[positive], slides[positive], max_error_rate)
    mirrored = _side(-odds[~positive], slides[~positive], max_error_rate)
    alarms = mirrored._replace(limit=-mirrored.limit)
    sides = {"positive": missed, "negative": alarms}
    # Exactly the scores of the crops at the limits, so that rounding cannot exclude them.
    beyond = odds < missed.limit, odds > alarms.limit
    low = min(float(scipy.special.expit(missed.limit)), y_score[positive & ~beyond[0]].min())
    high = max(float(scipy.special.expit(alarms.limit)), y_score[~positive & ~beyond[1]].max())
    if low >= threshold > high:
        return Band(low=None, high=None), sides
    # A side without a band ends at the threshold, which itself is positive.
    below = float(np.nextafter(threshold, 0))
    return Band(low=float(min(low, threshold)), high=float(max(high, below))), sides


def _side(odds: np.ndarray, slides: np.ndarray, allowed: float) -> Side:
    """Return the highest limit such that at most a share `allowed` of a class lies below it."""
    odds, slides = odds[order := np.argsort(odds, kind="stable")], slides[order]
    limit, bound = highest_limit(odds, slides, allowed)
    if limit is not None:
        return Side(limit, bound, False)
    return Side(min(float(odds[0]), _normal_limit(odds, slides, allowed)), bound, True)


def highest_limit(
    values: np.ndarray, slides: np.ndarray, allowed: float
) -> tuple[float | None, float | None]:
    """Return the highest value below which surely at most a share `allowed` lies, and its bound.

    Without such a value it is None, with the bound of the lowest one; with one slide both are None.
    """
    limit, bound = None, None
    for value in np.unique(values):
        of_value = proportion(values < value, slides, LEVEL).high
        if of_value is None or of_value > allowed:
            return limit, of_value if limit is None else bound
        limit, bound = float(value), of_value
    return limit, bound


def _normal_limit(odds: np.ndarray, slides: np.ndarray, allowed: float) -> float:
    """Return the lower tolerance limit of a normal distribution (Owen, J Am Stat Assoc 63:445,
    1968), for the effective number of crops; minus infinity without two crops and an allowed share.
    """
    crops = effective_crops(odds, slides)
    if allowed <= 0 or len(odds) < 2 or crops < FEWEST_SLIDES:
        return -np.inf
    distance = -scipy.stats.norm.ppf(allowed) * np.sqrt(crops)
    factor = scipy.stats.nct.ppf(CONFIDENCE, crops - 1, distance) / np.sqrt(crops)
    return float(odds.mean() - factor * odds.std(ddof=1))
