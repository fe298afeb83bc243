"""How many labels are worth the work: what recalibrating on some crops of a laboratory gives on its
other slides.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from stages.measures.recalibration import LEAST_CROPS, fit_shift
from stages.measures.scores import confusion, rates
from stages.workers.progress import progress

REPEATS = 50
LABELLED = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
MEASURES = ("sensitivity", "specificity", "balanced_accuracy")
LEAST_SLIDES = 4
TRIES = 20  # draws for each repeat, before it is given up that both classes are on both sides


class Point(NamedTuple):
    """Of one measure on `labeled` crops: the median over repeats, and between which values nine of
    ten of them lie.
    """

    labeled: int
    measure: str
    median: float
    low: float
    high: float


def recalibration_curve(
    y_true: np.ndarray, log_odds: np.ndarray, threshold: float, slides: np.ndarray, seed: int
) -> list[Point]:
    """Return the curve, from no label to half of the crops.

    In each repeat the labeled crops are drawn from some slides and the others are judged: the
    crops of the other slides, or, where there are fewer than four slides, the other crops. All
    numbers of labels are measured on the same draws of slides where these hold enough crops.

    Args:
        y_true: int array (n,).
        log_odds: float array (n,), calibrated as the model was where it comes from; called positive
            from `threshold` on.
        slides: text array (n,).
    """
    points: list[Point] = []
    few = len(np.unique(slides)) < LEAST_SLIDES
    groups = np.arange(len(y_true)) if few else np.unique(slides, return_inverse=True)[1]
    numbers = [number for number in LABELLED if LEAST_CROPS <= number <= len(y_true) / 2]
    for labeled in progress(numbers, desc="recalibrating", unit="number of labels"):
        found = [
            _judged(y_true, log_odds, threshold, chosen, rest)
            for chosen, rest in _draws(y_true, groups, labeled, seed, few)
        ]
        if len(found) < REPEATS:
            continue
        before, after = (np.array([pair[place] for pair in found]) for place in (0, 1))
        if not points:
            points += _points(0, before)
        points += _points(labeled, after)
    return points


def _points(labeled: int, values: np.ndarray) -> list[Point]:
    low, median, high = np.percentile(values, (5, 50, 95), axis=0)
    return [
        Point(labeled, name, *(round(float(one[place]), 4) for one in (median, low, high)))
        for place, name in enumerate(MEASURES)
    ]


def _draws(
    y_true: np.ndarray, groups: np.ndarray, labeled: int, seed: int, few: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (labeled, judged) rows, with both classes in each, for as many repeats as there are;
    fewer where there are none.
    """
    for repeat in range(REPEATS):
        random = np.random.default_rng([seed, repeat])
        for _ in range(TRIES):
            order = random.permutation(int(groups.max()) + 1)
            sizes = np.cumsum(np.bincount(groups)[order])
            # Of several slides, as a laboratory would: of three at least, and of as many as it
            # takes.
            first = labeled if few else max(3, int(np.searchsorted(sizes, labeled)) + 1)
            drawn = np.flatnonzero(np.isin(groups, order[:first]))
            rest = np.setdiff1d(np.arange(len(y_true)), drawn)
            if len(drawn) < labeled or len(np.unique(y_true[rest])) < 2:
                continue
            chosen = random.choice(drawn, labeled, replace=False)
            if len(np.unique(y_true[chosen])) == 2:
                yield chosen, rest
                break


def _judged(
    y_true: np.ndarray, log_odds: np.ndarray, threshold: float, chosen: np.ndarray, rest: np.ndarray
) -> tuple[list[float | None], list[float | None]]:
    """Return the measures of the rows `rest`, which are of both classes, before and after
    recalibrating on the rows `chosen`.
    """
    shift, odds = fit_shift(y_true[chosen], log_odds[chosen]), log_odds[rest]
    before, after = (
        rates(*confusion(y_true[rest], one >= threshold))
        for one in (odds, shift.slope * odds + shift.offset)
    )
    return [before[name] for name in MEASURES], [after[name] for name in MEASURES]
