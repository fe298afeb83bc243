"""Measure the model on the test slides: -> metrics/test.json, measures.json, predictions.csv, slides.csv and plots.

metrics/test.json has the numbers that one decides by, and `dvc metrics` shows it; metrics/measures.json has all of them, with
their intervals.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.calibration import calibration_curve
from sklearn.metrics import precision_recall_curve, roc_curve

from stages.attention import attention, overlay
from stages.backend import keras, make_deterministic
from stages.base.errors import UserError, run_stage
from stages.base.files import write_json, write_table
from stages.base.parameters import read_dataset_name, read_params
from stages.batches import predict
from stages.dataset.card import Dataset, read_dataset
from stages.dataset.cohort import IMAGES, leakage, open_squares, read_cohort
from stages.dataset.predictions import write_predictions
from stages.images.opening import load_image
from stages.images.sheets import contact_sheet, save_png
from stages.metrics import EvaluateParameters, confusion, coverage_curve, is_certain, score, slide_bootstrap, why_undefined
from stages.model_file import MODEL, load_model
from stages.predictions import read_decision

METRICS = Path("metrics")
SHOWN_OF_A_KIND = 8
CALIBRATION_BINS = 5  # A test set of one fold has a hundred crops or two: more bins would show noise.


def main() -> None:
    params = read_params("evaluate", EvaluateParameters)
    dataset = read_dataset(read_dataset_name())
    make_deterministic(params.seed)
    decision = read_decision()
    threshold, band = decision.threshold, decision.uncertain

    cohort = read_cohort()
    rows = cohort.rows("test")
    paths, slides, y_true = cohort.paths[rows], cohort.slides[rows], cohort.labels[rows]
    model, squares = load_model(MODEL), open_squares()
    if model.input_shape[1:] != squares.shape[1:]:
        raise UserError(f"{MODEL} takes pixels of shape {model.input_shape[1:]}; those of {IMAGES} are {squares.shape[1:]}")
    y_score = decision.calibration(predict(model, squares, rows))
    y_pred = (y_score >= threshold).astype(np.int64)

    results = measure(y_true, y_score, threshold, slides, params.bootstrap, params.seed)
    results["leakage"] = leakage(cohort.slides, cohort.splits)
    results["corrected_labels"] = int(np.sum(y_true != cohort.published[rows]))
    results["certain"] = certain(y_true, y_score, threshold, band.low, band.high)
    write_json(METRICS / "test.json", deciding(results))
    write_json(METRICS / "measures.json", results)
    write_predictions(METRICS / "predictions.csv", cohort, rows, y_score.astype(np.float32), y_pred)
    write_slides(y_true, y_pred, slides)
    write_curves(y_true, y_score)
    coverage, wrong, _ = coverage_curve(y_true, y_score, threshold)
    write_table(METRICS / "plots/coverage.csv", ("coverage", "wrong"), zip(coverage.tolist(), wrong.tolist()))
    missed, alarms = worst_mistakes(y_true, y_score, y_pred)
    save_png(METRICS / "plots/mistakes.png", mistakes_picture(dataset, paths, y_score, missed, alarms))
    looks = attention_picture(model, squares, rows, paths, y_true, y_score, (missed, alarms))
    save_png(METRICS / "plots/attention.png", looks)
    say(results)


def say(results: dict) -> None:
    """Print the main measures with their intervals."""
    for name in ("roc_auc", "sensitivity", "specificity", "f1"):
        interval = results["interval_95"][name]
        span = f" (95 % interval {interval['low']:.3f} to {interval['high']:.3f})" if interval else ""
        print(f"{name}: {results[name]:.3f}{span}" if results[name] is not None else f"{name}: not defined")


def deciding(results: dict) -> dict[str, float | None]:
    """Return of all `results` the few that one decides by, to four digits: what `dvc metrics` shows, in a line of a terminal.

    `certain` is the share of glomeruli that are decided; `leakage` that of test images whose slide was trained on.
    """
    few = {name: results[name] for name in ("roc_auc", "sensitivity", "specificity", "f1", "brier")}
    few["certain"] = results["certain"]["coverage"]
    if "leakage" in results:
        few["leakage"] = results["leakage"]
    return {name: value if value is None else round(value, 4) for name, value in few.items()}


def measure(y_true: np.ndarray, y_score: np.ndarray, threshold: float, slides: np.ndarray, replicates: int, seed: int) -> dict:
    """Return what metrics/measures.json holds; measures that are not defined are null, with the reason under `undefined`."""
    y_pred = y_score >= threshold
    tn, fp, fn, tp = confusion(y_true, y_pred)
    measures = score(y_true, y_score, y_pred)
    undefined = {name: why_undefined(name, y_true) for name, value in measures.items() if value is None}
    for name, reason in undefined.items():
        print(f"warning: {name} is not defined: {reason}", file=sys.stderr)
    return {
        **measures,
        "threshold": threshold,
        "confusion": {"true_negative": tn, "false_positive": fp, "false_negative": fn, "true_positive": tp},
        "interval_95": slide_bootstrap(y_true, y_score, y_pred, slides, replicates, seed),
        "images": len(y_true),
        "slides": len(np.unique(slides)),
        **({"undefined": undefined} if undefined else {}),
    }


def certain(y_true: np.ndarray, y_score: np.ndarray, threshold: float, low: float, high: float) -> dict[str, float | None]:
    """Return the share of images outside the uncertain band, and which share of them is wrong; None where there are none."""
    sure = is_certain(y_score, low, high)
    wrong = (y_true == 1) != (y_score >= threshold)
    return {"coverage": float(np.mean(sure)), "wrong": float(np.mean(wrong[sure])) if sure.any() else None}


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


def worst_mistakes(y_true: np.ndarray, y_score: np.ndarray, y_pred: np.ndarray) -> tuple[list[int], list[int]]:
    """Return the missed sclerotic glomeruli and the false alarms, the surest mistake first, up to eight of each."""
    missed = [int(row) for row in np.argsort(y_score, kind="stable") if y_true[row] and not y_pred[row]]
    alarms = [int(row) for row in np.argsort(-y_score, kind="stable") if y_pred[row] and not y_true[row]]
    return missed[:SHOWN_OF_A_KIND], alarms[:SHOWN_OF_A_KIND]


def mistakes_picture(
    dataset: Dataset, paths: np.ndarray, y_score: np.ndarray, missed: Sequence[int], alarms: Sequence[int]
) -> Image.Image:
    """Return a sheet of the worst mistakes: the crops as they are in the dataset."""
    crops, captions = [], []
    for kind, mistakes in (("missed", missed), ("false alarm", alarms)):
        for row in mistakes:
            crops.append(load_image(dataset.folder / paths[row]).convert("RGB"))
            captions.append(f"{kind}, p = {y_score[row]:.3f}\n{Path(paths[row]).name}")
    if not crops:
        return contact_sheet([Image.new("RGB", (1, 1), "white")], ["no mistakes on the test set"], columns=1)
    return contact_sheet(crops, captions, columns=min(SHOWN_OF_A_KIND, len(crops)))


def attention_picture(
    model: keras.Model,
    squares: np.ndarray,
    rows: np.ndarray,
    paths: np.ndarray,
    y_true: np.ndarray,
    y_score: np.ndarray,
    mistakes: tuple[Sequence[int], Sequence[int]],
) -> Image.Image:
    """Return a sheet that shows where the model looks: the worst mistakes, then crops of both classes, evenly spread in
    probability; each beside itself under the heat of what speaks for sclerosis.
    """
    kinds = {"missed": mistakes[0], "false alarm": mistakes[1]}
    for label, kind in enumerate(("not sclerotic", "sclerotic")):
        of_class = np.flatnonzero(y_true == label)[np.argsort(y_score[y_true == label], kind="stable")]
        kinds[kind] = of_class[np.linspace(0, len(of_class) - 1, min(SHOWN_OF_A_KIND // 2, len(of_class))).astype(int)]
    shown = [(kind, row) for kind, some in kinds.items() for row in some[: SHOWN_OF_A_KIND // 2]]
    crops = squares[rows[[row for _, row in shown]]]
    pictures, captions = [], []
    for (kind, row), square, heat in zip(shown, crops, attention(model, crops)):
        pictures += [Image.fromarray(square), overlay(square, heat)]
        captions += [f"{kind}, p = {y_score[row]:.3f}\n{Path(paths[row]).name}", ""]
    return contact_sheet(pictures, captions, columns=min(SHOWN_OF_A_KIND, len(pictures)))


if __name__ == "__main__":
    run_stage(main, __doc__)
