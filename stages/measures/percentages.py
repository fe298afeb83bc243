"""The percentage of globally sclerotic glomeruli of a slide, as a pathologist would count it.

A model errs on a slide's crops together: stain and thickness shift all of their log-odds. How much
differs from slide to slide; mean and standard deviation of that shift are fitted on validation
slides (a logistic regression with a random intercept, given the log-odds as offset). The number of
sclerotic glomeruli of a new slide is then a mixture of Poisson-binomial distributions over its
unknown shift.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pydantic import Field
from scipy.optimize import brentq
from scipy.special import betainc, expit, log_expit, logsumexp, roots_hermitenorm
from scipy.stats import norm

from stages.base.parameters import Parameters
from stages.measures.calibration_line import calibration_line

# With fewer glomeruli, a biopsy is inadequate (Banff; Liapis et al., Am J Transplant 17:140, 2017).
ADEQUATE = 25
# Percentages at which decisions about donor kidneys change, and the categories between them.
LIMITS = (10.0, 20.0, 50.0)
# The limit for which decision curves are drawn: many centers discard a donor kidney above it.
DECISIVE = 20.0
# Prior of the standard deviation, half-normal; validation sets with 20 slides overrule it.
PRIOR, DEVIATIONS = 1.5, np.linspace(0, 6, 61)
# Of more crops, the number of sclerotic ones is as good as normal, and the exact one slow.
MANY = 1_000

# The standard normal distribution of a slide's shift: 21 points, and how probable each is.
POINTS, WEIGHTS = roots_hermitenorm(21)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


class SlideShift(Parameters):
    """How the log-odds that are right for a slide differ from the model's, over slides.

    The mean is not 0 if probabilities are not calibrated, for example with balanced classes.
    """

    mean: float
    deviation: float = Field(ge=0)


class Percentage(NamedTuple):
    """The percentage of a slide, from 0 to 100, with the limits of its interval.

    `reaches_20` is the probability that a pathologist counts `DECISIVE` percent or more.
    """

    value: float
    low: float
    high: float
    reaches_20: float


def fit_slide_shift(y_true: np.ndarray, log_odds: np.ndarray, slides: np.ndarray) -> SlideShift:
    """Return the calibration in the large, and the posterior mean of the standard deviation.

    Args:
        y_true: int (n,), labels 0 and 1 of crops that were not trained on.
        log_odds: float (n,).
        slides: text or int (n,).
    """
    mean = calibration_line(y_true, expit(log_odds), slides).intercept.value or 0.0
    signed, shifted = np.where(y_true == 1, 1.0, -1.0), log_odds + mean
    likelihood = np.zeros(len(DEVIATIONS))
    shifts = DEVIATIONS[:, None] * POINTS
    for slide in np.unique(slides):
        sign, odds = signed[slides == slide], shifted[slides == slide]
        at_shift = sum(log_expit(one * (x + shifts)) for one, x in zip(sign, odds))
        likelihood += logsumexp(at_shift, b=WEIGHTS, axis=1)
    posterior = np.exp(likelihood - likelihood.max() - (DEVIATIONS / PRIOR) ** 2 / 2)
    return SlideShift(mean=mean, deviation=float(posterior @ DEVIATIONS / posterior.sum()))


def percentage(log_odds: np.ndarray, shift: SlideShift, level: float = 0.95) -> Percentage:
    """Return the percentage of sclerotic glomeruli of one slide.

    The value is the median of what a pathologist would count on these n crops. The interval covers
    the model's errors and the sampling of glomeruli: it is Clopper and Pearson's, averaged over the
    number that a pathologist would count.

    Args:
        log_odds: float (n,); n is 1 or more. That of a crop whose label is known is infinite.
    """
    n = len(log_odds)
    odds = np.asarray(log_odds, dtype=np.float64) + shift.mean
    shares = expit(odds + shift.deviation * POINTS[:, None])
    chance = WEIGHTS @ _counts(shares)
    value = 100 * float(np.searchsorted(np.cumsum(chance), 0.5)) / n
    likely = chance > 1e-9
    k, weight = np.flatnonzero(likely), chance[likely] / chance[likely].sum()
    tail = (1 - level) / 2

    def below(share: float, extra: int) -> float:
        """The mean of the limits' distributions: Beta(k, n - k + 1), then Beta(k + 1, n - k)."""
        first, second = k + extra, n - k + 1 - extra
        inside = (first > 0) & (second > 0)
        found = np.where(first > 0, 0.0, 1.0)
        found[inside] = betainc(first[inside], second[inside], share)
        return float(weight @ found)

    low = 0.0 if below(0, 0) >= tail else brentq(lambda x: below(x, 0) - tail, 0, 1)
    high = 1.0 if below(1, 1) <= 1 - tail else brentq(lambda x: below(x, 1) - 1 + tail, 0, 1)
    reaches = float(chance[np.arange(n + 1) >= DECISIVE * n / 100].sum())
    return Percentage(value, 100 * low, 100 * high, min(reaches, 1.0))


def _counts(shares: np.ndarray) -> np.ndarray:
    """Return the distributions of sums of n independent labels, float (points, n + 1).

    Args:
        shares: the probability of each label, float (points, n).
    """
    points, n = shares.shape
    if n > MANY:
        mean, variance = shares.sum(axis=1), (shares * (1 - shares)).sum(axis=1)
        edges = np.arange(n) + 0.5
        below = norm.cdf(edges, mean[:, None], np.sqrt(variance + 1e-9)[:, None])
        return np.diff(below, axis=1, prepend=0, append=1)
    chance = np.zeros((points, n + 1))
    chance[:, 0] = 1
    for share in shares.T[:, :, None]:
        chance[:, 1:] = chance[:, 1:] * (1 - share) + chance[:, :-1] * share
        chance[:, :1] *= 1 - share
    return chance


class Agreement(NamedTuple):
    """How well percentages agree with those that were counted, over slides."""

    slides: int
    # bias, low, high: mean of (ours - counted) and its limits of agreement, in percentage points
    # (Bland and Altman, Lancet 327:307, 1986); the limits are None for fewer than 3 slides.
    bias: float
    low: float | None
    high: float | None
    same_category: float  # the share of slides in the same category of `LIMITS`


def agreement(counted: Sequence[float], ours: Sequence[float]) -> Agreement:
    """Return the agreement of two lists of percentages, of the same slides, at least one."""
    differences = np.subtract(ours, counted)
    bias = float(differences.mean())
    same = np.searchsorted(LIMITS, counted, "right") == np.searchsorted(LIMITS, ours, "right")
    reach = 1.96 * float(differences.std(ddof=1)) if len(differences) > 2 else None
    low, high = (None, None) if reach is None else (bias - reach, bias + reach)
    return Agreement(len(differences), bias, low, high, float(same.mean()))
