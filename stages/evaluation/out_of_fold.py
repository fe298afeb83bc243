"""What is said of a model of all slides, which has no test set: how its members judged the fold
that each has not seen.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from stages.base.files import write_json, write_table
from stages.dataset.cohort import Cohort
from stages.dataset.predictions import VALIDATION, read_predictions, write_predictions
from stages.evaluation.curves import METRICS, write_curves, write_slides
from stages.evaluation.pictures import mistakes_picture, worst_mistakes
from stages.evaluation.results import certain, deciding, measure, say
from stages.images.sheets import contact_sheet, save_png
from stages.measures.decision import Decision
from stages.measures.parameters import EvaluateParameters

NAME = "out_of_fold"


def write_out_of_fold(
    folder: Path, cohort: Cohort, decision: Decision, params: EvaluateParameters
) -> None:
    """Write the files of the stage `evaluate`: measures under `out_of_fold`, and headers alone
    where a test set would stand.

    Each glomerulus was judged by a member that has not seen its slide; but calibration and
    threshold were chosen on these very judgements, so that the measures at the threshold are a
    little too good. Those by folds are the ones to publish.
    """
    found = read_predictions(VALIDATION)
    y_true, y_score = found.y_true, decision.calibration(found.y_score)
    y_pred = (y_score >= decision.threshold).astype(np.int64)
    results = measure(
        y_true, y_score, decision.threshold, found.slides, params.bootstrap, params.seed
    )
    results["corrected_labels"] = int(np.sum(cohort.labels != cohort.published))
    results["certain"] = certain(y_true, y_score, decision.threshold, decision.uncertain)
    write_json(METRICS / "test.json", {NAME: deciding(results)})
    write_json(METRICS / "measures.json", {NAME: results})

    nothing = np.array([], dtype=np.int64)
    write_predictions(METRICS / "predictions.csv", cohort, nothing, nothing, nothing)
    write_slides(nothing, nothing, cohort.slides[nothing])
    write_curves(nothing, nothing, decision.threshold)
    write_table(METRICS / "plots/coverage.csv", ("coverage", "wrong"), [])
    mistakes = worst_mistakes(y_true, y_score, y_pred)
    worst = mistakes_picture(
        folder, found.paths, found.slides, y_score, mistakes, decision.threshold
    )
    save_png(METRICS / "plots/mistakes.png", worst)
    note = contact_sheet(
        [Image.new("RGB", (1, 1), "white")], ["no test set: trained on all slides"], columns=1
    )
    save_png(METRICS / "plots/attention.png", note)
    print("no test set; out of fold, of members that had not seen the slide:")
    say(results)
