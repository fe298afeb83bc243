"""Intervals from a bootstrap over slides."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from stages.measures.scores import score, title

WITH_INTERVALS = ("roc_auc", "sensitivity", "specificity", "f1")


def slide_bootstrap(
    y_true: np.ndarray,
    y_score: np.ndarray,
    y_pred: np.ndarray,
    slides: np.ndarray,
    replicates: int,
    seed: int,
) -> dict[str, dict[str, float] | None]:
    """Return 95 % intervals of ROC AUC, sensitivity, specificity and F1 by a cluster bootstrap.

    Slides, not images, are drawn with replacement (Field and Welsh, JRSS B 69:369, 2007), because
    images of one slide are alike; low and high are percentiles. Draws on which a measure is
    undefined are left out; an interval is None if that is at least half of them.

    Args:
        y_pred: the predicted class of each image, bool or int (N,).
        slides: the slide of each image, text or int (N,).
    """
    codes = np.unique(slides, return_inverse=True)[1]
    drawn: dict[str, list[float]] = {name: [] for name in WITH_INTERVALS}
    for counts in slide_draws(int(codes.max()) + 1, replicates, seed):
        measured = score(y_true, y_score, y_pred, counts[codes], WITH_INTERVALS)
        for name, values in drawn.items():
            if (value := measured[name]) is not None:
                values.append(value)
    return {name: interval(values, replicates) for name, values in drawn.items()}


# A test set with fewer slides or a wider interval is too small for conclusions.
FEW_SLIDES, WIDE = 10, 0.2


def too_small(slides: int, widths: Mapping[str, float]) -> str:
    """Return a sentence if a test set is too small for conclusions, otherwise an empty text.

    Args:
        widths: of the 95 % intervals of measures or of their differences, by measure.
    """
    name = max(widths, key=lambda name: widths[name], default="")
    if slides >= FEW_SLIDES and widths.get(name, 0) <= WIDE:
        return ""
    wide = f", and the interval of {title(name)} is {widths[name]:.2f} wide" if name else ""
    return f"This is too small to tell much: {slides} slide{'s' * (slides != 1)}{wide}."


def slide_draws(slides: int, replicates: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each slide is drawn, int (slides,), in each bootstrap replicate."""
    random = np.random.default_rng(seed)
    for _ in range(replicates):
        yield np.bincount(random.integers(slides, size=slides), minlength=slides)


def interval(
    values: Sequence[float], replicates: int, level: float = 0.95
) -> dict[str, float] | None:
    """Return the percentile interval of the draws that define a measure; None if too few do."""
    if 2 * len(values) <= replicates:
        return None
    low, high = np.percentile(values, (50 * (1 - level), 50 * (1 + level)))
    return {"low": float(low), "high": float(high)}
