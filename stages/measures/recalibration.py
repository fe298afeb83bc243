"""Recalibration for another site, from a few crops that it has labeled.

At another site the model usually ranks as well, but stain and scanner shift its log-odds. They get
a map, slope x log-odds + offset (Platt 1999), so the threshold can stay. Because a dozen labels are
few, a prior pulls the map towards the identity; its strength was measured on sites that were left
out (docs/backbones.md).
"""

from typing import NamedTuple

import numpy as np
import scipy
from pydantic import Field

from stages.base.parameters import Parameters

# Prior of the offset: most sites are shifted little, a few by a lot. A single normal distribution
# would either forbid large shifts or let a dozen unlucky labels spoil the common case.
SMALL_SHIFT, LARGE_SHIFT, LARGE_SHARE = 0.5, 5.0, 0.15
# Prior standard deviation of the logarithm of the slope.
LOG_SLOPE = 0.2
LEAST_CROPS = 4
OFFSETS, LOG_SLOPES = np.linspace(-20, 20, 401), np.linspace(-1, 1, 21)
ENOUGH = 0.95


class Shift(Parameters):
    """The map of a site: log-odds become slope x log-odds + offset."""

    slope: float = Field(gt=0)
    offset: float


def fit_shift(y_true: np.ndarray, log_odds: np.ndarray) -> Shift:
    """Return the posterior mean of a site's map, summed on a grid.

    The mean is taken of log slope and of -offset / slope, the log-odds that become even odds.

    Args:
        y_true: int (n,), labels 0 and 1.
        log_odds: float (n,), of the probabilities with the model's original calibration.

    Raises:
        ValueError: a class is missing.
    """
    if len(np.unique(y_true)) < 2:
        raise ValueError("labels of both classes are needed")
    slopes = np.exp(LOG_SLOPES)
    # Log-likelihood of all labels, then log-posterior, (offsets, slopes).
    signs = np.where(np.asarray(y_true) == 1, -1.0, 1.0)
    fit = np.zeros((len(OFFSETS), len(slopes)))
    for sign, value in zip(signs, np.asarray(log_odds, dtype=np.float64)):
        fit -= np.logaddexp(0, sign * (slopes * value + OFFSETS[:, None]))
    normal = scipy.stats.norm.pdf
    of_offset = (1 - LARGE_SHARE) * normal(OFFSETS, scale=SMALL_SHIFT) + LARGE_SHARE * normal(
        OFFSETS, scale=LARGE_SHIFT
    )
    fit += np.log(of_offset)[:, None] + scipy.stats.norm.logpdf(LOG_SLOPES, scale=LOG_SLOPE)
    weight = np.exp(fit - fit.max())
    weight /= weight.sum()
    slope = float(np.exp(np.sum(weight * LOG_SLOPES)))
    even = np.sum(weight * -OFFSETS[:, None] / slopes)
    return Shift(slope=slope, offset=float(-slope * even))


def evenly_spaced(log_odds: np.ndarray, number: int) -> list[int]:
    """Return the rows of `number` crops to label, evenly spaced from the lowest to the highest
    log-odds; all rows if there are fewer.

    Random crops recalibrate as well (docs/backbones.md), but may all be of one class.
    """
    left = [int(row) for row in np.argsort(log_odds, kind="stable")]
    chosen = []
    for target in np.linspace(log_odds.min(), log_odds.max(), min(number, len(left))):
        nearest = min(left, key=lambda row: (abs(log_odds[row] - target), row))
        left.remove(nearest)
        chosen.append(nearest)
    return chosen


def wilson(count: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of the share `count` / `n`."""
    found = scipy.stats.binomtest(count, n).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


class Rate(NamedTuple):
    """A sensitivity or specificity: `right` of `n` crops, with its 95 % interval."""

    right: int
    n: int
    low: float
    high: float


def rate(y_pred: np.ndarray, label: int) -> Rate:
    """Return the rate of crops that all have this label, from their predictions, bool (n,)."""
    right = int(np.sum(y_pred == (label == 1)))
    return Rate(right, len(y_pred), *wilson(right, len(y_pred)))


def more_labels(found: Rate) -> int:
    """Return how many more correct predictions would raise the interval above 0.95."""
    more = 0
    while wilson(found.right + more, found.n + more)[0] < ENOUGH:
        more += 1
    return more


def cross_fitted(y_true: np.ndarray, log_odds: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the log-odds of each crop by the map of the other groups' crops, float64 (n,).

    Where the other groups lack a class, the log-odds are unchanged.
    """
    found = np.array(log_odds, dtype=np.float64)
    for group in np.unique(groups):
        out = groups == group
        if len(np.unique(y_true[~out])) == 2:
            shift = fit_shift(y_true[~out], log_odds[~out])
            found[out] = shift.slope * log_odds[out] + shift.offset
    return found
