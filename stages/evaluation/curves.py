"""The curves of a test set, and the percentage of sclerotic glomeruli of each slide."""

from pathlib import Path

import numpy as np
from sklearn.calibration import calibration_curve
from sklearn.metrics import precision_recall_curve, roc_curve

from stages.base.files import write_table
from stages.measures.calibration import log_odds
from stages.measures.decision import Decision, coverage_curve, is_positive
from stages.measures.percentages import Agreement, agreement, percentage
from stages.measures.pseudonyms import pseudonyms
from stages.measures.recalibration import wilson
from stages.measures.scores import confusion

METRICS = Path("metrics")
# The test set of one fold has only a few hundred crops: more bins would show noise.
CALIBRATION_BINS = 5
SLIDES = (
    *("slide", "glomeruli", "sclerotic", "predicted_sclerotic"),
    *("percent", "predicted_percent", "low", "high"),
)


def write_slides(
    y_true: np.ndarray,
    y_score: np.ndarray,
    slides: np.ndarray,
    decision: Decision,
    key: bytes | None = None,
) -> Agreement | None:
    """Write the counted and the predicted percentage of each slide to metrics/slides.csv.

    Args:
        key: if given, slides get pseudonyms; metrics/slide_names.csv resolves them.

    Returns:
        how well the two percentages agree; None if there is no slide.
    """
    names = np.unique(slides)
    shown = pseudonyms(names.tolist(), key)
    y_pred, odds = decision.is_positive(y_score), log_odds(y_score)
    rows = []
    for name, pseudonym in zip(names, shown):
        of_slide = slides == name
        n, sclerotic = int(of_slide.sum()), int(y_true[of_slide].sum())
        percents = 100 * sclerotic / n, *percentage(odds[of_slide], decision.slide_deviation)
        rows.append((pseudonym, n, sclerotic, int(y_pred[of_slide].sum()), *percents))
    table = [(*row[:4], *(f"{value:.1f}" for value in row[4:])) for row in rows]
    write_table(METRICS / "slides.csv", SLIDES, sorted(table))
    resolved = sorted(zip(shown, names)) if key else []
    write_table(METRICS / "slide_names.csv", ("pseudonym", "slide"), resolved)
    return agreement([row[4] for row in rows], [row[5] for row in rows]) if rows else None


def write_curves(y_true: np.ndarray, y_score: np.ndarray, threshold: float) -> None:
    """Write the ROC, precision-recall and calibration curves; only headers if a class is missing.

    `operating` is 1 at the operating point. Each point of the calibration curve has its number of
    crops and the 95 % interval (Wilson's) of the observed share.
    """
    roc, precision_recall, calibration = [], [], []
    if len(np.unique(y_true)) == 2:
        tn, fp, fn, tp = confusion(y_true, is_positive(y_score, threshold))
        false_positive_rate, sensitivity, _ = roc_curve(y_true, y_score)
        roc = _with_point(
            list(zip(false_positive_rate.tolist(), sensitivity.tolist())),
            (fp / (fp + tn), tp / (tp + fn)),
        )
        precision, recall, _ = precision_recall_curve(y_true, y_score, drop_intermediate=True)
        operating = (tp / (tp + fn), tp / (tp + fp) if tp + fp else 1.0)
        precision_recall = _with_point(list(zip(recall.tolist(), precision.tolist())), operating)
        observed, predicted = calibration_curve(y_true, y_score, n_bins=CALIBRATION_BINS)
        # The bins of scikit-learn's calibration_curve, which leaves out the empty ones.
        bins = np.searchsorted(np.linspace(0, 1, CALIBRATION_BINS + 1)[1:-1], y_score)
        positive, crops = np.bincount(bins, weights=y_true), np.bincount(bins)
        calibration = [
            (p, o, p, int(n), *wilson(int(some), int(n)))
            for p, o, some, n in zip(
                predicted.tolist(), observed.tolist(), positive[crops > 0], crops[crops > 0]
            )
        ]
    for name, columns, rows in (
        ("roc", ("false_positive_rate", "sensitivity", "operating"), roc),
        ("precision_recall", ("recall", "precision", "operating"), precision_recall),
        ("calibration", ("predicted", "observed", "ideal", "crops", "low", "high"), calibration),
    ):
        write_table(METRICS / f"plots/{name}.csv", columns, rows)


def write_coverage(y_true: np.ndarray, y_score: np.ndarray, threshold: float) -> None:
    """Write the error rate of decided crops against the coverage; only a header without crops."""
    rows = []
    if len(y_true):
        coverage, error_rate, _ = coverage_curve(y_true, y_score, threshold)
        rows = list(zip(coverage.tolist(), error_rate.tolist()))
    write_table(METRICS / "plots/coverage.csv", ("coverage", "wrong"), rows)


def _with_point(
    curve: list[tuple[float, float]], point: tuple[float, float]
) -> list[tuple[float, float, int]]:
    """Return a curve with a third column, 1 at `point`, which is inserted if it is missing."""
    if point not in curve:
        # ROC rises in both coordinates; precision-recall falls in recall only.
        rises = curve[0][0] <= curve[-1][0]
        beyond = (
            place
            for place, one in enumerate(curve)
            if (one > point if rises else one[0] < point[0])
        )
        curve = curve.copy()
        curve.insert(next(beyond, len(curve)), point)
    return [(*one, int(one == point)) for one in curve]
