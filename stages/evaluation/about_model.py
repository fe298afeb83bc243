"""What is said of a model wherever it is used: which one it is, and how good it was."""

from pathlib import Path

from stages.dataset.seen import LEARNED_FROM
from stages.evaluation.classifier import Classifier


def about_model(folder: Path, classifier: Classifier) -> str:
    """Return a line that says which model is in a folder, with its rates on validation.

    The hash is that of model.json, which holds those of the other files.
    """
    made, decision = classifier.made, classifier.decision
    crops = sum(split in LEARNED_FROM for split in classifier.seen.splits.values())
    slides = made.dataset.trained_slides
    of_slides = "" if slides is None else f" of {slides:,} slides"
    rates = " and ".join(
        f"{name} {rate:.3f}"
        for name in ("sensitivity", "specificity")
        if (rate := getattr(decision.validation, name)) is not None
    )
    line = (
        f"{folder} ({decision.model_sha256[:8]}): {made.step}, trained on {crops:,} crops"
        f"{of_slides} of {made.dataset.name}; threshold {decision.threshold:.3f}"
    )
    if rates:
        line += f", with {rates} on its validation slides"
    return line + ("; recalibrated for another site" if made.recalibrated is not None else "")


def about_device() -> str:
    """Return a line that says what the model computes on."""
    from stages.model.device import describe_device

    return describe_device()
