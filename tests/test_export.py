"""An exported model gives the probabilities of predict in a program that knows nothing of it."""

import json
import re
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from stages import export
from stages.base.errors import UserError
from stages.base.files import read_json, sha256, write_json
from stages.evaluation import exporting
from stages.evaluation.classifier import read_classifier
from stages.measures.calibration import Calibration, Map
from stages.measures.recalibration import Shift
from stages.model.backend import keras
from stages.model.file import save_model
from stages.model.networks import mean_of_orientations, side_by_side
from tests.evaluation.classifiers import write_beside
from tests.model.test_networks import build
from tests.repositories import PROJECT

SIZE = 16
ONNX = pytest.mark.skipif(
    not (find_spec("onnxruntime") and find_spec("tf2onnx")),
    reason="pip install -r requirements-export.txt",
)
LINE = {"slope": 2.5, "offset": -0.7}
STEPS = {"points": [(0.1, 0.0), (0.4, 0.3), (0.45, 0.9), (0.9, 1.0)]}


@pytest.mark.parametrize(
    ("method", "members", "local"),
    [
        ("none", [{}], None),
        ("temperature", [{"slope": 1.7}], None),
        ("sigmoid", [LINE, {"slope": 0.4, "offset": 2.0}], None),
        ("isotonic", [STEPS, {"points": [(0.5, 0.25)]}], None),
        ("sigmoid", [LINE], {"slope": 1.4, "offset": -9.0}),
        ("none", [{}], {"slope": 1.0, "offset": 60.0}),
    ],
)
def test_the_calibration_of_a_graph_is_that_of_predict(method, members, local):
    calibration = Calibration(
        method=method,
        members=[Map(**one) for one in members],
        local=None if local is None else Shift(**local),
    )
    extremes = [0, 1e-38, 1e-30, 1e-8, 1e-7, 0.1, 0.25, 0.4, 0.9, 1 - 2e-7, 1 - 6e-8, 1]
    scores = np.concatenate([extremes, np.linspace(0, 1, 101)]).astype(np.float32)
    scores = np.stack([scores, scores[::-1]], axis=1)[:, : len(members)]
    found = exporting.calibrated(keras.ops.convert_to_tensor(scores), calibration)
    assert found.dtype == "float32"
    assert found.numpy() == pytest.approx(calibration(scores), rel=1e-6, abs=1e-12)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """The folder of an ensemble that takes the mean over orientations, calibrated."""
    folder = tmp_path_factory.mktemp("model")
    members = [build("conv1-dense1", size=SIZE), build("logistic", size=SIZE)]
    ensemble = side_by_side(members, "ensemble")
    save_model(mean_of_orientations(ensemble, 2), folder / "model.keras")
    write_beside(folder, step="conv1-dense1", size=SIZE)
    decision = read_json(folder / "calibration.json")
    lines = [LINE | {"points": []}, {"slope": 0.4, "offset": 2.0, "points": []}]
    decision["calibration"] |= {"method": "sigmoid", "members": lines}
    write_json(folder / "calibration.json", decision)
    return folder


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["export", *map(str, arguments)])
    export.main()


def example(word):
    """The example on the page of the API that runs an export with a library."""
    page = (PROJECT / "docs/api.md").read_text()
    (code,) = [
        one for one in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL) if word in one
    ]
    return code


@pytest.mark.parametrize(
    ("form", "library"),
    [
        ("savedmodel", "tensorflow"),
        pytest.param("onnx", "onnxruntime", marks=ONNX),
    ],
)
@pytest.mark.slow
def test_an_export_predicts_other_crops_elsewhere(
    form, library, model_folder, tmp_path, monkeypatch, capsys
):
    output = tmp_path / "exported"
    run(monkeypatch, "--format", form, model_folder, output)
    said = capsys.readouterr().out
    assert re.match(
        r"32 drawn crops, probabilities from [\d.e-]+ to [\d.e-]+: they differ by", said
    )
    assert {path.name for path in output.iterdir()} == {
        exporting.file_of(form),
        "check.npz",
        "decision.json",
        "model.json",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["exported"]
    assert sha256(output / "model.json") == sha256(model_folder / "model.json")
    decision = json.loads((output / "decision.json").read_text())
    assert decision["threshold"] == 0.5 and decision["uncertain"] == {"low": 0.4, "high": 0.6}
    assert decision["input"] == {"name": "crops", "size": SIZE, "padding": "white"}

    check = np.load(output / "check.npz")["crops"]
    assert check.shape == (32, SIZE, SIZE, 3) and check.dtype == np.uint8
    assert len(np.unique(check.reshape(32, -1), axis=0)) == 32

    crops = np.random.default_rng(1).integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)
    crops //= np.arange(1, 6, dtype=np.uint8)[:, None, None, None]
    np.save(tmp_path / "crops.npy", crops)
    code = f"import numpy\ncrops = numpy.load('crops.npy')\n{example(library)}"
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"{code}\nprint(probability.tolist())"],
        cwd=tmp_path,
        env={},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    classifier = read_classifier(model_folder)
    scores = classifier.model.predict_on_batch(crops)
    expected = classifier.decision.calibration(np.asarray(scores))
    assert np.ptp(expected) > 0.01
    assert json.loads(done.stdout) == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_an_export_that_differs_leaves_nothing(model_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(UserError, match="savedmodel: its probabilities differ from those of"):
        run(monkeypatch, "--format", "savedmodel", model_folder, tmp_path / "exported")
    assert list(tmp_path.iterdir()) == []


@ONNX
def test_a_model_that_does_not_run_is_one_line(tmp_path):
    np.savez(tmp_path / "check.npz", crops=[0], probability=[0])
    with pytest.raises(UserError, match="^it does not run: .*NO_SUCHFILE"):
        exporting.largest_difference("onnx", tmp_path / "none", tmp_path / "check.npz")


def test_an_output_that_exists_is_refused(model_folder, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="already exists; name a new folder"):
        run(monkeypatch, "--format", "savedmodel", model_folder, tmp_path)


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(exporting, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="tf2onnx, onnxruntime not installed; pip install -r req"):
        exporting.refuse_missing("onnx")
    exporting.refuse_missing("savedmodel")
