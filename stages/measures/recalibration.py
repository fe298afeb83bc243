"""Another laboratory's own calibration, from a few crops that it has labeled.

There the model ranks as well as elsewhere, but its log-odds are shifted: stains, scanners and
preparation differ. So they get a map of their own, slope x log-odds + offset (Platt 1999), behind
which the threshold stays where it is. A dozen labels are few: it is pulled towards none at all by a
prior, of which the strength was measured on laboratories left out (docs/backbones.md).
"""

from typing import NamedTuple

import numpy as np
import scipy
from pydantic import Field

from stages.base.parameters import Parameters

# Log-odds by which a laboratory is shifted: most are little, by chance or by the model's own error;
# a few by a lot. One normal distribution for both would either forbid what the few need, or let a
# dozen unlucky labels spoil what the many have.
LITTLE, LOT, SHARE_OF_LOT = 0.5, 5.0, 0.15
# The logarithm of the slope.
STRETCH = 0.2
LEAST_CROPS = 4
OFFSETS, LOG_SLOPES = np.linspace(-20, 20, 401), np.linspace(-1, 1, 21)
ENOUGH = 0.95


class Shift(Parameters):
    """A laboratory's own map: log-odds become slope x log-odds + offset."""

    slope: float = Field(gt=0)
    offset: float


def fit_shift(y_true: np.ndarray, log_odds: np.ndarray) -> Shift:
    """Return a laboratory's map from some labeled crops: the mean of what is likely, by the labels
    and the prior.

    The posterior mean is summed on a grid: no draw, no start and no step to choose. In place of the
    offset it is the mean of -offset / slope, where even odds come to lie, as that decides.

    Args:
        y_true: int array (n,) of labels 0 and 1; both must be there.
        log_odds: float array (n,), calibrated as the model was where it comes from.

    Raises:
        ValueError: one class is missing.
    """
    if len(np.unique(y_true)) < 2:
        raise ValueError("labels of both classes are needed")
    slopes = np.exp(LOG_SLOPES)
    # The logarithm of how likely all labels are under each map, (offsets, slopes).
    signs = np.where(np.asarray(y_true) == 1, -1.0, 1.0)
    fit = np.zeros((len(OFFSETS), len(slopes)))
    for sign, value in zip(signs, np.asarray(log_odds, dtype=np.float64)):
        fit -= np.logaddexp(0, sign * (slopes * value + OFFSETS[:, None]))
    normal = scipy.stats.norm.pdf
    of_offset = (1 - SHARE_OF_LOT) * normal(OFFSETS, scale=LITTLE) + SHARE_OF_LOT * normal(
        OFFSETS, scale=LOT
    )
    fit += np.log(of_offset)[:, None] + scipy.stats.norm.logpdf(LOG_SLOPES, scale=STRETCH)
    weight = np.exp(fit - fit.max())
    weight /= weight.sum()
    slope = float(np.exp(np.sum(weight * LOG_SLOPES)))
    even = np.sum(weight * -OFFSETS[:, None] / slopes)
    return Shift(slope=slope, offset=float(-slope * even))


def spread(log_odds: np.ndarray, number: int) -> list[int]:
    """Return the rows of so many crops (or of all, if there are fewer) to label: from the lowest
    log-odds to the highest, evenly.

    Labels drawn at random recalibrate as well (docs/backbones.md), but may all be of one class.
    """
    left = [int(row) for row in np.argsort(log_odds, kind="stable")]
    chosen = []
    for target in np.linspace(log_odds.min(), log_odds.max(), min(number, len(left))):
        nearest = min(left, key=lambda row: (abs(log_odds[row] - target), row))
        left.remove(nearest)
        chosen.append(nearest)
    return chosen


def wilson(count: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share, `count` of `n` (Wilson's, of SciPy)."""
    found = scipy.stats.binomtest(count, n).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


class Rate(NamedTuple):
    """A sensitivity or specificity on n crops of which `right` were called right, with its 95 %
    interval.
    """

    right: int
    n: int
    low: float
    high: float


def rate(called: np.ndarray, label: int) -> Rate:
    """Return the rate of crops of one label, of which `called` (bool, n) says what each was called."""
    right = int(np.sum(called == (label == 1)))
    return Rate(right, len(called), *wilson(right, len(called)))


def more_labels(found: Rate) -> int:
    """Return how many more labels it takes, all of them called right, until the interval is above
    0.95; 0 where it is.
    """
    more = 0
    while wilson(found.right + more, found.n + more)[0] < ENOUGH:
        more += 1
    return more


def left_out(y_true: np.ndarray, log_odds: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the log-odds of each crop by the map of all crops but those of its group, float64
    (n,): what new crops get.

    Where the others lack a class, the crop keeps its own, as if nothing were known.
    """
    found = np.array(log_odds, dtype=np.float64)
    for group in np.unique(groups):
        out = groups == group
        if len(np.unique(y_true[~out])) == 2:
            shift = fit_shift(y_true[~out], log_odds[~out])
            found[out] = shift.slope * log_odds[out] + shift.offset
    return found
