"""What is said of a model on a test set: all measures, the few that one decides by, and the lines
on the screen.
"""

import sys

import numpy as np

from stages.measures.decision import Band
from stages.measures.resampling import slide_bootstrap, too_small
from stages.measures.scores import MEASURES, confusion, score


def say(results: dict) -> None:
    """Print the main measures with their intervals."""
    for name in ("roc_auc", "sensitivity", "specificity", "f1"):
        interval = results["interval_95"][name]
        span = (
            f" (95 % interval {interval['low']:.3f} to {interval['high']:.3f})" if interval else ""
        )
        print(
            f"{name}: {results[name]:.3f}{span}"
            if results[name] is not None
            else f"{name}: not defined"
        )
    widths = {
        name: span["high"] - span["low"] for name, span in results["interval_95"].items() if span
    }
    print(
        f"on {results['images']} glomeruli of {results['slides']} slide{'s' * (results['slides'] != 1)}"
    )
    if small := too_small(results["slides"], widths):
        print(f"{small} Folds pooled (`python -m stages.compare`) tell more.")


def deciding(results: dict) -> dict[str, float | None]:
    """Return of all `results` the few that one decides by, to four digits: what `dvc metrics`
    shows, in a line of a terminal.

    `certain` is the share of glomeruli that are decided; `leakage` that of test images whose slide
    was trained on.
    """
    few = {name: results[name] for name in ("roc_auc", "sensitivity", "specificity", "f1", "brier")}
    few["certain"] = results["certain"]["coverage"]
    if "leakage" in results:
        few["leakage"] = results["leakage"]
    return {name: value if value is None else round(value, 4) for name, value in few.items()}


def measure(
    y_true: np.ndarray,
    y_score: np.ndarray,
    threshold: float,
    slides: np.ndarray,
    replicates: int,
    seed: int,
) -> dict:
    """Return what metrics/measures.json holds; measures that are not defined are null, with the
    reason under `undefined`.
    """
    y_pred = y_score >= threshold
    counts = confusion(y_true, y_pred)
    measures = score(y_true, y_score, y_pred)
    undefined = {
        name: MEASURES[name].why_undefined(counts)
        for name, value in measures.items()
        if value is None
    }
    for name, reason in undefined.items():
        print(f"warning: {name} is not defined: {reason}", file=sys.stderr)
    return {
        **measures,
        "threshold": threshold,
        "confusion": counts._asdict(),
        "interval_95": slide_bootstrap(y_true, y_score, y_pred, slides, replicates, seed),
        "images": len(y_true),
        "slides": len(np.unique(slides)),
        **({"undefined": undefined} if undefined else {}),
    }


def certain(
    y_true: np.ndarray, y_score: np.ndarray, threshold: float, band: Band
) -> dict[str, float | None]:
    """Return the share of images outside the uncertain band, and which share of them is wrong; None
    where there are none.
    """
    sure = ~band.contains(y_score)
    wrong = (y_true == 1) != (y_score >= threshold)
    return {
        "coverage": float(np.mean(sure)),
        "wrong": float(np.mean(wrong[sure])) if sure.any() else None,
    }
