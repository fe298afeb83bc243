"""Calibrate and choose the operating threshold on validation, never on test: models/validation.csv
-> models/threshold.json.

The stage is apart from `train` so that another rule or target takes a second and trains nothing.
"""

from stages.base.errors import refuse, run_program
from stages.base.files import read_json_as, sha256, write_json
from stages.base.parameters import read_params
from stages.dataset.predictions import VALIDATION, read_predictions
from stages.measures.calibration import fit_calibration
from stages.measures.decision import THRESHOLD, Decision, Rates, choose_threshold, uncertain_band
from stages.measures.parameters import EvaluateParameters
from stages.measures.scores import confusion, rates
from stages.model.folder import CARD, FOLDER, Trained


def main() -> None:
    params = read_params("evaluate", EvaluateParameters)
    trained = read_json_as(FOLDER / CARD, Trained)
    refuse(trained.of_another(FOLDER, [VALIDATION.name]))
    _, _, y_true, probability = read_predictions(VALIDATION)
    calibration = fit_calibration(y_true, probability, params.calibration)
    y_score = calibration(probability)
    threshold = choose_threshold(y_true, y_score, params.threshold, params.target)
    band = uncertain_band(y_true, y_score, threshold, params.uncertain)
    measured = rates(*confusion(y_true, y_score >= threshold))
    decision = Decision(
        threshold=threshold,
        rule=params.threshold,
        target=params.target if params.threshold == "sensitivity" else None,
        uncertain=band,
        calibration=calibration,
        validation=Rates(sensitivity=measured["sensitivity"], specificity=measured["specificity"]),
        model_sha256=sha256(FOLDER / CARD),
    )
    written = decision.model_dump()
    write_json(THRESHOLD, written | {"calibration": calibration.model_dump(exclude_defaults=True)})
    on_validation = ", ".join(
        f"{name} {measured[name]:.3f}" for name in ("sensitivity", "specificity")
    )
    print(f"threshold {threshold:.4f} ({params.threshold}): on validation {on_validation}")


if __name__ == "__main__":
    run_program(main, __doc__)
