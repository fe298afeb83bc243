"""Write a trained model for other programs: TensorFlow's SavedModel, or ONNX.

    python -m stages.export --format onnx models exported
    python -m stages.export --format savedmodel published/aidpath exported

The exported model takes square crops, uint8 (n, size, size, 3), and gives the calibrated
probability of global sclerosis, float32 (n,). It contains the normalization of pixels, the mean
over orientations and over the members of an ensemble, and the calibration. It does not contain
what makes crops square (docs/api.md), and no novelty.

Before anything gets its final name, the exported model runs in a Python without this project, on
drawn crops, whose probabilities must be within 0.00001 of those of `predict`. OUTPUT holds the
model, decision.json (the threshold and the uncertain band), model.json and check.npz (these crops
and probabilities, to check it on another machine).
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any, get_args

import numpy as np

from stages.base.arguments import argument_parser
from stages.base.errors import UserError, run_program, warn
from stages.base.files import write_json
from stages.evaluation.arguments import add_network_arguments
from stages.evaluation.classifier import BATCH, Classifier, read_classifier, warn_if_drawn
from stages.evaluation.exporting import (
    INPUT,
    OUTPUT,
    TOLERANCE,
    Format,
    file_of,
    largest_difference,
    refuse_missing,
    write_export,
)
from stages.model.folder import CARD
from stages.synthetic.stains import make_slide
from stages.synthetic.tissue import draw_glomerulus, make_tuft

# A calibration that is wrong in the middle shows only on crops with such probabilities.
LEAST_RANGE = 0.2


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("model", type=Path, help="the folder of the model, such as models")
    parser.add_argument("output", type=Path, help="a folder that does not exist yet")
    parser.add_argument("--format", choices=get_args(Format), required=True)
    add_network_arguments(parser)
    arguments = parser.parse_args()
    model, output, form = arguments.model, arguments.output, arguments.format
    if output.exists():
        raise UserError(f"{output} already exists; name a new folder")
    refuse_missing(form)
    classifier = read_classifier(model, arguments.weights, allow_drawn=arguments.allow_drawn)
    warn_if_drawn(classifier.made)
    crops = check_crops(classifier)
    expected = probabilities(classifier, crops)
    low, high = float(expected.min()), float(expected.max())
    if high - low < LEAST_RANGE:
        warn(f"the drawn crops have probabilities from {low:.3g} to {high:.3g} only")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=output.parent) as place:
        made = Path(place) / "made"
        made.mkdir()
        arrays: dict[str, Any] = {INPUT: crops, OUTPUT: expected}
        np.savez(made / "check.npz", **arrays)
        shutil.copyfile(model / CARD, made / CARD)
        write_json(made / "decision.json", describe(classifier))
        write_export(classifier, form, made / file_of(form))
        difference = largest_difference(form, made / file_of(form), made / "check.npz")
        if not difference <= TOLERANCE:
            raise UserError(
                f"{form}: its probabilities differ from those of {model} by up to "
                f"{difference:.2g}; at most {TOLERANCE:g} is accepted, and nothing is written"
            )
        made.rename(output)
    print(
        f"{len(crops)} drawn crops, probabilities from {low:.3g} to {high:.3g}: they differ by at "
        f"most {difference:.2g}: {output / file_of(form)}"
    )


def check_crops(classifier: Classifier) -> np.ndarray:
    """Return drawn squares, none of a patient: glomeruli, darker and noisier ones, and extremes.

    uint8 (BATCH, size, size, 3).
    """
    size = classifier.made.size
    random = np.random.default_rng(0)
    noises = random.integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    grays = [np.full((size, size, 3), gray, dtype=np.uint8) for gray in (0, 64, 128, 192, 255)]
    squares = [*noises, *grays]
    while len(squares) < BATCH:
        slide = make_slide(random, random, "drawn")
        square = classifier.made.square(draw_glomerulus(random, slide, make_tuft(random)[0]))
        noisy = [(1 - share) * square + share * noises[0] for share in (0.3, 0.6)]
        squares += [square, square // 2, *(one.astype(np.uint8) for one in noisy)]
    return np.stack(squares)


def probabilities(classifier: Classifier, squares: np.ndarray) -> np.ndarray:
    """Return the calibrated probabilities of BATCH squares as `predict` gives them, float32."""
    scores = np.asarray(classifier.model.predict_on_batch(squares))
    return classifier.decision.calibration(scores).astype(np.float32)


def describe(classifier: Classifier) -> dict:
    """Return how to feed an exported model and how to decide by its output."""
    made, decision = classifier.made, classifier.decision
    return {
        "input": {"name": INPUT, "size": made.size, "padding": made.padding},
        "output": {"name": OUTPUT, "calibrated": True},
        "classes": made.class_names,
        "threshold": decision.threshold,
        "uncertain": decision.uncertain.model_dump(),
    }


if __name__ == "__main__":
    run_program(main)
