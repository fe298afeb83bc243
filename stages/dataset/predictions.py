"""Write and read the predictions of a model."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.base.files import parse_table, read_table, write_table
from stages.dataset.cohort import Cohort

VALIDATION = Path("models/validation.csv")


def write_predictions(
    path: Path,
    cohort: Cohort,
    rows: np.ndarray,
    probability: np.ndarray,
    predicted: np.ndarray | None = None,
    member: np.ndarray | None = None,
) -> None:
    """Write a table of path, slide, label, probability and the other columns that are given.

    Args:
        rows: int (n,), of the cohort.
        probability: float32 (n,), written as the shortest text that reads back the same.
        predicted: int (n,) of 0 and 1.
        member: int (n,), the member of an ensemble, from 1, that has not seen the crop.
    """
    columns = {
        "path": cohort.paths[rows],
        "slide": cohort.slides[rows],
        "label": cohort.labels[rows],
        "probability": [str(value) for value in probability],
    }
    if predicted is not None:
        columns["predicted"] = predicted
    if member is not None:
        columns["member"] = member
    write_table(path, list(columns), zip(*columns.values(), strict=True))


class Predictions(NamedTuple):
    """Predictions of n images: text `paths` and `slides`, int64 `y_true`, float64 `y_score`."""

    paths: np.ndarray
    slides: np.ndarray
    y_true: np.ndarray
    y_score: np.ndarray


def read_predictions(path: Path) -> Predictions:
    """Return what `write_predictions` wrote. Raises `UserError` if it is damaged."""
    with open(path, encoding="utf-8", newline="") as file:
        return parse_predictions(file, path)


class Validation(NamedTuple):
    """Predictions of n validation crops, each by the member that has not seen it.

    Members, int64 (n,), are counted from 0; a single model is member 0.
    """

    paths: np.ndarray
    slides: np.ndarray
    y_true: np.ndarray
    y_score: np.ndarray
    member: np.ndarray


def read_validation(path: Path = VALIDATION) -> Validation:
    """Return the predictions in models/validation.csv. Raises `UserError` if it is damaged."""
    (numbers,) = read_table(path, ["member"])
    return Validation(*read_predictions(path), np.array(numbers, dtype=np.int64) - 1)


def parse_predictions(lines: Iterable[str], where: object) -> Predictions:
    """Return the predictions in the lines of such a file; errors name it `where`."""
    paths, slides, labels, probability = parse_table(
        lines, ("path", "slide", "label", "probability"), where
    )
    y_score = np.array(probability, dtype=np.float32).astype(np.float64)
    return Predictions(np.array(paths), np.array(slides), np.array(labels, dtype=np.int64), y_score)
