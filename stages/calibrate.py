"""Write what prediction needs besides the model: models/calibration.json and models/novelty.npz.

Calibration, operating threshold and uncertain band come from the predictions on the validation
slides, never from test; the novelty reference comes from the features of the training crops. The
stage is separate from `train`, so another threshold rule does not retrain the model.
"""

import numpy as np

from stages.base.errors import refuse, run_program
from stages.base.files import read_json_as, sha256, write_json
from stages.base.parameters import read_params
from stages.dataset.cohort import FEATURES, MANIFEST, SPLIT, open_features, read_cohort
from stages.dataset.predictions import VALIDATION, read_predictions
from stages.measures.calibration import fit_calibration, log_odds
from stages.measures.decision import (
    CALIBRATION,
    Decision,
    Rates,
    choose_threshold,
    is_positive,
    uncertain_band,
)
from stages.measures.novelty import NoveltyReference, empty_reference, fit_novelty
from stages.measures.parameters import CalibrateParameters
from stages.measures.percentages import slide_deviation
from stages.measures.scores import confusion, rates
from stages.model.folder import CARD, FOLDER, Trained


def main() -> None:
    params = read_params("calibrate", CalibrateParameters)
    decision, reference = decide(params), novelty_reference()
    calibration = decision.calibration.model_dump(exclude_defaults=True)
    write_json(CALIBRATION, decision.model_dump() | {"calibration": calibration})
    reference.save()
    rates_text = ", ".join(
        f"{name} {value:.3f}" for name, value in decision.validation if value is not None
    )
    chosen = f"threshold {decision.threshold:.4f} ({decision.threshold_rule})"
    print(f"{chosen}: on validation {rates_text}")


def decide(params: CalibrateParameters) -> Decision:
    """Return the calibration, threshold and band fitted on the validation predictions."""
    trained = read_json_as(FOLDER / CARD, Trained)
    refuse(trained.of_another(FOLDER, [VALIDATION.name]))
    _, slides, y_true, probability = read_predictions(VALIDATION)
    calibration = fit_calibration(y_true, probability, params.method)
    y_score = calibration(probability)
    rule, target = params.threshold_rule, params.target_sensitivity
    threshold = choose_threshold(y_true, y_score, rule, target)
    measured = rates(*confusion(y_true, is_positive(y_score, threshold)))
    return Decision(
        threshold=threshold,
        threshold_rule=rule,
        target_sensitivity=target if rule == "sensitivity" else None,
        uncertain=uncertain_band(y_true, y_score, threshold, params.max_error_rate),
        calibration=calibration,
        validation=Rates(sensitivity=measured["sensitivity"], specificity=measured["specificity"]),
        model_sha256=sha256(FOLDER / CARD),
        slide_deviation=slide_deviation(y_true, log_odds(y_score), slides),
    )


def novelty_reference() -> NoveltyReference:
    """Return the novelty reference of the training crops; empty without frozen features."""
    features, cohort = open_features(), read_cohort()
    if features.shape[-1] > 0:
        rows = np.flatnonzero(cohort.folds > 0)
        upright = np.stack([features[row, 0] for row in rows])
        reference, digest = fit_novelty(upright, cohort.folds[rows]), sha256(FEATURES)
    else:
        reference, digest = empty_reference(), ""
    reference.made_from = (sha256(MANIFEST), sha256(SPLIT), digest)
    return reference


if __name__ == "__main__":
    run_program(main, __doc__)
