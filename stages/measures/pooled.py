"""Predictions of several folds pooled, and paired measures of models on draws of slides."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stages.dataset.predictions import Predictions
from stages.measures.decision import is_positive
from stages.measures.resampling import slide_draws
from stages.measures.scores import score
from stages.workers.progress import progress

Measures = dict[str, float | None]


class Pooled(NamedTuple):
    """The predictions of all folds, and which images are positive at their fold's threshold.

    `y_pred` is bool (n,).
    """

    predictions: Predictions
    y_pred: np.ndarray


def pool(folds: Sequence[Predictions], thresholds: Sequence[float]) -> Pooled:
    """Return the predictions of some folds as one."""
    y_pred = [is_positive(fold.y_score, threshold) for fold, threshold in zip(folds, thresholds)]
    return Pooled(Predictions(*map(np.concatenate, zip(*folds))), np.concatenate(y_pred))


def measure_draws(
    models: Sequence[Sequence[Pooled]], names: Sequence[str], replicates: int, seed: int
) -> tuple[list[Measures], list[list[Measures]]]:
    """Measure models on the same images and on draws of their slides.

    A measure is the mean over a model's repetitions. Slides are drawn as in
    `stages.measures.resampling.slide_bootstrap`, and so are repetitions if there are several. Each
    draw is the same for all models, so their differences are paired.

    Args:
        models: for each model its R repetitions, on the same images.
        names: of `stages.measures.scores.MEASURES`.

    Returns:
        The measures of each model, and for each model a list over the draws. Undefined measures are
        None.
    """
    slides = np.unique(models[0][0].predictions.slides)
    codes = [np.searchsorted(slides, pooled.predictions.slides) for pooled in models[0]]

    def measure(
        model: Sequence[Pooled], repetitions: Sequence[int] | np.ndarray, counts: np.ndarray
    ) -> Measures:
        each = []
        for number in repetitions:
            (_, _, y_true, y_score), y_pred = model[number]
            each.append(score(y_true, y_score, y_pred, counts[codes[number]], names))
        return {name: _mean([measures[name] for measures in each]) for name in names}

    everything = range(len(codes))
    random = np.random.default_rng(seed)
    drawn: list[list[Measures]] = [[] for _ in models]
    for counts in progress(
        slide_draws(len(slides), replicates, seed),
        total=replicates,
        desc="drawing slides",
        unit="draw",
    ):
        repetitions = random.integers(len(codes), size=len(codes)) if len(codes) > 1 else everything
        for draws, model in zip(drawn, models):
            draws.append(measure(model, repetitions, counts))
    return [
        measure(model, everything, np.ones(len(slides), dtype=np.int64)) for model in models
    ], drawn


def differences(ours: Sequence[Measures], theirs: Sequence[Measures], name: str) -> list[float]:
    """Return the difference of a measure in each draw in which both models define it."""
    pairs = [(a[name], b[name]) for a, b in zip(ours, theirs)]
    return [a - b for a, b in pairs if a is not None and b is not None]


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if len(defined) == len(values) else None
