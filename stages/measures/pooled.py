"""Predictions of several folds as one sample."""

from collections.abc import Sequence

import numpy as np

from stages.dataset.predictions import Predictions
from stages.measures.decision import is_positive
from stages.measures.influence import Sample


def pool(folds: Sequence[Predictions], thresholds: Sequence[float]) -> Sample:
    """Return the predictions of some folds as one sample, each with its fold's threshold."""
    together = Predictions(*map(np.concatenate, zip(*folds)))
    y_pred = [is_positive(fold.y_score, threshold) for fold, threshold in zip(folds, thresholds)]
    return Sample(
        together.y_true,
        together.y_score,
        np.concatenate(y_pred).astype(np.int64),
        together.slides,
        folds=np.repeat(np.arange(len(folds)), [len(fold.paths) for fold in folds]),
        crops=together.paths,
    )
