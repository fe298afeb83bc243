"""A classifier as a graph of TensorFlow, from squares to the calibrated probability.

The calibration is computed in 64 bits, as by stages/measures/calibration.py. TensorFlow takes
seconds to import, so functions import it.
"""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, assert_never

import numpy as np

from stages.base.arithmetic import FIXED, SETTINGS
from stages.base.errors import UserError
from stages.evaluation.classifier import Classifier
from stages.measures.calibration import LEAST, LIMIT, Calibration, Map

if TYPE_CHECKING:
    import tensorflow as tf

Format = Literal["savedmodel", "onnx"]
INPUT, OUTPUT = "crops", "probability"
OPSET = "18"
# The largest difference of a probability that is accepted, as onnxruntime has other kernels.
TOLERANCE = 1e-5

# How another program runs an export, without Keras and without this project.
RUN = {
    "savedmodel": f"""
import sys, numpy, tensorflow
model = tensorflow.saved_model.load(sys.argv[1]).signatures["serving_default"]
run = lambda crops: model({INPUT}=tensorflow.constant(crops))["{OUTPUT}"].numpy()
""",
    "onnx": f"""
import sys, numpy, onnxruntime
model = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
run = lambda crops: model.run(["{OUTPUT}"], {{"{INPUT}": crops}})[0]
""",
}
COMPARE = f"""
check = numpy.load(sys.argv[2])
crops, expected = check["{INPUT}"], check["{OUTPUT}"]
whole, parts = run(crops), numpy.concatenate([run(crops[:1]), run(crops[1:])])
assert whole.dtype == numpy.float32 and whole.shape == parts.shape == expected.shape
print(float(numpy.abs(numpy.stack([whole, parts]) - expected).max()))
"""


def file_of(form: Format) -> str:
    """Return the name of the exported model in its folder."""
    match form:
        case "savedmodel":
            return "savedmodel"
        case "onnx":
            return "model.onnx"
        case _:
            assert_never(form)


def refuse_missing(form: Format) -> None:
    """Raise `UserError` if packages that a format needs are not installed."""
    needed = ("tf2onnx", "onnxruntime") if form == "onnx" else ()
    if missing := [name for name in needed if find_spec(name) is None]:
        raise UserError(
            f"--format {form}: {', '.join(missing)} not installed; "
            "pip install -r requirements-export.txt"
        )


def write_export(classifier: Classifier, form: Format, path: Path) -> None:
    """Write a classifier in a format; `path` is named by `file_of`.

    Raises:
        UserError: Keras does not run on TensorFlow, or the model cannot be converted.
    """
    match form:
        case "savedmodel":
            _write_saved_model(classifier, path)
        case "onnx":
            saved = path.with_name("savedmodel.part")
            _write_saved_model(classifier, saved)
            command = [sys.executable, "-m", "tf2onnx.convert", "--saved-model", str(saved)]
            command += ["--signature_def", "serving_default", "--tag", "serve"]
            _run([*command, "--opset", OPSET, "--output", str(path)], "it does not convert to ONNX")
            shutil.rmtree(saved)
        case _:
            assert_never(form)


def _write_saved_model(classifier: Classifier, path: Path) -> None:
    from stages.model.backend import keras

    if keras.backend.backend() != "tensorflow":
        raise UserError(f"KERAS_BACKEND is {keras.backend.backend()}; export needs tensorflow")
    import tensorflow as tf

    size, calibration = classifier.made.size, classifier.decision.calibration

    def serve(crops: Any) -> dict[str, Any]:
        return {OUTPUT: calibrated(classifier.model(crops, training=False), calibration)}

    served = tf.Module()
    served.model = classifier.model  # Its variables are saved.
    crops = tf.TensorSpec((None, size, size, 3), tf.uint8, INPUT)
    served.serve = tf.function(serve, input_signature=[crops], autograph=False)
    tf.saved_model.save(served, str(path), signatures=served.serve)


def calibrated(scores: "tf.Tensor", calibration: Calibration) -> "tf.Tensor":
    """Return what `calibration` does, float32 (n,), from probabilities of members, (n, members)."""
    import tensorflow as tf

    scores = tf.cast(scores, tf.float64)
    columns = [_mapped(scores[:, place], one) for place, one in enumerate(calibration.members)]
    mean = tf.add_n(columns) / len(columns)
    if (local := calibration.local) is not None:
        mean = tf.sigmoid(local.slope * _log_odds(mean, LEAST, 1 - LIMIT / 2) + local.offset)
    return tf.cast(mean, tf.float32)


def _mapped(score: "tf.Tensor", one: Map) -> "tf.Tensor":
    import tensorflow as tf

    if one.points:
        x, y = np.array(one.points).T
        widths = np.diff(x)
        risen = tf.clip_by_value(score[:, None] - x[:-1], 0.0, widths)
        return y[0] + tf.reduce_sum(risen * (np.diff(y) / widths), axis=1)
    if (one.slope, one.offset) == (1.0, 0.0):
        return score
    return tf.sigmoid(one.slope * _log_odds(score, LIMIT, 1 - LIMIT) + one.offset)


def _log_odds(score: "tf.Tensor", low: float, high: float) -> "tf.Tensor":
    import tensorflow as tf

    clipped = tf.clip_by_value(score, low, high)
    return tf.math.log(clipped / (1 - clipped))


def largest_difference(form: Format, path: Path, check: Path) -> float:
    """Return how far an export is from the probabilities in check.npz, at most.

    It runs in a Python without this project, on all crops at once and on a single one.

    Raises:
        UserError: it does not run.
    """
    said = _run(
        [sys.executable, "-I", "-c", RUN[form] + COMPARE, str(path), str(check)], "it does not run"
    )
    return float(said)


def _run(command: list[str], failed: str) -> str:
    # Without the variables that fix the arithmetic, as in another program.
    environment = {name: text for name, text in os.environ.items() if name not in SETTINGS}
    environment.pop(FIXED, None)
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise UserError(f"{failed}: {lines[-1][:300]}")
    return done.stdout.strip()
