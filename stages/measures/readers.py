"""How well readers, or the model and a reader, agree on crops: kappas with intervals over slides.

The influence of a crop on a kappa is its derivative by the crop's weight.
"""

import numpy as np

from stages.measures.intervals import Estimate, from_influence

ALL_ALIKE = "all labels are the same"


def cohen_kappa(
    one: np.ndarray, other: np.ndarray, slides: np.ndarray, level: float = 0.95
) -> Estimate:
    """Return the kappa of Cohen (Educ Psychol Meas 20:37, 1960) with its interval over slides.

    Args:
        one, other: int (n,), the labels 0 and 1 of two readers.
        slides: text or int (n,).
    """
    if not len(one):
        return Estimate(0, reason="there is no crop")
    first, second = one.mean(), other.mean()
    return _kappa(
        agree=np.asarray(one == other, dtype=np.float64),
        chance=first * second + (1 - first) * (1 - second),
        of_chance=(one - first) * (2 * second - 1) + (other - second) * (2 * first - 1),
        share=(one + other) / 2,
        slides=slides,
        level=level,
    )


def fleiss_kappa(labels: np.ndarray, slides: np.ndarray, level: float = 0.95) -> Estimate:
    """Return the kappa of Fleiss (Psychol Bull 76:378, 1971) with its interval over slides.

    Crops that fewer than two readers have read are left out. If some have been read by more readers
    than others, each crop still counts the same (Gwet, Handbook of Inter-Rater Reliability, 2014).

    Args:
        labels: int (N, R), 0, 1, or a negative number if the reader has not read the crop.
        slides: text or int (N,).
    """
    number = (labels >= 0).sum(axis=1)
    labels, slides, number = (column[number > 1] for column in (labels, slides, number))
    if not len(labels):
        return Estimate(0, reason="no crop has two readers")
    positive = (labels == 1).sum(axis=1)
    negative, share = number - positive, positive / number
    mean = share.mean()
    return _kappa(
        agree=(positive * (positive - 1) + negative * (negative - 1)) / (number * (number - 1)),
        chance=mean**2 + (1 - mean) ** 2,
        of_chance=2 * (2 * mean - 1) * (share - mean),
        share=share,
        slides=slides,
        level=level,
    )


def _kappa(
    agree: np.ndarray,
    chance: float,
    of_chance: np.ndarray,
    share: np.ndarray,
    slides: np.ndarray,
    level: float,
) -> Estimate:
    """Return (mean of `agree` - chance) / (1 - chance).

    Args:
        agree: float (n,), the share of pairs of readers who agree on each crop.
        of_chance: float (n,), the influence of each crop on n * chance.
        share: float (n,), of the readers with label 1.
    """
    if share.min() == share.max() and share[0] in (0, 1):
        return Estimate(0, reason=ALL_ALIKE)
    value = (agree.mean() - chance) / (1 - chance)
    of_crops = (agree - agree.mean() - (1 - value) * of_chance) / (1 - chance) / len(agree)
    # A tie counts as the rarer class, so that swapped classes have the same interval.
    label = share >= 0.5 if share.mean() <= 0.5 else share > 0.5
    return from_influence(float(value), of_crops, label, slides, level, (-1, 2))
