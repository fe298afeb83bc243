"""Results of several hospitals combined: a meta-analysis of what each has measured.

Shares, and ROC AUC, are combined as log-odds. To each hospital's effective number of crops half a
crop of each kind is added, so that a share of 1 has log-odds (Gart and Zweifel, Biometrika 54:181,
1967). The variance is that of the share of all hospitals: with that of its own share, a hospital
would weigh the less, the better it is. Calibration intercept and slope are combined as they are.

The variance between hospitals is that of Paule and Mandel (J Res Natl Bur Stand 87:377, 1982). The
interval of the mean has Student's t and is never narrower than without it (Hartung and Knapp, Stat
Med 20:3875, 2001; Röver, Knapp and Friede, BMC Med Res Methodol 15:99, 2015); that of a further
hospital is by Higgins, Thompson and Spiegelhalter (J R Stat Soc A 172:137, 2009).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit
from scipy.stats import chi2, norm, t
from statsmodels.stats.meta_analysis import combine_effects

FEWEST_TO_PREDICT = 4


class Effect(NamedTuple):
    """What one hospital measured, on the scale on which it is combined, with its variance."""

    value: float
    variance: float


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Pooled:
    """A measure of several hospitals.

    Attributes:
        fixed: the mean of these hospitals, as if all had the same true value.
        random: the mean of hospitals of which these are a sample.
        predicted: where the true value of a further hospital lies; None with fewer than four.
        between: the standard deviation between hospitals, on the scale on which they are combined.
        heterogeneity: I², the share of the spread that is between hospitals, from 0 to 1.
        p: of Cochran's test that all hospitals have the same true value.
    """

    hospitals: int
    fixed: Interval
    random: Interval
    predicted: Interval | None
    between: float
    heterogeneity: float
    p: float


def of_shares(shares: Sequence[float], crops: Sequence[float]) -> list[Effect]:
    """Return the log-odds of each hospital's share of a number of independent crops, which may be a
    fraction.
    """
    right = np.array(shares) * crops + 0.5
    number = np.array(crops) + 1
    of_all = right.sum() / number.sum()
    return [
        Effect(float(logit(one / total)), 1 / (total * of_all * (1 - of_all)))
        for one, total in zip(right, number)
    ]


def of_interval(value: float, low: float, high: float) -> Effect:
    """Return an effect whose 95 % interval is symmetric."""
    return Effect(value, float((high - low) / 2 / norm.ppf(0.975)) ** 2)


def pool(effects: Sequence[Effect], as_shares: bool) -> Pooled:
    """Combine what at least two hospitals measured.

    Args:
        as_shares: whether the effects are log-odds, to be given as shares.
    """
    values, variances = np.array(effects).T
    found = combine_effects(values, variances, method_re="iterated", use_t=True)
    degrees, mean, between = found.k - 1, found.mean_effect_re, max(found.tau2, 0.0)

    def interval(value: float, error: float, quantile: float) -> Interval:
        limits = value, value - quantile * error, value + quantile * error
        return Interval(*(float(expit(one) if as_shares else one) for one in limits))

    predicted = None
    if found.k >= FEWEST_TO_PREDICT:
        spread = float(np.sqrt(between + found.sd_eff_w_re**2))
        predicted = interval(mean, spread, t.ppf(0.975, degrees - 1))
    return Pooled(
        hospitals=found.k,
        fixed=interval(found.mean_effect_fe, found.sd_eff_w_fe, norm.ppf(0.975)),
        random=interval(mean, found.sd_eff_w_re, t.ppf(0.975, degrees)),
        predicted=predicted,
        between=float(np.sqrt(between)),
        heterogeneity=float(max(1 - degrees / found.q, 0)) if found.q else 0.0,
        p=float(chi2.sf(found.q, degrees)),
    )
