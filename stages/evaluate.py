"""Measure the model on the test slides.

metrics/test.json has the headline metrics, which `dvc metrics` shows; metrics/measures.json has all
measures with their intervals. Predictions, tables of slides and sites, curves and pictures are in
metrics/, too.

With split.test none there are no test slides: both files of measures then have one entry,
`out_of_fold`, about the validation predictions of the ensemble's members, as has the table of
sites, and the other tables have no rows.
"""

import numpy as np

from stages.base.errors import UserError, refuse, run_program
from stages.base.files import sha256, write_json
from stages.base.parameters import read_params
from stages.dataset.cohort import (
    FEATURES,
    IMAGES,
    MANIFEST,
    SPLIT,
    leakage,
    open_features,
    open_squares,
    read_cohort,
)
from stages.dataset.predictions import write_predictions
from stages.dataset.used_card import read_used_card
from stages.evaluation.classifier import of_another_model, read_card, read_network
from stages.evaluation.curves import METRICS, write_coverage, write_curves, write_slides
from stages.evaluation.out_of_fold import write_out_of_fold
from stages.evaluation.pictures import (
    attention_picture,
    mistakes_picture,
    no_picture,
    worst_mistakes,
)
from stages.evaluation.readers import print_readers, readers_of_cohort
from stages.evaluation.results import (
    FOLDS_TELL_MORE,
    SITES,
    as_tested,
    headline,
    measure,
    print_results,
    report_sites,
)
from stages.images.sheets import save_png
from stages.measures.decision import read_decision
from stages.measures.parameters import EvaluateParameters
from stages.measures.pseudonyms import read_key
from stages.model.backend import make_deterministic
from stages.model.batches import outputs
from stages.model.file import MODEL
from stages.model.folder import FOLDER


def main() -> None:
    params = read_params("evaluate", EvaluateParameters)
    key = read_key(params.pseudonyms)
    make_deterministic(0)
    decision, made = read_decision(), read_card(FOLDER)
    refuse([*made.of_another(FOLDER), *of_another_model(FOLDER, decision)])
    made.refuse_other_data(MANIFEST, SPLIT)
    folder = read_used_card().folder

    cohort = read_cohort()
    if cohort.has_no_test:
        write_out_of_fold(folder, cohort, decision, params)
        return
    rows = cohort.rows("test")
    paths, slides, y_true = cohort.paths[rows], cohort.slides[rows], cohort.labels[rows]
    model, squares = read_network(FOLDER, made), open_squares()
    given = squares
    if made.embeddings:
        given = open_features()[:, 0]
        if sha256(FEATURES) != made.dataset.features_sha256:
            raise UserError(f"{FEATURES}: {MODEL} was trained on others; run dvc repro")
    if model.input_shape[1:] != given.shape[1:]:
        raise UserError(
            f"{MODEL}: it takes an input of shape {model.input_shape[1:]}; "
            f"{FEATURES if made.embeddings else IMAGES} has {given.shape[1:]}"
        )
    y_score = decision.calibration(outputs(model, given, rows))
    sites, threshold = cohort.sites[rows], decision.threshold
    elsewhere = cohort.sites[cohort.folds > 0]
    tested = as_tested(
        decision, y_true, y_score, slides, sites, unseen=not np.isin(sites, elsewhere).any()
    )
    y_pred = tested.sample.y_pred

    results = measure(tested, decision, params.prevalence)
    seen = cohort.seen_by(ensemble=len(decision.calibration.members) > 1)
    results["leakage"] = leakage(cohort.slides, seen)
    results["corrected_labels"] = int(np.sum(y_true != cohort.published[rows]))
    results |= readers_of_cohort(tested, rows)
    if found := write_slides(y_true, y_score, slides, decision, key):
        results["slide_percentages"] = found._asdict()
    write_json(METRICS / "test.json", headline(results))
    write_json(METRICS / "measures.json", results)
    write_predictions(METRICS / "predictions.csv", cohort, rows, y_score.astype(np.float32), y_pred)
    write_curves(tested, results)
    write_coverage(y_true, y_score, threshold)
    mistakes = worst_mistakes(y_true, y_score, y_pred)
    worst = mistakes_picture(folder, paths, slides, y_score, mistakes, threshold)
    save_png(METRICS / "plots/mistakes.png", worst)
    if made.embeddings:
        looks = no_picture("another tool computed the features: no attention maps")
    else:
        looks = attention_picture(model, squares, rows, paths, y_true, y_score, mistakes)
    save_png(METRICS / "plots/attention.png", looks)
    print_results(results, FOLDS_TELL_MORE)
    report_sites(tested, SITES)
    print_readers(results, "test slides")
    print("see `dvc metrics show` and metrics/plots/; `python -m stages.report HEAD` draws a page")


if __name__ == "__main__":
    run_program(main, __doc__)
