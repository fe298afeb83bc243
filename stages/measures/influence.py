"""How much each crop contributes to a measure: its influence values.

The influence of a crop is the derivative of the measure with respect to the crop's weight. Summed
per slide, influence values give the variance of the measure over slides (the infinitesimal
jackknife; Efron, SIAM 1982); for ROC AUC they are the structural components of DeLong et al.
(Biometrics 44:837, 1988), and the sum per slide is that of Obuchowski (Biometrics 53:567, 1997).
"""

from typing import NamedTuple

import numpy as np

from stages.measures.scores import MEASURES, WITHIN_FOLDS, Confusion, confusion

ROC_AUCS = ("roc_auc", WITHIN_FOLDS)
OF_SCORES = (*ROC_AUCS, "average_precision", "brier", "calibration_error")
OF_ONE_CLASS = {"specificity": 0, "sensitivity": 1}
OF_ALL = ("accuracy", "calibration_error")


class Sample(NamedTuple):
    """Predictions of n crops: int `y_true` and `y_pred`, float `y_score`, text or int `slides`.

    `folds`, text or int, is needed for ROC AUC within folds. `crops` identifies each crop where
    several samples are compared or averaged; without it, crops are matched by their position.
    """

    y_true: np.ndarray
    y_score: np.ndarray
    y_pred: np.ndarray
    slides: np.ndarray
    folds: np.ndarray | None = None
    crops: np.ndarray | None = None

    def at(self, rows: np.ndarray) -> "Sample":
        """Return some crops: their numbers, int (m,), or which, bool (n,)."""
        return Sample._make(None if column is None else column[rows] for column in self)


class Influence(NamedTuple):
    """A measure and the influence of each crop on it, float (n,); they sum to 0."""

    value: float
    of_crops: np.ndarray


def influence(name: str, sample: Sample) -> Influence | None:
    """Return a measure with its influence values; None if it is undefined on these crops."""
    y_true, y_score = np.asarray(sample.y_true, dtype=np.int64), sample.y_score
    positives = int(y_true.sum())
    if not len(y_true):
        return None
    match name:
        case "roc_auc":
            return _roc_auc(y_true, y_score, np.zeros(len(y_true), dtype=np.int64))
        case "roc_auc_within_folds":
            if sample.folds is None:
                raise ValueError("ROC AUC within folds needs the fold of each crop")
            return _roc_auc(y_true, y_score, np.unique(sample.folds, return_inverse=True)[1])
        case "average_precision":
            return _average_precision(y_true, y_score) if positives else None
        case "brier":
            return _mean((y_true - y_score) ** 2)
        case "calibration_error":
            bins = np.minimum((y_score * 15).astype(np.int64), 14)
            signs = np.sign(np.bincount(bins, y_true - y_score, minlength=15))
            return _mean(signs[bins] * (y_true - y_score))
        case _:
            return _of_decisions(name, y_true, np.asarray(sample.y_pred, dtype=np.int64))


def _mean(values: np.ndarray) -> Influence:
    mean = float(values.mean())
    return Influence(mean, (values - mean) / len(values))


def ranked_right(
    y_true: np.ndarray, y_score: np.ndarray, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return for each crop the number of crops of the other class in its group, and of these the
    number that the scores rank on the right side of it; a tie counts half. float (n,) each.
    """
    order = np.lexsort((y_score, groups))
    sorted_groups, positive = groups[order], y_true[order] == 1
    starts = np.append(True, np.diff(sorted_groups) != 0)
    ties = starts | np.append(True, np.diff(y_score[order]) != 0)
    group, tie = np.cumsum(starts) - 1, np.cumsum(ties) - 1
    others = np.empty(len(y_true))
    right = np.empty(len(y_true))
    for of_class, sign in ((positive, 1), (~positive, -1)):
        # The crops of the other class: all in the group, below the tie and in it.
        other = np.where(of_class, 0.0, 1.0)
        before = np.append(0, np.cumsum(other))
        total = np.bincount(group, other)[group]
        below = before[np.flatnonzero(ties)][tie] - before[np.flatnonzero(starts)][group]
        below += np.bincount(tie, other)[tie] / 2
        rows = order[of_class]
        others[rows] = total[of_class]
        right[rows] = (below if sign == 1 else total - below)[of_class]
    return others, right


def _roc_auc(y_true: np.ndarray, y_score: np.ndarray, groups: np.ndarray) -> Influence | None:
    others, right = ranked_right(y_true, y_score, groups)
    pairs = others.sum() / 2
    if not pairs:
        return None
    value = float(right.sum() / 2 / pairs)
    return Influence(value, (right - value * others) / pairs)


def _average_precision(y_true: np.ndarray, y_score: np.ndarray) -> Influence:
    order = np.argsort(-y_score, kind="stable")
    positive = y_true[order].astype(np.float64)
    last = np.append(np.flatnonzero(np.diff(y_score[order])), len(order) - 1)
    first, length = np.append(0, last[:-1] + 1), np.diff(last, prepend=-1)
    ranked = np.repeat(last + 1.0, length)
    precision = np.repeat(np.cumsum(positive)[last], length) / ranked
    value = float((positive * precision).sum() / positive.sum())
    # A crop also changes the precision at each positive with its own or a lower score.
    sums = (
        values.sum() - np.repeat(np.append(0, np.cumsum(values))[first], length)
        for values in (positive / ranked, positive * precision / ranked)
    )
    gained, lost = sums
    found = np.empty(len(order))
    found[order] = (positive * (precision - value + gained) - lost) / positive.sum()
    return Influence(value, found)


def _of_decisions(name: str, y_true: np.ndarray, y_pred: np.ndarray) -> Influence | None:
    """Differentiate a measure of the confusion counts."""
    # Multiplying all counts does not change it: so a small step is a whole number as well.
    scale = 10_000
    counts = np.array(confusion(y_true, y_pred)) * scale
    value = _rate(name, counts)
    if value is None:
        return None
    slopes = np.zeros(4)
    for cell in np.flatnonzero(counts):
        step = np.arange(4) == cell
        up, down = (_rate(name, counts + sign * step) for sign in (1, -1))
        slopes[cell] = 0 if up is None or down is None else (up - down) / 2 * scale
    return Influence(value, slopes[2 * y_true + y_pred])


def _rate(name: str, counts: np.ndarray) -> float | None:
    measure, cells = MEASURES[name], Confusion(*counts.tolist())
    return None if measure.why_undefined(cells) else measure.function(*cells)


def flips(name: str, sample: Sample) -> np.ndarray:
    """Return how much a measure of decisions changes if one more negative, and one more positive,
    is predicted wrong (or right, if all are wrong): float (2,); 0 for a measure of scores.
    """
    found = np.zeros(2)
    if name in OF_SCORES:
        return found
    counts = np.array(confusion(np.asarray(sample.y_true), np.asarray(sample.y_pred)))
    value = _rate(name, counts)
    for label, (right, wrong) in enumerate(((0, 1), (3, 2))):
        source, other = (right, wrong) if counts[right] else (wrong, right)
        if counts[source]:
            step = (np.arange(4) == other).astype(np.int64) - (np.arange(4) == source)
            changed = _rate(name, counts + step)
            found[label] = 0 if value is None or changed is None else changed - value
    return found
