"""Measure the model on the test slides: -> metrics/test.json, predictions.csv, slides.csv and plots."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.calibration import calibration_curve
from sklearn.metrics import precision_recall_curve, roc_curve

from stages.backend import make_deterministic
from stages.batches import predict
from stages.card import Dataset, read_dataset
from stages.cohort import IMAGES, open_squares, read_cohort
from stages.errors import UserError, run_stage
from stages.files import read_json, write_json, write_table
from stages.images import load_image
from stages.metrics import EvaluateParameters, confusion, coverage_curve, is_certain, score, slide_bootstrap, why_undefined
from stages.model_file import MODEL, load_model
from stages.params import read_dataset_name, read_params
from stages.pictures import contact_sheet, save_png
from stages.predictions import THRESHOLD, write_predictions

METRICS = Path("metrics")
SHOWN_MISTAKES = 16
CALIBRATION_BINS = 5  # A test set of one fold has a hundred crops or two: more bins would show noise.


def main() -> None:
    params = read_params("evaluate", EvaluateParameters)
    dataset = read_dataset(read_dataset_name())
    make_deterministic(params.seed)
    decision = read_json(THRESHOLD)
    threshold, band = decision["threshold"], decision["uncertain"]

    cohort = read_cohort()
    rows = cohort.rows("test")
    paths, slides, y_true = cohort.paths[rows], cohort.slides[rows], cohort.labels[rows]
    model, squares = load_model(MODEL), open_squares()
    if model.input_shape[1:] != squares.shape[1:]:
        raise UserError(f"{MODEL} takes pixels of shape {model.input_shape[1:]}; those of {IMAGES} are {squares.shape[1:]}")
    probability = predict(model, squares, rows)
    y_score = probability.astype(np.float64)
    y_pred = (y_score >= threshold).astype(np.int64)

    results = measure(y_true, y_score, threshold, slides, params.bootstrap, params.seed)
    results["certain"] = certain(y_true, y_score, threshold, band["low"], band["high"])
    write_json(METRICS / "test.json", results)
    write_predictions(METRICS / "predictions.csv", cohort, rows, probability, y_pred)
    write_slides(y_true, y_pred, slides)
    write_curves(y_true, y_score)
    coverage, error, _ = coverage_curve(y_true, y_score, threshold)
    write_table(METRICS / "plots/coverage.csv", ("coverage", "error"), zip(coverage.tolist(), error.tolist()))
    save_png(METRICS / "plots/mistakes.png", mistakes_picture(dataset, paths, y_true, y_score, y_pred))

    for name in ("roc_auc", "sensitivity", "specificity", "f1"):
        interval = results["interval_95"][name]
        span = f" (95 % interval {interval['low']:.3f} to {interval['high']:.3f})" if interval else ""
        print(f"{name}: {results[name]:.3f}{span}" if results[name] is not None else f"{name}: not defined")


def measure(y_true: np.ndarray, y_score: np.ndarray, threshold: float, slides: np.ndarray, replicates: int, seed: int) -> dict:
    """Return all that metrics/test.json holds; measures that are not defined are null, with the reason under `undefined`."""
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
    """Return the share of images outside the uncertain band, and the share of errors among them; None where there are none."""
    sure = is_certain(y_score, low, high)
    wrong = (y_true == 1) != (y_score >= threshold)
    return {"coverage": float(np.mean(sure)), "error": float(np.mean(wrong[sure])) if sure.any() else None}


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


def mistakes_picture(
    dataset: Dataset, paths: np.ndarray, y_true: np.ndarray, y_score: np.ndarray, y_pred: np.ndarray
) -> Image.Image:
    """Return a sheet of the worst mistakes: missed sclerotic glomeruli first, the surest mistake first, up to eight of each."""
    missed = [row for row in np.argsort(y_score, kind="stable") if y_true[row] and not y_pred[row]]
    alarms = [row for row in np.argsort(-y_score, kind="stable") if y_pred[row] and not y_true[row]]
    half = SHOWN_MISTAKES // 2
    crops, captions = [], []
    for kind, mistakes in (("missed", missed[:half]), ("false alarm", alarms[:half])):
        for row in mistakes:
            crops.append(load_image(dataset.folder / paths[row]).convert("RGB"))
            captions.append(f"{kind}, p = {y_score[row]:.3f}\n{Path(paths[row]).name}")
    if not crops:
        return contact_sheet([Image.new("RGB", (1, 1), "white")], ["no mistakes on the test set"], columns=1)
    return contact_sheet(crops, captions, columns=min(half, len(crops)))


if __name__ == "__main__":
    run_stage(main)
