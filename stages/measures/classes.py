"""The log-odds of each class on the validation slides: where they lie and how they spread.

The uncertain band and `stages.recalibrate` rest on them. Unlike probabilities, they do not depend
on how many crops of each class there are.
"""

import numpy as np
from pydantic import Field

from stages.base.parameters import Parameters
from stages.measures.design_effect import design, design_effect

# The shares of a normal distribution below its mean minus and plus one standard deviation.
ONE_SPREAD = (0.158655, 0.841345)


class ClassScores(Parameters):
    """The log-odds of n crops of one class."""

    crops: int = Field(ge=1)
    slides: int = Field(ge=1)
    # The number of independent crops that would tell as much (Kish 1965).
    effective: float = Field(gt=0)
    # median, spread: of the log-odds; `spread` is half the distance between the quantiles that are
    # one standard deviation below and above the mean of a normal distribution.
    median: float
    spread: float = Field(ge=0)


class Classes(Parameters):
    """The log-odds of both classes."""

    negative: ClassScores
    positive: ClassScores


def describe_class(log_odds: np.ndarray, slides: np.ndarray) -> ClassScores:
    """Return the summary of one class.

    Args:
        log_odds: float (n,), at least one.
        slides: text or int (n,).
    """
    low, median, high = np.quantile(log_odds, (ONE_SPREAD[0], 0.5, ONE_SPREAD[1]))
    return ClassScores(
        crops=len(log_odds),
        slides=len(np.unique(slides)),
        effective=effective_crops(log_odds, slides),
        median=float(median),
        spread=float(high - low) / 2,
    )


def effective_crops(values: np.ndarray, slides: np.ndarray) -> float:
    """Return how many independent crops would give the mean the same variance.

    The design effect is that of the values over the slides, averaged with the one of an intraclass
    correlation of 0.1, because few slides estimate it badly.
    """
    slide = np.unique(slides, return_inverse=True)[1]
    sizes = np.bincount(slide)
    number, per_slide = len(sizes), float((sizes**2).sum() / sizes.sum())
    off = values - values.mean()
    independent = float((off**2).sum()) * len(values) / max(len(values) - 1, 1)
    if number < 2 or independent <= 0:
        return len(values) / design(per_slide)
    between = float((np.bincount(slide, off) ** 2).sum()) * number / (number - 1)
    return len(values) / design_effect(between / independent, number, per_slide)
