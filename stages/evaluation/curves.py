"""The curves of a test set, and the percentage of sclerotic glomeruli of each slide."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve

from stages.base.files import write_table
from stages.evaluation.results import Tested
from stages.measures.calibration import log_odds
from stages.measures.decision import Decision, coverage_curve
from stages.measures.percentages import DECISIVE, Agreement, agreement, percentage
from stages.measures.pseudonyms import pseudonyms
from stages.measures.usefulness import net_benefit

METRICS = Path("metrics")
# Of about as many crops each. One fold has only a few hundred: more bins would show noise.
CALIBRATION_BINS = 8
SLIDES = (
    *("slide", "glomeruli", "sclerotic", "predicted_sclerotic"),
    *("percent", "predicted_percent", "low", "high", "reaches_20"),
)
BENEFIT = ("threshold", "net_benefit", "positive")


def write_slides(
    y_true: np.ndarray,
    y_score: np.ndarray,
    slides: np.ndarray,
    decision: Decision,
    key: bytes | None = None,
) -> Agreement | None:
    """Write the counted and the predicted percentage of each slide to metrics/slides.csv.

    metrics/plots/net_benefit_slides.csv has the decision curve of the slides that reach 20 %.

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
        percents = 100 * sclerotic / n, *percentage(odds[of_slide], decision.slide_shift)
        rows.append((pseudonym, n, sclerotic, int(y_pred[of_slide].sum()), *percents))
    table = [(*row[:4], *(f"{value:.1f}" for value in row[4:8]), f"{row[8]:.3f}") for row in rows]
    write_table(METRICS / "slides.csv", SLIDES, sorted(table))
    resolved = sorted(zip(shown, names)) if key else []
    write_table(METRICS / "slide_names.csv", ("pseudonym", "slide"), resolved)
    reached, probability = [row[4] >= DECISIVE for row in rows], [row[8] for row in rows]
    some = 0 < sum(reached) < len(reached)
    benefit = _benefit(np.array(reached), np.array(probability)) if some else []
    write_table(METRICS / "plots/net_benefit_slides.csv", BENEFIT, benefit)
    return agreement([row[4] for row in rows], [row[5] for row in rows]) if rows else None


def write_curves(tested: Tested | None, results: dict) -> None:
    """Write the tables of `curves`; only headers without crops."""
    for name, (columns, rows) in curves(tested, results).items():
        write_table(METRICS / f"plots/{name}.csv", columns, rows)


def curves(tested: Tested | None, results: dict) -> dict[str, tuple[tuple[str, ...], list[tuple]]]:
    """Return columns and rows of the ROC, precision-recall, calibration and decision curves; no
    rows without crops or if a class is missing.

    `operating` is 1 at the operating point, which has the limits of both its coordinates. Each
    point of the calibration curve has its number of crops and the limits of the observed share.

    Args:
        results: `confusion` and `interval_95` as of `stages.evaluation.results.measure`.
    """
    roc, precision_recall, calibration, benefit = [], [], [], []
    if tested is not None and len(np.unique(tested.sample.y_true)) == 2:
        y_true, y_score, _ = tested.sample[:3]
        (tn, fp, fn, tp), limits = results["confusion"].values(), results["interval_95"]
        false_positive_rate, sensitivity, _ = roc_curve(y_true, y_score)
        specificity = _limits(limits["specificity"])
        roc = _with_point(
            list(zip(false_positive_rate.tolist(), sensitivity.tolist())),
            (fp / (fp + tn), tp / (tp + fn)),
            [None if one is None else 1 - one for one in specificity[::-1]],
            _limits(limits["sensitivity"]),
        )
        precision, recall, _ = precision_recall_curve(y_true, y_score, drop_intermediate=True)
        precision_recall = _with_point(
            list(zip(recall.tolist(), precision.tolist())),
            (tp / (tp + fn), tp / (tp + fp) if tp + fp else 1.0),
            _limits(limits["sensitivity"]),
            _limits(limits["precision"]),
        )
        calibration = _calibration(tested)
        benefit = _benefit(y_true, y_score)
    point = ("operating", "left", "right", "low", "high")
    return {
        "roc": (("false_positive_rate", "sensitivity", *point), roc),
        "precision_recall": (("recall", "precision", *point), precision_recall),
        "calibration": (
            ("predicted", "observed", "ideal", "crops", "low", "high"),
            calibration,
        ),
        "net_benefit": (BENEFIT, benefit),
    }


def _limits(interval: dict | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else (interval["low"], interval["high"])


def _calibration(tested: Tested) -> list[tuple]:
    """Return a row for each bin of about as many crops."""
    y_score = tested.sample.y_score
    inner = np.linspace(0, 1, CALIBRATION_BINS + 1)[1:-1]
    bins = np.searchsorted(np.unique(np.quantile(y_score, inner)), y_score)
    rows = []
    for number in np.unique(bins):
        of_bin = bins == number
        mean, found = float(y_score[of_bin].mean()), tested.positives(of_bin)
        rows.append((mean, found.value, mean, int(of_bin.sum()), found.low, found.high))
    return rows


def _benefit(y_true: np.ndarray, y_score: np.ndarray) -> list[tuple]:
    """Return the net benefit of the model, and where it is above 0 that of taking all as positive.

    Both classes must be there.
    """
    thresholds = np.arange(1, 100) / 100
    of_model, of_all = (
        net_benefit(y_true, scores, thresholds) for scores in (y_score, np.ones(len(y_score)))
    )
    return [
        *zip(thresholds.tolist(), of_model.tolist(), ["by the model"] * len(thresholds)),
        *(
            (threshold, value, "all")
            for threshold, value in zip(thresholds.tolist(), of_all.tolist())
            if value > 0
        ),
    ]


def write_coverage(y_true: np.ndarray, y_score: np.ndarray, threshold: float) -> None:
    """Write the error rate of decided crops against the coverage; only a header without crops."""
    rows = []
    if len(y_true):
        coverage, error_rate, _ = coverage_curve(y_true, y_score, threshold)
        rows = list(zip(coverage.tolist(), error_rate.tolist()))
    write_table(METRICS / "plots/coverage.csv", ("coverage", "wrong"), rows)


def _with_point(
    curve: list[tuple[float, float]],
    point: tuple[float, float],
    of_x: Sequence[float | None],
    of_y: Sequence[float | None],
) -> list[tuple]:
    """Return a curve with a third column, 1 at `point`, which is inserted if it is missing, and
    four columns with the limits of its coordinates, which are empty elsewhere.
    """
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
    return [(*one, 1, *of_x, *of_y) if one == point else (*one, 0, *4 * [None]) for one in curve]
