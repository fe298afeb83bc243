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
    """Return 95 % intervals of ROC AUC, sensitivity, specificity and F1, as the images of one slide
    are alike.

    Slides, not images, are drawn with replacement, as many as there are, `replicates` times (the
    cluster bootstrap; Field and Welsh, JRSS B 69:369, 2007); low and high are the 2.5th and 97.5th
    percentile. Draws on which a measure is not defined are left out; None where that is more than
    half of them.

    Args:
        y_pred: bool or int array (N,), what each image was called.
        slides: text or int array (N,), the slide of each image.
    """
    codes = np.unique(slides, return_inverse=True)[1]
    drawn: dict[str, list[float]] = {name: [] for name in WITH_INTERVALS}
    for counts in slide_draws(int(codes.max()) + 1, replicates, seed):
        measured = score(y_true, y_score, y_pred, counts[codes], WITH_INTERVALS)
        for name, values in drawn.items():
            if (value := measured[name]) is not None:
                values.append(value)
    return {name: interval(values, replicates) for name, values in drawn.items()}


# A test set of fewer slides, or with a wider interval, tells little.
FEW_SLIDES, WIDE = 10, 0.2


def too_small(slides: int, widths: Mapping[str, float]) -> str:
    """Return a sentence on a test set that is too small to tell much, or nothing.

    Args:
        widths: of the 95 % intervals of measures, or of their differences, by the measures' names.
    """
    name = max(widths, key=lambda name: widths[name], default="")
    if slides >= FEW_SLIDES and widths.get(name, 0) <= WIDE:
        return ""
    wide = f", and the interval of {title(name)} is {widths[name]:.2f} wide" if name else ""
    return f"This is too small to tell much: {slides} slide{'s' * (slides != 1)}{wide}."


def slide_draws(slides: int, replicates: int, seed: int) -> Iterator[np.ndarray]:
    """Yield, for each of `replicates` draws with replacement of as many slides as there are, how
    often each was drawn.

    int array (slides,), with a sum of `slides`.
    """
    random = np.random.default_rng(seed)
    for _ in range(replicates):
        yield np.bincount(random.integers(slides, size=slides), minlength=slides)


def interval(
    values: Sequence[float], replicates: int, level: float = 0.95
) -> dict[str, float] | None:
    """Return the percentile interval of a measure's values on bootstrap draws; None if half of the
    draws did not define it.
    """
    if 2 * len(values) <= replicates:
        return None
    low, high = np.percentile(values, (50 * (1 - level), 50 * (1 + level)))
    return {"low": float(low), "high": float(high)}
