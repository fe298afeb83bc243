"""The curves of a test set, and the percentage of each slide."""

from pathlib import Path

import numpy as np
from sklearn.calibration import calibration_curve
from sklearn.metrics import precision_recall_curve, roc_curve

from stages.base.files import write_table

METRICS = Path("metrics")
CALIBRATION_BINS = 5  # A test set of one fold has a hundred crops or two: more bins would show noise.


def write_slides(y_true: np.ndarray, y_pred: np.ndarray, slides: np.ndarray) -> None:
    """Write the percentage of globally sclerotic glomeruli of each slide, true and predicted: what a report states."""
    names, codes = np.unique(slides, return_inverse=True)
    glomeruli = np.bincount(codes)
    true, predicted = np.bincount(codes, weights=y_true).astype(int), np.bincount(codes, weights=y_pred).astype(int)
    write_table(
        METRICS / "slides.csv",
        ("slide", "glomeruli", "sclerotic", "predicted_sclerotic", "percent", "predicted_percent"),
        [(name, n, t, p, f"{100 * t / n:.1f}", f"{100 * p / n:.1f}") for name, n, t, p in zip(names, glomeruli, true, predicted)],
    )


def write_curves(y_true: np.ndarray, y_score: np.ndarray) -> None:
    """Write the ROC, precision-recall and calibration curves; headers alone where one class is missing."""
    roc, precision_recall, calibration = [], [], []
    if len(np.unique(y_true)) == 2:
        false_positive_rate, sensitivity, _ = roc_curve(y_true, y_score)
        roc = list(zip(false_positive_rate.tolist(), sensitivity.tolist()))
        precision, recall, _ = precision_recall_curve(y_true, y_score, drop_intermediate=True)
        precision_recall = list(zip(recall.tolist(), precision.tolist()))
        observed, predicted = calibration_curve(y_true, y_score, n_bins=CALIBRATION_BINS)
        calibration = list(zip(predicted.tolist(), observed.tolist(), predicted.tolist()))
    write_table(METRICS / "plots/roc.csv", ("false_positive_rate", "sensitivity"), roc)
    write_table(METRICS / "plots/precision_recall.csv", ("recall", "precision"), precision_recall)
    write_table(METRICS / "plots/calibration.csv", ("predicted", "observed", "ideal"), calibration)
