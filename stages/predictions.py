"""Tables of predicted probabilities: path, slide, label, probability."""

from pathlib import Path

import numpy as np

from stages.cohort import Cohort
from stages.files import read_table, write_table


def write_predictions(path: Path, cohort: Cohort, rows: np.ndarray, probability: np.ndarray) -> None:
    """Write path, slide, label and probability (float32 (n,), the shortest text that reads back the same) of some rows."""
    texts = (str(value) for value in probability.astype(np.float32))
    write_table(
        path,
        ("path", "slide", "label", "probability"),
        zip(cohort.paths[rows], cohort.slides[rows], cohort.labels[rows], texts),
    )


def read_predictions(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return (y_true int64 (n,), y_score float64 (n,)) of a file by `write_predictions`."""
    labels, probability = read_table(path, ("label", "probability"))
    return np.array(labels, dtype=np.int64), np.array(probability, dtype=np.float32).astype(np.float64)
