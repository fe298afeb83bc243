"""Whether two results agree that were computed on processors of different kinds: compared by value,
where bytes must differ.

Training is a long chain of small steps, and a rounding in one of them grows. How far it takes the
demo's results was measured with four other ways to round (docs/reproducibility.md); what is allowed
is twice that.
"""

import csv
import io
from typing import NamedTuple

import numpy as np

from stages.base.strict_json import parse_json
from stages.experiments.settings import flatten

# Largest difference that is allowed of the probability of one image, and on average over all.
PROBABILITY, MEAN_PROBABILITY = 0.5, 0.03
# Of a measure that rests on the probabilities' order and size, and of one that counts calls at the
# threshold.
MEASURE, MEASURE_OF_CALLS = 0.02, 0.1
OF_ORDER_AND_SIZE = ("roc_auc", "average_precision", "brier", "calibration_error")
# The operating threshold may jump from one validation image to the next; what follows from it is
# compared.
FREE = ("threshold",)
# What is drawn or counted before any network runs: the same integers and the same tables of paths
# on every processor.
EXACT_STAGES = ("demo", "manifest", "split", "pad")


class Agreement(NamedTuple):
    """What comparing two files by value found: whether they agree, and a line with the largest
    differences.
    """

    agree: bool
    found: str


def compare_contents(path: str, committed: bytes, here: bytes) -> Agreement | None:
    """Compare two versions of an output by value; None for one that is not compared: a picture, a
    log, a curve, weights.
    """
    if path.endswith("predictions.csv") or path.endswith("validation.csv"):
        return compare_predictions(committed.decode(), here.decode())
    if path.endswith(("test.json", "measures.json")):
        return compare_measures(parse_json(committed), parse_json(here))
    return None


def compare_predictions(committed: str, here: str) -> Agreement:
    """Compare two tables of predictions: all columns but the probability, and the calls that follow
    from it, must be equal.
    """
    ours, theirs = (list(csv.DictReader(io.StringIO(text))) for text in (committed, here))
    varying = ("probability", "predicted")
    fixed = [
        [{name: value for name, value in row.items() if name not in varying} for row in rows]
        for rows in (ours, theirs)
    ]
    if fixed[0] != fixed[1]:
        return Agreement(False, "other images, slides or labels")
    gaps = np.abs([float(a["probability"]) - float(b["probability"]) for a, b in zip(ours, theirs)])
    calls = sum(a.get("predicted") != b.get("predicted") for a, b in zip(ours, theirs))
    agree = bool(
        gaps.max(initial=0) <= PROBABILITY and (not len(gaps) or gaps.mean() <= MEAN_PROBABILITY)
    )
    called = f"; {calls} of {len(ours)} called otherwise" if ours and "predicted" in ours[0] else ""
    largest, mean = gaps.max(initial=0), gaps.mean() if len(gaps) else 0.0
    return Agreement(
        agree,
        f"probabilities differ by {largest:.2g} at most (allowed {PROBABILITY}), {mean:.2g} on average "
        f"(allowed {MEAN_PROBABILITY}){called}",
    )


def compare_measures(committed: dict, here: dict) -> Agreement:
    """Compare two files of measures: counts of images and slides must be equal, measures within
    what is allowed of each.
    """
    ours, theirs = (flatten(one) for one in (committed, here))
    if ours.keys() != theirs.keys():
        return Agreement(False, f"other measures: {', '.join(sorted(ours.keys() ^ theirs.keys()))}")
    images = committed.get("images", 1)
    worst, reach, agree = "", -1.0, True
    for name, value in ours.items():
        other = theirs[name]
        if name in FREE or value == other:
            continue
        if not isinstance(value, (int, float)) or not isinstance(other, (int, float)):
            return Agreement(False, f"{name} is {other}, it was {value}")
        counted = name.startswith("confusion.")
        if isinstance(value, int) and not counted:
            return Agreement(False, f"{name} is {other}, it was {value}")
        gap = abs(value - other) / (images if counted else 1)
        allowed = MEASURE if name in OF_ORDER_AND_SIZE else MEASURE_OF_CALLS
        agree &= gap <= allowed
        if gap / allowed > reach:
            worst, reach = f"{name} differs most: {gap:.2g} (allowed {allowed})", gap / allowed
    return Agreement(agree, worst or "all measures are equal")
