"""Compare results by value that were computed with different rounding, as their bytes then differ.

A rounding difference grows during training. Tables, counts and labels must be equal all the same;
mean probabilities and `stages.measures.scores.MEASURES` have tolerances, about twice the largest
difference measured (docs/reproducibility.md). Thresholds and decisions may tip over: not compared.
"""

import csv
import io
from typing import NamedTuple

import numpy as np

from stages.base.strict_json import parse_json
from stages.dataset.predictions import VALIDATION
from stages.experiments.reading import MEASURES_FILE, PREDICTIONS
from stages.experiments.settings import Value, flatten
from stages.measures.scores import MEASURES

# Largest allowed mean over images of |difference of probability|.
MEAN_PROBABILITY = 0.03
# No network computes these, so they are the same integers and tables on every processor.
EXACT_STAGES, EXACT_FILES = ("demo", "manifest", "split", "pad"), ("models/crops.csv",)
TABLES = (str(PREDICTIONS), str(VALIDATION))
READERS = ("readers.model", "readers.of_all.pairs", "readers.of_tested.pairs")


class Agreement(NamedTuple):
    """Whether two versions of a file agree, and the largest difference in words."""

    agree: bool
    found: str


def compare_contents(path: str, committed: bytes, here: bytes) -> Agreement | None:
    """Compare two versions of an output; None for a picture, curve, log or weights."""
    if path in TABLES:
        return compare_predictions(committed.decode(), here.decode())
    if path in ("metrics/test.json", MEASURES_FILE) or path.endswith(".measures.json"):
        return compare_measures(parse_json(committed), parse_json(here))
    return None


def compare_predictions(committed: str, here: str) -> Agreement:
    """Compare two tables of predictions: all columns but probability and prediction are equal."""
    ours, theirs = (list(csv.DictReader(io.StringIO(text))) for text in (committed, here))
    computed = ("probability", "predicted")
    exact = [
        [{name: value for name, value in row.items() if name not in computed} for row in rows]
        for rows in (ours, theirs)
    ]
    if exact[0] != exact[1]:
        return Agreement(False, "other images, slides or labels")
    if not ours:
        return Agreement(True, "no images")
    gaps = np.abs([float(a["probability"]) - float(b["probability"]) for a, b in zip(ours, theirs)])
    changed = sum(a.get("predicted") != b.get("predicted") for a, b in zip(ours, theirs))
    return Agreement(
        bool(gaps.mean() <= MEAN_PROBABILITY),
        f"probabilities differ by {gaps.mean():.2g} on average (allowed {MEAN_PROBABILITY}), "
        f"by {gaps.max():.2g} at most; {changed} of {len(ours)} predicted classes differ",
    )


def compare_measures(committed: dict, here: dict) -> Agreement:
    """Compare two files of measures: counts and texts are equal, scores within tolerance."""
    ours, theirs = (
        {name: value for name, value in flatten(one).items() if _is_compared(name, value)}
        for one in (committed, here)
    )
    if ours.keys() != theirs.keys():
        return Agreement(False, f"other measures: {', '.join(sorted(ours.keys() ^ theirs.keys()))}")
    found = []
    for name, value in ours.items():
        other = theirs[name]
        if isinstance(value, float) and isinstance(other, float):
            tolerance = MEASURES[_last(name)].tolerance or 0.0
            found.append((abs(value - other) / tolerance, name, abs(value - other), tolerance))
        elif value != other:
            return Agreement(False, f"{name} is {other}, it was {value}")
    ratio, name, gap, tolerance = max(found, default=(0.0, "", 0.0, 0.0))
    return Agreement(
        ratio <= 1,
        f"{name} differs most: {gap:.2g} (allowed {tolerance})" if ratio else "all are equal",
    )


def _is_compared(name: str, value: Value) -> bool:
    """Return whether a value is a count, a text or a measure that has a tolerance."""
    # The lists of readers hold numbers that rest on single decisions.
    if "confusion." in name or "interval_95." in name or name.endswith(READERS):
        return False
    measure = MEASURES.get(_last(name))
    return not isinstance(value, float) if measure is None else measure.tolerance is not None


def _last(name: str) -> str:
    return name.rsplit(".", 1)[-1]
