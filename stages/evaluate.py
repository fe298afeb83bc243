"""Measure the model on the test slides: -> metrics/test.json, measures.json, predictions.csv,
tables of slides and plots.

Where split.test is none there are no test slides: both files of measures then hold one entry,
`out_of_fold`, of the validation predictions of the ensemble's members; the tables and curves of a
test set are empty.

metrics/test.json has the numbers that one decides by, and `dvc metrics` shows it;
metrics/measures.json has all of them, with their intervals.
"""

import numpy as np

from stages.base.errors import UserError, refuse, run_program
from stages.base.files import write_json, write_table
from stages.base.parameters import read_params
from stages.dataset.cohort import IMAGES, MANIFEST, SPLIT, leakage, open_squares, read_cohort
from stages.dataset.predictions import write_predictions
from stages.dataset.used_card import read_used_card
from stages.evaluation.classifier import of_another_model, read_card, read_network
from stages.evaluation.curves import METRICS, write_curves, write_slides
from stages.evaluation.out_of_fold import write_out_of_fold
from stages.evaluation.pictures import attention_picture, mistakes_picture, worst_mistakes
from stages.evaluation.results import certain, deciding, measure, say
from stages.images.sheets import save_png
from stages.measures.decision import coverage_curve, read_decision
from stages.measures.parameters import EvaluateParameters
from stages.measures.pseudonyms import read_key
from stages.model.backend import make_deterministic
from stages.model.batches import predict
from stages.model.file import MODEL
from stages.model.folder import FOLDER


def main() -> None:
    params = read_params("evaluate", EvaluateParameters)
    key = read_key(params.pseudonyms)
    make_deterministic(params.seed)
    decision, made = read_decision(), read_card(FOLDER)
    refuse([*made.of_another(FOLDER), *of_another_model(FOLDER, decision)])
    made.refuse_other_data(MANIFEST, SPLIT)
    folder = read_used_card().folder
    threshold, band = decision.threshold, decision.uncertain

    cohort = read_cohort()
    if cohort.has_no_test:
        write_out_of_fold(folder, cohort, decision, params)
        return
    rows = cohort.rows("test")
    paths, slides, y_true = cohort.paths[rows], cohort.slides[rows], cohort.labels[rows]
    model, squares = read_network(FOLDER, made), open_squares()
    if model.input_shape[1:] != squares.shape[1:]:
        raise UserError(
            f"{MODEL} takes pixels of shape {model.input_shape[1:]}; those of {IMAGES} are {squares.shape[1:]}"
        )
    y_score = decision.calibration(predict(model, squares, rows))
    y_pred = (y_score >= threshold).astype(np.int64)

    results = measure(y_true, y_score, threshold, slides, params.bootstrap, params.seed)
    results["leakage"] = leakage(cohort.slides, cohort.splits)
    results["corrected_labels"] = int(np.sum(y_true != cohort.published[rows]))
    results["certain"] = certain(y_true, y_score, threshold, band)
    write_json(METRICS / "test.json", deciding(results))
    write_json(METRICS / "measures.json", results)
    write_predictions(METRICS / "predictions.csv", cohort, rows, y_score.astype(np.float32), y_pred)
    write_slides(y_true, y_pred, slides, key)
    write_curves(y_true, y_score, threshold)
    coverage, wrong, _ = coverage_curve(y_true, y_score, threshold)
    write_table(
        METRICS / "plots/coverage.csv",
        ("coverage", "wrong"),
        zip(coverage.tolist(), wrong.tolist()),
    )
    mistakes = worst_mistakes(y_true, y_score, y_pred)
    save_png(
        METRICS / "plots/mistakes.png",
        mistakes_picture(folder, paths, slides, y_score, mistakes, threshold),
    )
    looks = attention_picture(model, squares, rows, paths, y_true, y_score, mistakes)
    save_png(METRICS / "plots/attention.png", looks)
    say(results)
    print(
        "to look at: `dvc metrics show`, metrics/plots/mistakes.png, or all of it on a page: `python -m stages.report HEAD`"
    )


if __name__ == "__main__":
    run_program(main, __doc__)
