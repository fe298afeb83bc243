"""The evaluation of a model trained on all slides: out of fold, because it has no test set."""

from pathlib import Path

import numpy as np

from stages.base.files import write_json
from stages.dataset.cohort import Cohort
from stages.dataset.predictions import read_validation, write_predictions
from stages.evaluation.curves import METRICS, write_coverage, write_curves, write_slides
from stages.evaluation.pictures import mistakes_picture, no_picture, worst_mistakes
from stages.evaluation.readers import print_readers, readers_of_cohort
from stages.evaluation.results import (
    SITES,
    as_tested,
    headline,
    measure,
    print_results,
    report_sites,
)
from stages.images.sheets import save_png
from stages.measures.decision import Decision
from stages.measures.parameters import EvaluateParameters

NAME = "out_of_fold"


def write_out_of_fold(
    folder: Path, cohort: Cohort, decision: Decision, params: EvaluateParameters
) -> None:
    """Write the files of the stage `evaluate`: measures under `out_of_fold`, the table of sites,
    and the other tables without rows.

    Each glomerulus is predicted by a member that has not seen its slide. But calibration and
    threshold were chosen on these predictions, so the measures at the threshold are slightly
    optimistic; publish those pooled over test folds instead.
    """
    found = read_validation()
    y_true, y_score = found.y_true, decision.calibration.of_members(found.y_score, found.member)
    row = {path: number for number, path in enumerate(cohort.paths.tolist())}
    rows = [row[path] for path in found.paths.tolist()]
    sites, folds = cohort.sites[rows], cohort.folds[rows]
    # A site in one fold only was not seen by the member that predicts it.
    unseen = len({*zip(sites.tolist(), folds.tolist())}) == len({*sites.tolist()})
    tested = as_tested(decision, y_true, y_score, found.slides, sites, folds, unseen)
    results = measure(tested, decision, params.prevalence)
    results["corrected_labels"] = int(np.sum(y_true != cohort.published[rows]))
    results |= readers_of_cohort(tested, np.array(rows))
    write_json(METRICS / "test.json", {NAME: headline(results)})
    write_json(METRICS / "measures.json", {NAME: results})

    nothing = np.array([], dtype=np.int64)
    write_predictions(METRICS / "predictions.csv", cohort, nothing, nothing, nothing)
    write_slides(nothing, nothing, cohort.slides[nothing], decision)
    write_curves(None, {})
    write_coverage(nothing, nothing, decision.threshold)
    mistakes = worst_mistakes(y_true, y_score, decision.is_positive(y_score))
    worst = mistakes_picture(
        folder, found.paths, found.slides, y_score, mistakes, decision.threshold
    )
    save_png(METRICS / "plots/mistakes.png", worst)
    save_png(METRICS / "plots/attention.png", no_picture("no test set: trained on all slides"))
    print("no test set; out of fold, each crop by a member that has not seen its slide:")
    print_results(results)
    report_sites(tested, SITES)
    print_readers(results, "out of fold")
