"""Crops that were judged: their table, the percentage of each slide, the measures against known labels."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

from stages.base.errors import UserError
from stages.base.files import write_json, write_table
from stages.measures.scores import score


class Judged(NamedTuple):
    """What is said of one crop: probability is that of global sclerosis; label is None where it is not known."""

    name: str
    predicted: int
    probability: np.float32
    uncertain: int
    slide: str
    label: int | None


def compile_pattern(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UserError(f"{pattern!r} is not a regular expression: {error}") from None


def slide_of(pattern: re.Pattern[str], name: str) -> str:
    match = pattern.match(PurePosixPath(name).name)
    return (match.groupdict().get("slide") or "") if match else ""


def write_judged(path: Path, judged: Sequence[Judged], with_labels: bool) -> None:
    """Write the table of all crops; with the column `label` where the labels are known."""
    columns = Judged._fields if with_labels else Judged._fields[:-1]
    write_table(path, columns, ([str(value) for value in one[: len(columns)]] for one in judged))


def write_slides(path: Path, judged: Sequence[Judged]) -> None:
    """Write the percentage of globally sclerotic glomeruli of each slide, with its 95 % interval (Wilson's, of SciPy).

    The interval is of the sampling of glomeruli; it knows nothing of the model's errors.
    """
    slides = defaultdict(list)
    for one in judged:
        slides[one.slide].append(one)
    rows = []
    for slide, crops in sorted(slides.items()):
        sclerotic = sum(one.predicted for one in crops)
        share = binomtest(sclerotic, len(crops)).proportion_ci(method="wilson")
        percents = [f"{100 * value:.1f}" for value in (sclerotic / len(crops), share.low, share.high)]
        rows.append((slide, len(crops), sclerotic, sum(one.uncertain for one in crops), *percents))
    write_table(path, ("slide", "glomeruli", "predicted_sclerotic", "uncertain", "percent", "low", "high"), rows)


def say_measures(judged: Sequence[Judged], path: Path) -> None:
    """Write and print the measures against the known labels, as in metrics/measures.json."""
    y_true = np.array([one.label for one in judged], dtype=np.int64)
    y_score = np.array([one.probability for one in judged]).astype(np.float64)
    measures = score(y_true, y_score, np.array([one.predicted for one in judged]))
    write_json(path, measures)
    for name in ("roc_auc", "sensitivity", "specificity", "accuracy"):
        print(f"{name}: {measures[name]:.3f}" if measures[name] is not None else f"{name}: not defined")
