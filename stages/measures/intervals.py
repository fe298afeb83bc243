"""Intervals of measures and of their differences, over slides, that hold with few slides.

Crops of one slide are alike, so that n crops tell as much as fewer independent ones: n divided by
the design effect. A measure's variance over slides comes from its influence values. Few slides
estimate that variance badly, so that it is averaged with what an intraclass correlation of 0.1
would give, as if that had been seen on four further slides. Like a proportion with the same
variance, the measure then gets the interval of Clopper and Pearson, for the effective number of
crops with Student's t (Korn and Graubard, Surv Methodol 24:193, 1998; Dean and Pagano, J Surv Stat
Methodol 3:484, 2015). So no interval has zero width, and no random number is drawn.
`python -m benchmarks.coverage` measures how often the intervals hold.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from scipy.special import betaincinv, stdtr, stdtrit

from stages.measures.design_effect import EXPECTED_SLIDES, design, design_effect
from stages.measures.influence import OF_ALL, OF_ONE_CLASS, Sample, flips, influence

FEWEST_SLIDES, FEWEST_SITES = 2, 5
# A smaller variance comes only from rounding.
NO_SPREAD = 1e-15
UNDEFINED = "it is undefined on these crops"


class Estimate(NamedTuple):
    """A measure with its interval, and on how many slides it rests.

    `low` and `high` are None where there is no interval, and `value` where the measure is
    undefined; `reason` then says why. `crops` is the effective number: how many independent crops
    would give the interval. It is None for an estimate without bounds, such as a slope.
    """

    slides: int
    value: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str = ""
    crops: float | None = None


class Difference(NamedTuple):
    """The difference of a measure between two models on the same crops, with its interval.

    `p` is two-sided, and `higher` is the confidence, from 0 to 1, that the first model's measure is
    the higher one. All but `slides` may be None as in `Estimate`.
    """

    slides: int
    value: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    higher: float | None = None
    reason: str = ""


class _Gathered(NamedTuple):
    """The mean of a measure over repetitions: the values, and per crop its name, its class, its
    slide as a number, and its influence on the mean; the mean of `flips`; and bool (2,), of which
    class all crops are predicted alike.
    """

    values: np.ndarray
    crops: np.ndarray
    y_true: np.ndarray
    slides: np.ndarray
    of_crops: np.ndarray
    flips: np.ndarray
    uniform: np.ndarray


class _Spread(NamedTuple):
    variance: float
    degrees: float


def estimate(name: str, samples: Sequence[Sample], level: float = 0.95) -> Estimate:
    """Return a measure, its mean over repetitions if there are several samples, with its interval.

    Args:
        name: of a measure in `stages.measures.scores`, or `WITHIN_FOLDS`.
        samples: R repetitions (trainings) on the same crops, often one.
    """
    found = _gather(name, samples)
    if found is None:
        return Estimate(0, reason=UNDEFINED)
    value, slides = float(found.values.mean()), _slides(name, found)
    if name == "calibration_error":
        return Estimate(slides, value, reason="its bias is as large as its spread")
    if slides < FEWEST_SLIDES:
        return Estimate(slides, value, reason=_too_few(name, slides))
    # A class without an error, as yet: as if one more crop of it had been predicted wrong.
    unseen = float((found.flips**2)[found.uniform].sum())
    crops = _crops(name, samples, found)
    return _bounded(found, slides, crops, _range(name), level, unseen)


def difference(
    name: str, ours: Sequence[Sample], theirs: Sequence[Sample], level: float = 0.95
) -> Difference:
    """Return the difference of a measure between two models on the same crops, paired.

    For k measures or models at once, `level` is 1 - 0.05 / k (Bonferroni): the chance that any of
    the k intervals misses is then 5 %. A model is non-inferior by a margin where the difference, in
    the direction that is better, is above -margin with its whole interval.

    Raises:
        ValueError: the two are not on the same crops.
    """
    first, second = _gather(name, ours), _gather(name, theirs)
    if first is None or second is None:
        return Difference(0, reason=UNDEFINED)
    if not all(
        np.array_equal(getattr(first, column), getattr(second, column))
        for column in ("crops", "y_true", "slides")
    ):
        raise ValueError("two models can only be compared on the same crops")
    value = float(first.values.mean() - second.values.mean())
    both = first._replace(
        values=first.values - second.values, of_crops=first.of_crops - second.of_crops
    )
    slides = _slides(name, both)
    if slides < FEWEST_SLIDES:
        return Difference(slides, value, reason=_too_few(name, slides))
    # As if one more crop of each class had been predicted differently (Agresti and Min, Stat Med
    # 24:729, 2005).
    unseen = float(((first.flips**2 + second.flips**2) / 2).sum())
    spread = _spread(both, slides, unseen)
    if spread.variance <= NO_SPREAD:
        return Difference(slides, value, value, value, p=1.0, higher=0.5)
    error = np.sqrt(spread.variance)
    reach = float(stdtrit(spread.degrees, 0.5 + level / 2) * error)
    higher = float(stdtr(spread.degrees, value / error))
    p = 2 * min(higher, 1 - higher)
    width = _range(name)[1]
    return Difference(
        slides, value, max(value - reach, -width), min(value + reach, width), p, higher
    )


def proportion(right: np.ndarray, slides: np.ndarray, level: float = 0.95) -> Estimate:
    """Return the share of crops for which `right` (bool, n) is true, with its interval."""
    ones = np.ones(len(right), dtype=np.int64)
    sample = Sample(ones, ones.astype(np.float64), np.asarray(right, dtype=np.int64), slides)
    found = estimate("sensitivity", [sample], level)
    return found._replace(reason=found.reason.replace(" with positives", ""))


def over_sites(name: str, sample: Sample, sites: np.ndarray, level: float = 0.95) -> Estimate:
    """Return a measure with its interval over sites, the unit that varies where no site has been
    seen in training; `slides` is then the number of sites.

    Args:
        sites: text or int array (n,), the site of each crop.
    """
    return of_enough_sites(estimate(name, [sample._replace(slides=sites)], level))


Measured = TypeVar("Measured", Estimate, Difference)


def of_enough_sites(found: Measured) -> Measured:
    """Return what was measured with sites as `slides`, without its interval if they are too few."""
    if found.low is None or found.slides >= FEWEST_SITES:
        return found._replace(reason=found.reason.replace("slide", "site"))
    reason = f"{found.slides} sites; {FEWEST_SITES} are the least"
    return type(found)(found.slides, found.value, reason=reason)


def from_influence(
    value: float,
    of_crops: np.ndarray,
    y_true: np.ndarray,
    slides: np.ndarray,
    level: float = 0.95,
    range_: tuple[int, int] | None = None,
) -> Estimate:
    """Return an estimate that rests on both classes with its interval: by Student's t if it has no
    bounds, such as a slope.

    Args:
        of_crops: float (n,), the influence of each crop; they sum to 0.
        range_: of an estimate with bounds: the lowest value, and how far the highest is from it.
    """
    codes, nothing = np.unique(slides, return_inverse=True)[1], np.zeros(2)
    y_true = np.asarray(y_true, dtype=np.int64)
    found = _Gathered(
        np.array([value]), np.arange(len(y_true)), y_true, codes, of_crops, nothing, nothing > 0
    )
    number = _slides("", found)
    if number < FEWEST_SLIDES:
        return Estimate(number, value, reason=_too_few("", number))
    if range_:
        return _bounded(found, number, _crops("", [], found), range_, level)
    spread = _spread(found, number, 0)
    reach = float(stdtrit(spread.degrees, 0.5 + level / 2) * np.sqrt(spread.variance))
    return Estimate(number, value, value - reach, value + reach)


def clopper_pearson(share: float, crops: float, level: float = 0.95) -> tuple[float, float]:
    """Return the interval of Clopper and Pearson for a share of a number of independent crops,
    which may be a fraction.
    """
    right, wrong, tail = share * crops, (1 - share) * crops, (1 - level) / 2
    low = float(betaincinv(right, wrong + 1, tail)) if right > 0 else 0.0
    high = float(betaincinv(right + 1, wrong, 1 - tail)) if wrong > 0 else 1.0
    return low, high


def _range(name: str) -> tuple[int, int]:
    """Return the lowest value that a measure can have, and how far the highest is from it."""
    return (-1, 2) if name == "matthews" else (0, 1)


def _gather(name: str, samples: Sequence[Sample]) -> _Gathered | None:
    found = [influence(name, sample) for sample in samples]
    if not found or any(one is None for one in found):
        return None
    defined = [one for one in found if one is not None]
    crops = np.concatenate(
        [np.arange(len(one.y_true)) if one.crops is None else one.crops for one in samples]
    )
    names, first, code = np.unique(crops, return_index=True, return_inverse=True)
    slides = np.concatenate([sample.slides for sample in samples])[first]
    return _Gathered(
        np.array([one.value for one in defined]),
        names,
        np.concatenate([sample.y_true for sample in samples])[first].astype(np.int64),
        np.unique(slides, return_inverse=True)[1],
        np.bincount(code, np.concatenate([one.of_crops for one in defined])) / len(samples),
        np.mean([np.abs(flips(name, sample)) for sample in samples], axis=0),
        np.array(
            [
                all(len(np.unique(one.y_pred[one.y_true == label])) < 2 for one in samples)
                for label in (0, 1)
            ]
        ),
    )


def _bounded(
    found: _Gathered,
    slides: int,
    crops: float,
    range_: tuple[int, int],
    level: float,
    unseen: float = 0,
) -> Estimate:
    """Return a measure with its interval.

    Args:
        crops: on how many it rests, for one without a variance, such as at its bound.
        range_: as by `_range`.
        unseen: as of `_spread`.
    """
    (bottom, width), value = range_, float(found.values.mean())
    share, spread = (value - bottom) / width, _spread(found, slides, unseen)
    if 0 < share < 1 and spread.variance > NO_SPREAD:
        crops = share * (1 - share) * width**2 / spread.variance
        crops *= (stdtrit(np.inf, 0.5 + level / 2) / stdtrit(spread.degrees, 0.5 + level / 2)) ** 2
    else:
        crops /= design(_crops_per_slide(found))
    low, high = (bottom + width * limit for limit in clopper_pearson(share, crops, level))
    return Estimate(slides, value, low, high, crops=crops)


def _slides(name: str, found: _Gathered) -> int:
    """Return on how many slides a measure rests: for one of both classes, the fewer of those with
    positives and those with negatives.

    The Brier score is one of both: its crops of the rarer class have the largest errors.
    """
    of_class = [len(np.unique(found.slides[found.y_true == label])) for label in (0, 1)]
    if name in OF_ALL:
        return len(np.unique(found.slides))
    return of_class[OF_ONE_CLASS[name]] if name in OF_ONE_CLASS else min(of_class)


def _crops(name: str, samples: Sequence[Sample], found: _Gathered) -> int:
    """Return on how many crops a measure rests."""
    of_class = np.bincount(found.y_true, minlength=2)
    if name in OF_ALL:
        return int(of_class.sum())
    if name in ("precision", "npv"):
        predicted = np.bincount(np.asarray(samples[0].y_pred, dtype=np.int64), minlength=2)
        return int(predicted[1 if name == "precision" else 0])
    return int(of_class[OF_ONE_CLASS[name]] if name in OF_ONE_CLASS else of_class.min())


def _too_few(name: str, slides: int) -> str:
    of_class = {"sensitivity": " with positives", "specificity": " with negatives"}
    what = of_class.get(name, "" if name in OF_ALL else " with positives or with negatives")
    return f"{slides} slide{'s' * (slides != 1)}{what}; {FEWEST_SLIDES} are the least"


def _crops_per_slide(found: _Gathered) -> float:
    """Return the crops per slide of one class, weighted by their contributions to the variance."""
    cell = 2 * found.slides + found.y_true
    weight = found.of_crops**2
    sizes = np.bincount(cell)[cell]
    return float(np.average(sizes, weights=weight) if weight.any() else sizes.mean())


def _spread(found: _Gathered, slides: int, unseen: float) -> _Spread:
    """Return the variance of a measure over slides and repetitions, with its degrees of freedom.

    Args:
        unseen: a variance to add to that of independent crops.
    """
    independent = float((found.of_crops**2).sum())
    between = float((np.bincount(found.slides, found.of_crops) ** 2).sum()) * slides / (slides - 1)
    seen = between / independent if independent else 1.0
    degrees = slides - 1 + EXPECTED_SLIDES
    variance = (independent + unseen) * design_effect(seen, slides, _crops_per_slide(found))
    if (repetitions := len(found.values)) < 2:
        return _Spread(variance, degrees)
    # Of another training; its degrees of freedom are added as by Satterthwaite (Biometrics 2:110,
    # 1946).
    other = float(found.values.var(ddof=1) / repetitions)
    total = variance + other
    if not total:
        return _Spread(0.0, degrees)
    return _Spread(total, total**2 / (variance**2 / degrees + other**2 / (repetitions - 1)))
