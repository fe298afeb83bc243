"""The measures of a model on a test set, and how they are printed."""

import sys

import numpy as np

from stages.measures.decision import Decision, is_positive, measure_rates
from stages.measures.resampling import slide_bootstrap, too_small
from stages.measures.scores import MEASURES, confusion, score

HEADLINE = ("roc_auc", "sensitivity", "specificity", "f1", "brier", "coverage", "leakage")


def print_results(results: dict) -> None:
    """Print the main measures with their intervals."""
    intervals = results["interval_95"]
    for name, interval in intervals.items():
        value = results[name]
        span = f"{interval['low']:.3f} to {interval['high']:.3f}" if interval else ""
        interval_text = f" (95 % interval {span})" if span else ""
        print(f"{name}: not defined" if value is None else f"{name}: {value:.3f}{interval_text}")
    slides = results["slides"]
    print(f"on {results['images']} glomeruli of {slides} slide{'s' * (slides != 1)}")
    rates = {name: results[f"decided_{name}"] for name in ("sensitivity", "specificity")}
    decided = [
        f"{name} {'not defined' if value is None else f'{value:.3f}'}"
        for name, value in rates.items()
    ]
    print(f"decided: {results['coverage']:.3f} of them; of these {', '.join(decided)}")
    widths = {name: span["high"] - span["low"] for name, span in intervals.items() if span}
    if small := too_small(slides, widths):
        print(f"{small} Folds pooled (`python -m stages.compare`) tell more.")


def headline(results: dict) -> dict[str, float | None]:
    """Return the headline metrics, rounded to four digits so that `dvc metrics` fits a terminal."""
    return {
        name: None if results[name] is None else round(results[name], 4)
        for name in HEADLINE
        if name in results
    }


def measure(
    y_true: np.ndarray,
    y_score: np.ndarray,
    threshold: float,
    slides: np.ndarray,
    replicates: int,
    seed: int,
) -> dict:
    """Return all measures, as in metrics/measures.json.

    Undefined measures are None; `undefined` says why.
    """
    y_pred = is_positive(y_score, threshold)
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


def measure_coverage(
    y_true: np.ndarray, y_score: np.ndarray, decision: Decision
) -> dict[str, float | None]:
    """Return the share of images that are decided, and the error rates of these.

    The rates are None if no image, or none of the class, is decided.
    """
    found = measure_rates(y_true, y_score, decision.threshold, decision.uncertain)
    decided = ~decision.is_uncertain(y_score)
    wrong = (y_true == 1) != decision.is_positive(y_score)
    return {
        "coverage": found.coverage,
        "decided_error_rate": float(np.mean(wrong[decided])) if decided.any() else None,
        "decided_sensitivity": found.decided_sensitivity,
        "decided_specificity": found.decided_specificity,
    }
