"""Write what prediction needs besides the model: models/calibration.json and models/novelty.npz.

Calibration, operating threshold and uncertain band come from the predictions on the validation
slides, never from test; the novelty reference comes from the features of the training crops. The
stage is separate from `train`, so another threshold rule does not retrain the model.
"""

import sys

import numpy as np

from stages.base.errors import UserError, refuse, run_program
from stages.base.files import sha256, write_json
from stages.base.parameters import read_params
from stages.dataset.cohort import FEATURES, MANIFEST, SPLIT, open_features, read_cohort
from stages.dataset.predictions import VALIDATION, read_validation
from stages.measures.band import fit_band
from stages.measures.calibration import fit_calibration, log_odds
from stages.measures.classes import Classes, ClassScores, describe_class
from stages.measures.decision import (
    CALIBRATION,
    Bound,
    Bounds,
    Decision,
    Interval,
    measure_rates,
)
from stages.measures.novelty import NoveltyReference, empty_reference, fit_novelty
from stages.measures.parameters import CalibrateParameters
from stages.measures.percentages import fit_slide_shift
from stages.measures.threshold import choose_threshold, threshold_interval
from stages.model.folder import CARD, FOLDER, Trained, read_model_json


def main() -> None:
    params = read_params("calibrate", CalibrateParameters)
    decision, reference = decide(params), novelty_reference()
    calibration = decision.calibration.model_dump(exclude_defaults=True)
    write_json(CALIBRATION, decision.model_dump() | {"calibration": calibration})
    reference.save()
    print_decision(decision)


def print_decision(decision: Decision) -> None:
    """Print the operating point; warn where the validation crops are too few for the band."""
    found, on = decision.threshold_interval, decision.validation
    span = f", 95 % interval {found.low:.4f} to {found.high:.4f}" if found else ""
    print(f"threshold {decision.threshold:.4f} ({decision.threshold_rule}{span})")
    print(f"on validation: {rates_text(on.sensitivity, on.specificity)}")
    decided = rates_text(on.decided_sensitivity, on.decided_specificity)
    print(f"decided there: {on.coverage:.3f} of the crops; of these {decided}")
    for name, bound in decision.errors:
        known: ClassScores = getattr(decision.classes, name)
        if bound.extrapolated:
            most = "" if bound.at_most is None else f": up to {bound.at_most:.2f} could be"
            print(
                f"warning: {known.crops} {name} validation crops of {known.slides} slides are too "
                f"few to show that at most {decision.max_error_rate} of such crops are decided "
                f"wrongly{most}; the uncertain band is extrapolated from them",
                file=sys.stderr,
            )


def rates_text(*rates: float | None) -> str:
    """Return a sensitivity and a specificity as text."""
    names = ("sensitivity", "specificity")
    texts = ["not defined" if rate is None else f"{rate:.3f}" for rate in rates]
    return ", ".join(f"{name} {text}" for name, text in zip(names, texts))


def decide(params: CalibrateParameters) -> Decision:
    """Return the calibration, threshold and band fitted on the validation predictions."""
    trained = read_model_json(FOLDER, Trained)
    refuse(trained.of_another(FOLDER, [VALIDATION.name]))
    _, slides, y_true, probability, member = read_validation()
    calibration = fit_calibration(y_true, probability, params.method, member)
    if params.method == "none" and len(calibration.members) > 1:
        print(
            "warning: calibrate.method is none: the mean of the members' probabilities may differ "
            "from those of single members, on which the threshold rests; sigmoid calibrates each "
            "member on the fold that it has not seen",
            file=sys.stderr,
        )
    y_score = calibration.of_members(probability, member)
    rule, target = params.threshold_rule, params.target_sensitivity
    try:
        threshold = choose_threshold(y_true, y_score, rule, target, slides)
    except ValueError as error:
        raise UserError(f"params.yaml: calibrate.threshold_rule: {error}") from None
    interval = threshold_interval(y_true, y_score, threshold, rule, slides)
    band, sides = fit_band(y_true, y_score, slides, threshold, params.max_error_rate)
    odds, of_class = log_odds(y_score), [y_true == label for label in (0, 1)]
    negative, positive = (describe_class(odds[rows], slides[rows]) for rows in of_class)
    return Decision(
        threshold=threshold,
        threshold_interval=Interval(low=interval[0], high=interval[1]) if interval else None,
        threshold_rule=rule,
        target_sensitivity=target if rule.endswith("sensitivity") else None,
        uncertain=band,
        max_error_rate=params.max_error_rate,
        errors=Bounds(
            **{
                name: Bound(at_most=side.bound, extrapolated=side.extrapolated)
                for name, side in sides.items()
            }
        ),
        calibration=calibration,
        validation=measure_rates(y_true, y_score, threshold, band),
        classes=Classes(negative=negative, positive=positive),
        prevalence=float(np.mean(y_true)),
        model_sha256=sha256(FOLDER / CARD),
        slide_shift=fit_slide_shift(y_true, odds, slides),
    )


def novelty_reference() -> NoveltyReference:
    """Return the novelty reference of the training crops; empty without frozen features."""
    features, cohort = open_features(), read_cohort()
    if features.shape[-1] > 0:
        rows = np.flatnonzero(cohort.folds > 0)
        upright = np.stack([features[row, 0] for row in rows])
        reference, digest = fit_novelty(upright, cohort.slides[rows]), sha256(FEATURES)
    else:
        reference, digest = empty_reference(), ""
    reference.made_from = (sha256(MANIFEST), sha256(SPLIT), digest)
    return reference


if __name__ == "__main__":
    run_program(main, __doc__)
