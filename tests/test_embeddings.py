"""A model on features that another tool computed: through the pipeline, and on other crops."""

import csv
import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

import glomeruli
from stages.base.errors import UserError
from stages.base.files import sha256
from stages.base.parameters import read_params
from stages.model.file import load_model
from stages.model.steps import ModelParameters
from tests.repositories import dvc, make_another_laboratory, run_program, set_params, stages_run

OURS = Path("data/weights/ours")


def write_features(file, folder):
    """What another tool would write: 48 numbers of each crop of a folder, named by their paths."""
    crops = sorted(folder.rglob("*.png"), reverse=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(file, "w") as content:
        content["names"] = [crop.relative_to(folder).as_posix() for crop in crops]
        content["features"] = np.stack(
            [
                np.asarray(Image.open(crop).convert("RGB").resize((4, 4)), dtype=np.float32).ravel()
                for crop in crops
            ]
        )
    return file


def table(path):
    return list(csv.DictReader(Path(path).read_text(encoding="utf-8").splitlines()))


def of_embeddings(**changes):
    of_model = {"model.step": "embeddings", "model.weights": "ours"}
    of_tree = {"train.ensemble": True, "calibrate.method": "sigmoid", "external": ["theirs"]}
    set_params(of_model | of_tree | changes)


def test_features_of_another_tool_are_trained_on_measured_and_predicted_with(repository, tmp_path):
    theirs = make_another_laboratory()
    write_features(OURS / "demo.h5", Path("data/demo"))
    file = write_features(OURS / "theirs.h5", theirs)
    of_embeddings()
    ran = stages_run(dvc("repro"))
    expected = ["feature_settings", "features", "train", "calibrate", "evaluate", "model_card"]
    assert sorted(ran) == sorted([*expected, "external@theirs"])
    made = json.loads(Path("models/model.json").read_text())
    assert made["embeddings"].items() >= {"weights": "ours", "length": 48}.items()
    assert "backbone" not in made
    assert "It takes 48 features" in Path("models/README.md").read_text()

    # By hand: the features of a row of the file, the saved head, and the calibration.
    with h5py.File(file) as content:
        rows = dict(zip(content["names"].asstr()[:], content["features"][:]))
    arguments = "--model", "models", "--embeddings", file, "--html", "page.html"
    code, _, error = run_program("predict", theirs, *arguments)
    assert code == 0, error
    predictions = {row["name"]: float(row["probability"]) for row in table("evaluation.csv")}
    head = load_model("models/model.keras")
    scores = np.concatenate(head.predict(np.stack(list(rows.values())), verbose=0), axis=-1)
    found = np.array([predictions[name] for name in rows])
    assert np.corrcoef(scores.reshape(len(rows), -1).mean(axis=1), found)[0, 1] > 0.9
    measured = {row["path"]: row for row in table("metrics/external/theirs.csv")}
    assert len(measured) == len(predictions)
    for path, row in measured.items():
        assert float(row["probability"]) == pytest.approx(predictions[path], abs=1e-6)
    assert all(0 <= float(row["novelty"]) <= 1 for row in table("evaluation.csv"))

    # The crops of the test set get the probabilities that `evaluate` measures.
    run_program("predict", "data/demo", "--embeddings", OURS / "demo.h5")
    predictions = {row["name"]: float(row["probability"]) for row in table("evaluation.csv")}
    for row in table("metrics/predictions.csv"):
        assert float(row["probability"]) == pytest.approx(predictions[row["path"]], abs=1e-6)

    labels = tmp_path / "labels.csv"
    ranked = sorted(measured, key=lambda path: float(measured[path]["probability"]))
    chosen = [(path, 0) for path in ranked[:6]] + [(path, 1) for path in ranked[-6:]]
    labels.write_text("name,label\n" + "".join(f"{path},{label}\n" for path, label in chosen))
    recalibrate = "recalibrate", theirs, "--labels", labels, "--output", tmp_path / "moved"
    code, _, error = run_program(*recalibrate, "--embeddings", file)
    assert code == 0, error
    shutil.rmtree(tmp_path / "moved")

    # What needs pixels gets one line.
    for program in (
        ("predict", theirs),
        recalibrate,
        ("export", "models", tmp_path / "out", "--format", "savedmodel"),
    ):
        code, _, error = run_program(*program)
        assert code == 1 and "models: this model takes 48 features that another tool" in error
    with pytest.raises(glomeruli.Error, match="takes 48 features"):
        glomeruli.load("models")
    code, _, error = run_program("predict", theirs, "--embeddings", OURS / "demo.h5")
    assert code == 0, error  # The same names; no file says whose pixels it was made of.
    code, _, error = run_program("predict", theirs, "--embeddings", file, "--output", file)
    assert code == 1 and "would write over" in error

    # Other features under the same name are another input, and a file that lacks a crop is none.
    with h5py.File(OURS / "demo.h5", "a") as content:
        content["features"][0] = content["features"][1]
    assert stages_run(dvc("repro"))[:3] == ["feature_settings", "features", "train"]
    with h5py.File(OURS / "demo.h5", "a") as content:
        names = content["names"].asstr()[:-1].tolist()
        features = content["features"][:-1]
        del content["names"], content["features"]
        content["names"], content["features"] = names, features
    before = sha256("data/features/features.npy")
    output = dvc("repro", check=False)
    assert "error: data/weights/ours/demo.h5: no row for 1 of" in output
    assert sha256("data/features/features.npy") == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.weights": "imagenet"}, "must be the name of a file or folder of features"),
        ({"model.trainable": "all"}, "trainable must be frozen"),
        ({"model.feature_layers": ["a"]}, "feature_layers \\[\\]"),
        ({"model.jittered_views": 2}, "jittered_views must be 0"),
        ({"model.views": 2}, "views 2 is for features computed here by a frozen backbone"),
        ({"model.precision": "tf32"}, "precision float32"),
        ({"model.tokens": "mean"}, "leave it card"),
        ({"train.test_time_augmentation": True}, "must be false, as each crop has one view"),
    ],
)
def test_parameters_that_need_pixels_are_refused(workplace, changes, said):
    of_embeddings(external=[], **changes)
    with pytest.raises(UserError, match=said):
        read_params("model", ModelParameters)
