"""Recalibration for another site: where its threshold lies, from a few labels or from none.

At another site the model usually ranks as well, but stain and scanner shift its log-odds. The
log-odds of each class are modeled, not the probability of a class given the log-odds: so it does
not matter how many of each class the site has, or had labeled. Each class lies around its median at
home, shifted by an amount that both classes share and by one of its own. The threshold moves with
the classes. Whether the site is shifted at all is weighed by how well the labels fit without a
shift. The strengths of the priors were measured on sites that were left out (docs/backbones.md).
"""

from typing import Literal, NamedTuple

import numpy as np
import scipy
from pydantic import Field

from stages.base.parameters import Parameters
from stages.measures.classes import Classes
from stages.measures.design_effect import design

# How the labeled crops were chosen; see `stages.recalibrate --help`.
Sampling = Literal["proposed", "slides", "corrections"]
# Prior standard deviations of the shifts: common to both classes, and further of each class.
COMMON, OWN = 3.0, 1.5
# Prior probability that a site is shifted; higher if its crops are out of distribution.
SHIFTED, SHIFTED_IF_NOVEL = 0.15, 0.7
# Log-odds of a class have tails like Student's t with this many degrees of freedom.
TAILS = 4
# The share of labels that may be wrong, so that a single one does not decide.
WRONG_LABELS = 0.02
# The least spread of a class: isotonic calibration gives many crops the same probability.
LEAST_SPREAD = 0.5
# No lower than this many spreads above the center of the negatives does a threshold follow the
# positives: 95 % of a normal distribution.
UPPER_TAIL = 1.645
LEAST_CROPS = 4
FOLDS = 20


class Shift(Parameters):
    """The map of a site: log-odds become slope x log-odds + offset."""

    slope: float = Field(gt=0)
    offset: float


class Home(NamedTuple):
    """What is known from validation: both classes' log-odds, the threshold in log-odds, the share
    of positives, and the sensitivity that is aimed at.
    """

    classes: Classes
    threshold: float
    prevalence: float
    sensitivity: float

    @property
    def medians(self) -> np.ndarray:
        return np.array([self.classes.negative.median, self.classes.positive.median])

    @property
    def spreads(self) -> np.ndarray:
        spreads = np.array([self.classes.negative.spread, self.classes.positive.spread])
        return np.maximum(spreads, LEAST_SPREAD)


class Site(NamedTuple):
    """What is estimated of a site."""

    # negative, positive: the centers of the classes' log-odds.
    negative: float
    positive: float
    shifted: float  # the probability that the threshold has moved
    threshold: float  # in log-odds

    def shift(self, home: Home) -> Shift:
        """Return the map by which the threshold at home fits here."""
        return Shift(slope=1.0, offset=home.threshold - self.threshold)


def fit_site(
    y_true: np.ndarray, log_odds: np.ndarray, slides: np.ndarray, home: Home, novel: bool
) -> Site:
    """Return a site's threshold from labeled crops.

    The threshold of a shifted site is a quantile of its positives, that of the threshold at home.
    If that leaves a gap to the same quantile of the negatives, it is the middle; if both overlap,
    it is not below the upper tail of the negatives. It is raised above no more positives than the
    sensitivity allows. The result is the mean of this threshold and the one at home, weighted by
    the probability of each.

    Args:
        y_true: int (n,), labels 0 and 1.
        log_odds: float (n,), of the probabilities with the model's original calibration.
        slides: text or int (n,); crops of one slide count as fewer.
        novel: whether the crops are out of distribution.

    Raises:
        ValueError: a class is missing.
    """
    if len(np.unique(y_true)) < 2:
        raise ValueError("labels of both classes are needed")
    sizes = np.unique(slides, return_counts=True)[1]
    weight = 1 / design(float((sizes**2).sum() / sizes.sum()))
    negative, positive = _centers(home, [log_odds[y_true == label] for label in (0, 1)], weight)
    moved = _moved_threshold(home, negative, positive)
    allowed = int((1 - home.sensitivity) * (np.sum(y_true) + 1))
    moved = min(moved, max(home.threshold, float(np.sort(log_odds[y_true == 1])[allowed])))
    share = (np.sum(y_true) + 1) / (len(y_true) + 2)
    sampled = scipy.special.logit(share) - scipy.special.logit(home.prevalence)
    signs = np.where(y_true == 1, 1, -1)

    def fit(threshold: float) -> float:
        odds = signs * (log_odds - threshold + home.threshold + sampled)
        right = WRONG_LABELS / 2 + (1 - WRONG_LABELS) * scipy.special.expit(odds)
        return weight * float(np.log(right).sum())

    prior = scipy.special.logit(SHIFTED_IF_NOVEL if novel else SHIFTED)
    shifted = float(scipy.special.expit(fit(moved) - fit(home.threshold) + prior))
    threshold = home.threshold + shifted * (moved - home.threshold)
    return Site(negative, positive, shifted, threshold)


def fit_unlabeled(log_odds: np.ndarray, home: Home) -> Site:
    """Return the threshold of a site that is shifted, from crops without labels.

    The two classes are the components of a mixture with the priors of `fit_site`.

    Args:
        log_odds: float (n,), as for `fit_site`.
    """
    negative, positive = _centers(home, [np.zeros(0), np.zeros(0)], 1.0, log_odds)
    return Site(negative, positive, 1.0, _moved_threshold(home, negative, positive))


def _centers(
    home: Home, labeled: list[np.ndarray], weight: float, unlabeled: np.ndarray | None = None
) -> tuple[float, float]:
    """Return the most probable centers of the negatives and of the positives."""
    medians, spreads = home.medians, home.spreads
    covariance = COMMON**2 + OWN**2 * np.eye(2)
    precision = np.linalg.inv(covariance)
    prevalence = scipy.special.logit(home.prevalence)

    def density(values: np.ndarray, center: float, spread: float) -> np.ndarray:
        return -(TAILS + 1) / 2 * np.log1p(((values - center) / spread) ** 2 / TAILS)

    def surprise(found: np.ndarray) -> float:
        centers, share = found[:2], found[2]
        total = 0.5 * (centers - medians) @ precision @ (centers - medians)
        for values, center, spread in zip(labeled, centers, spreads):
            total -= weight * density(values, center, spread).sum()
        if unlabeled is not None:
            parts = [
                density(unlabeled, center, spread) - np.log(spread) - np.logaddexp(0, sign * share)
                for center, spread, sign in zip(centers, spreads, (1, -1))
            ]
            total -= np.logaddexp(*parts).sum()
        # The share of positives may be any: its prior is wide.
        return float(total + 0.5 * ((share - prevalence) / 2) ** 2)

    if unlabeled is None:
        starts = [(*map(np.median, labeled), prevalence)]
    else:
        starts = [(*(medians + shift), prevalence) for shift in (-8.0, -4.0, 0.0, 4.0)]
    found = [scipy.optimize.minimize(surprise, start, method="L-BFGS-B") for start in starts]
    best = min(found, key=lambda one: one.fun)
    return float(best.x[0]), float(best.x[1])


def _moved_threshold(home: Home, negative: float, positive: float) -> float:
    of_negatives, of_positives = home.threshold + np.array([negative, positive]) - home.medians
    if of_positives >= of_negatives:
        return float(of_positives + of_negatives) / 2
    tail = negative + UPPER_TAIL * home.spreads[0]
    return float(max(of_positives, min(of_negatives, tail)))


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


def cross_fitted(
    y_true: np.ndarray, log_odds: np.ndarray, slides: np.ndarray, home: Home, novel: bool
) -> np.ndarray:
    """Return whether each crop is predicted positive by the threshold of other slides' labels.

    The slides are taken in at most 20 groups. Where the other groups lack a class, the threshold is
    that at home.

    Returns:
        bool (n,).
    """
    found = log_odds >= home.threshold
    group = np.unique(slides, return_inverse=True)[1] % FOLDS
    for number in np.unique(group):
        out = group == number
        if len(np.unique(y_true[~out])) == 2:
            site = fit_site(y_true[~out], log_odds[~out], slides[~out], home, novel)
            found[out] = log_odds[out] >= site.threshold
    return found
