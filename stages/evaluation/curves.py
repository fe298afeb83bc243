"""The curves of a test set, and the percentage of each slide."""

from pathlib import Path

import numpy as np
from sklearn.calibration import calibration_curve
from sklearn.metrics import precision_recall_curve, roc_curve

from stages.base.files import write_table
from stages.measures.pseudonyms import pseudonyms
from stages.measures.recalibration import wilson
from stages.measures.scores import confusion

METRICS = Path("metrics")
CALIBRATION_BINS = (
    5  # A test set of one fold has a hundred crops or two: more bins would show noise.
)


def write_slides(
    y_true: np.ndarray, y_pred: np.ndarray, slides: np.ndarray, key: bytes | None = None
) -> None:
    """Write the percentage of globally sclerotic glomeruli of each slide, true and predicted: what
    a report states.

    The predicted one with its 95 % interval (Wilson's): of the sampling of glomeruli, not of the
    model's errors. With a key, slides have pseudonyms and stand in their order;
    metrics/slide_names.csv says which slide is which.
    """
    names, codes = np.unique(slides, return_inverse=True)
    shown = pseudonyms(names.tolist(), key)
    glomeruli = np.bincount(codes)
    true, predicted = (
        np.bincount(codes, weights=y_true).astype(int),
        np.bincount(codes, weights=y_pred).astype(int),
    )
    rows = [
        (
            name,
            n,
            t,
            p,
            *(f"{100 * share:.1f}" for share in (t / n, p / n, *wilson(int(p), int(n)))),
        )
        for name, n, t, p in zip(shown, glomeruli, true, predicted)
    ]
    columns = (
        "slide",
        "glomeruli",
        "sclerotic",
        "predicted_sclerotic",
        "percent",
        "predicted_percent",
        "low",
        "high",
    )
    write_table(METRICS / "slides.csv", columns, sorted(rows))
    known = sorted(zip(shown, names)) if key else []
    write_table(METRICS / "slide_names.csv", ("pseudonym", "slide"), known)


def write_curves(y_true: np.ndarray, y_score: np.ndarray, threshold: float) -> None:
    """Write the ROC, precision-recall and calibration curves; headers alone where one class is
    missing.

    `operating` is 1 at the point of the operating threshold. Of the calibration, each point has its
    number of crops and the 95 % interval of the observed share (Wilson's).
    """
    roc, precision_recall, calibration = [], [], []
    if len(np.unique(y_true)) == 2:
        tn, fp, fn, tp = confusion(y_true, y_score >= threshold)
        false_positive_rate, sensitivity, _ = roc_curve(y_true, y_score)
        roc = _with_point(
            list(zip(false_positive_rate.tolist(), sensitivity.tolist())),
            (fp / (fp + tn), tp / (tp + fn)),
        )
        precision, recall, _ = precision_recall_curve(y_true, y_score, drop_intermediate=True)
        operating = (tp / (tp + fn), tp / (tp + fp) if tp + fp else 1.0)
        precision_recall = _with_point(list(zip(recall.tolist(), precision.tolist())), operating)
        observed, predicted = calibration_curve(y_true, y_score, n_bins=CALIBRATION_BINS)
        # As scikit-learn's calibration_curve has its bins, of which it leaves out the empty ones.
        bins = np.searchsorted(np.linspace(0, 1, CALIBRATION_BINS + 1)[1:-1], y_score)
        positive, crops = np.bincount(bins, weights=y_true), np.bincount(bins)
        intervals = [
            wilson(int(some), int(n)) for some, n in zip(positive[crops > 0], crops[crops > 0])
        ]
        calibration = [
            (p, o, p, int(n), *interval)
            for p, o, n, interval in zip(
                predicted.tolist(), observed.tolist(), crops[crops > 0], intervals
            )
        ]
    write_table(METRICS / "plots/roc.csv", ("false_positive_rate", "sensitivity", "operating"), roc)
    write_table(
        METRICS / "plots/precision_recall.csv",
        ("recall", "precision", "operating"),
        precision_recall,
    )
    columns = ("predicted", "observed", "ideal", "crops", "low", "high")
    write_table(METRICS / "plots/calibration.csv", columns, calibration)


def _with_point(
    curve: list[tuple[float, float]], point: tuple[float, float]
) -> list[tuple[float, float, int]]:
    """Return a curve with a third column, 1 at `point`, which is put in where it lies if it is not
    there.
    """
    if point not in curve:
        # Both rise (ROC) or both, but for the precision's jumps, fall: before the first that is
        # beyond.
        rises = curve[0][0] <= curve[-1][0]
        beyond = (
            place
            for place, one in enumerate(curve)
            if (one > point if rises else one[0] < point[0])
        )
        curve = curve.copy()
        curve.insert(next(beyond, len(curve)), point)
    return [(*one, int(one == point)) for one in curve]
