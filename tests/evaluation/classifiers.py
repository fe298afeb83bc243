"""The other files of a model's folder, made up."""

from stages.base.files import sha256, write_json
from stages.dataset.seen import write_crops
from stages.evaluation.classifier import ModelCard
from stages.measures.decision import Decision, Rates
from stages.measures.novelty import empty_reference
from stages.model.folder import FORMAT_VERSION, digests

DIGEST = 64 * "0"
CLASSES = {
    name: {"crops": crops, "slides": 10, "effective": 20.0, "median": median, "spread": 1.5}
    for name, crops, median in (("negative", 150, -4.0), ("positive", 50, 3.0))
}


def a_card(card, **changes):
    dataset = {
        "name": "t",
        "manifest_sha256": DIGEST,
        "split_sha256": DIGEST,
        "features_sha256": None,
        "card": card,
    }
    fields = {
        "format_version": FORMAT_VERSION,
        "step": "logistic",
        "padding": "white",
        "size": 16,
        "classes": ["a", "b"],
        "dataset": dataset,
        "files_sha256": {},
    }
    return ModelCard.model_validate(fields | changes)


def a_decision(**changes):
    fields = {
        "threshold": 0.5,
        "threshold_interval": None,
        "threshold_rule": "fixed",
        "target_sensitivity": None,
        "uncertain": {"low": 0.4, "high": 0.6},
        "calibration": {"method": "none", "members": [{}]},
        "max_error_rate": 0.05,
        "errors": {name: {"at_most": 0.05, "extrapolated": False} for name in CLASSES},
        "validation": {name: 1.0 for name in Rates.model_fields},
        "classes": CLASSES,
        "prevalence": 0.25,
        "model_sha256": DIGEST,
        "slide_shift": {"mean": 0.0, "deviation": 1.0},
    }
    return Decision.model_validate(fields | changes)


def write_beside(folder, card=None, **changes):
    """Write the other files to a folder that has model.keras, for a model without features.

    Args:
        card: further fields of the dataset's card.
        changes: of model.json.
    """
    (folder / "validation.csv").write_text("path,slide,label,probability\n")
    write_crops([], [], folder / "crops.csv")
    written = digests(folder)
    made = a_card({"title": "Crops"} | (card or {}), files_sha256=written, **changes)
    write_json(folder / "model.json", made.model_dump())
    write_json(
        folder / "calibration.json",
        a_decision(model_sha256=sha256(folder / "model.json")).model_dump(),
    )
    reference = empty_reference()
    reference.made_from = made.dataset.made_from
    reference.save(folder / "novelty.npz")
