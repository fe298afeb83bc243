"""The training stage on tiny squares: what it writes, logs, resumes and refuses."""

import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from stages import calibrate, crops, features, manifest, pad, split, train
from stages.base.errors import UserError
from stages.base.parameters import read_params
from stages.dataset.cohort import open_squares, read_cohort
from stages.dataset.predictions import read_predictions
from stages.model import batches
from stages.model.backend import keras
from stages.model.file import load_model
from stages.model.forward import orientations
from stages.model.networks import to_log_odds
from stages.training import fit as fit_module
from stages.training.fit import Record, balanced_class_weight, channel_statistics, fit
from stages.training.members import CHECKPOINT, LOG
from stages.training.parameters import TrainParameters
from tests.conftest import PROJECT, make_classes, set_params
from tests.fork_server import python

pytestmark = pytest.mark.slow

SMALL = {
    "pad.size": 8,
    "train.epochs": 3,
    "train.batch_size": 8,
    "model.step": "logistic",
    "train.patience": 50,
}


def prepare(**changes):
    make_classes(slides=10, each=4)
    set_params(SMALL | changes)
    for stage in (crops, manifest, split, pad):
        stage.main()


def test_channel_statistics_are_exact():
    images = np.random.default_rng(0).integers(0, 256, (700, 6, 6, 3), dtype=np.uint8)
    rows = np.arange(0, 700, 2)
    mean, variance = channel_statistics(images, rows, chunk=100)
    assert mean == pytest.approx(images[rows].reshape(-1, 3).mean(0), rel=1e-12)
    assert variance == pytest.approx(images[rows].reshape(-1, 3).var(0), rel=1e-9)
    assert channel_statistics(images, rows, chunk=7) == (mean, variance)
    assert channel_statistics(np.full((3, 4, 4, 3), 255, dtype=np.uint8), np.arange(3))[1] == [
        0,
        0,
        0,
    ]


def test_balanced_class_weights():
    assert balanced_class_weight(np.array([0, 0, 0, 1])) == {0: 4 / 6, 1: 2}


def test_writes_everything_that_prediction_needs(workplace):
    prepare()
    features.main()
    train.main()
    calibrate.main()
    card = json.loads(Path("models/model.json").read_text())
    assert card["step"] == "logistic"
    assert card["weights"] == 8 * 8 * 3 + 1
    assert (card["padding"], card["size"]) == ("white", 8)
    assert card["classes"] == ["non_globally_sclerotic", "globally_sclerotic"]
    assert card["dataset"]["card"] == {
        "title": "small",
        "classes": ["nonGS", "GS"],
        "group": r"(?P<slide>(?P<site>s)\d+)-\d+\.\w+$",
    }
    assert (
        card["dataset"]["manifest_sha256"]
        == hashlib.sha256(Path("data/manifest.csv").read_bytes()).hexdigest()
    )
    assert (
        card["dataset"]["split_sha256"]
        == hashlib.sha256(Path("data/split.csv").read_bytes()).hexdigest()
    )
    assert (
        card["code_sha256"]["train.py"]
        == hashlib.sha256((PROJECT / "stages/train.py").read_bytes()).hexdigest()
    )
    assert card["parameters"]["train"]["epochs"] == 3
    assert card["versions"]["keras"] == keras.__version__
    _, _, y_true, y_score = read_predictions(Path("models/validation.csv"))
    with open("data/split.csv", newline="") as file:
        assert len(y_true) == sum(row["split"] == "val" for row in csv.DictReader(file))
    chosen = json.loads(Path("models/calibration.json").read_text())
    assert chosen["threshold"] in y_score
    assert np.mean(y_score[y_true == 1] >= chosen["threshold"]) >= 0.95
    # The log has every epoch.
    for split_name in ("train", "val"):
        for name in ("loss", "accuracy", "auc"):
            file = Path(f"metrics/train/plots/metrics/{split_name}/{name}.tsv")
            assert [line.split("\t")[0] for line in file.read_text().splitlines()] == [
                "step",
                "1",
                "2",
                "3",
            ]
    metrics = json.loads(Path("metrics/train/metrics.json").read_text())
    losses = [
        float(line.split("\t")[1])
        for line in Path("metrics/train/plots/metrics/val/loss.tsv").read_text().splitlines()[1:]
    ]
    assert metrics["best"]["loss"] == pytest.approx(min(losses))
    assert metrics["best"]["epoch"] == 1 + int(np.argmin(losses))


def test_keeps_the_weights_of_the_best_epoch(workplace):
    prepare(**{"train.learning_rate": 0.02, "train.epochs": 8, "train.patience": 3})
    train.main()
    _, _, y_true, y_score = read_predictions(Path("models/validation.csv"))
    cohort = read_cohort()
    weight = balanced_class_weight(cohort.labels[cohort.rows("train")])
    best = json.loads(Path("metrics/train/metrics.json").read_text())["best"]
    # The classes have the same weights as in the loss that is minimized.
    loss = np.mean([weight[y] * log_loss([y], [p], labels=[0, 1]) for y, p in zip(y_true, y_score)])
    assert best["loss"] == pytest.approx(loss, rel=1e-3)
    assert best["auc"] == pytest.approx(roc_auc_score(y_true, y_score), abs=1e-6)


def test_roc_auc_in_training_is_that_of_unaugmented_crops(workplace):
    """With one epoch and a rate of zero, the model stays what it was, and says what it measured."""
    random = np.random.default_rng(0)
    squares = random.integers(0, 256, (60, 4, 4, 3), dtype=np.uint8)
    y, train, val = (
        random.permutation(np.arange(60) % 3 == 0).astype(int),
        np.arange(45),
        np.arange(45, 60),
    )
    inputs = keras.Input((4, 4, 3), dtype="uint8")
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 16)(inputs))
    model = keras.Model(inputs, probability(keras.layers.Dense(1)(flat)))
    params = read_params("train", TrainParameters).model_copy(
        update={"learning_rate": 0.0, "weight_decay": 0.0, "epochs": 1}
    )
    log_odds = to_log_odds(model).predict(squares, verbose=0)[:, 0]
    best = fit(model, squares, y, train, val, params, Record(LOG))
    assert best["auc"] == roc_auc_score(y[val], log_odds[val])
    assert best["accuracy"] == np.mean((log_odds[val] > 0) == y[val])
    logged = float(Path(LOG, "plots/metrics/train/auc.tsv").read_text().split()[-1])
    # As many crops as are validated on: the first and the last of them in order of their labels,
    # and evenly between.
    chosen = train[np.argsort(y[train], kind="stable")][np.linspace(0, 44, 15).round().astype(int)]
    assert logged == pytest.approx(roc_auc_score(y[chosen], log_odds[chosen]), abs=1e-12)
    assert np.mean(y[chosen]) == pytest.approx(np.mean(y[train]), abs=1 / 15)


def test_same_seed_gives_the_same_bytes_and_another_does_not(workplace):
    prepare(**{"model.step": "conv1-dense1", "model.conv_filters": 2, "model.dense_units": 4})
    contents = []
    for seed in (0, 0, 1):
        set_params({"train.seed": seed})
        train.main()
        contents.append(
            (Path("models/model.keras").read_bytes(), Path("models/validation.csv").read_bytes())
        )
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]


def test_training_is_the_same_if_the_device_augments(workplace, monkeypatch):
    random = np.random.default_rng(0)
    squares = random.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    y, rows = np.arange(40) % 2, np.arange(40)
    params = read_params("train", TrainParameters).model_copy(update={"epochs": 2})
    found = []
    for accelerated in (False, True):
        for module in (fit_module, batches):
            monkeypatch.setattr(module, "has_accelerator", lambda found=accelerated: found)
        inputs = keras.Input((8, 8, 3), dtype="uint8")
        flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
        log_odds = keras.layers.Dense(1, kernel_initializer="zeros")(flat)
        model = keras.Model(inputs, probability(log_odds))
        best = fit(model, squares, y, rows[:30], rows[30:], params, Record(None))
        found.append([best["loss"], *model.get_weights()[0].ravel()])
    assert found[0] == pytest.approx(found[1], abs=1e-4)


def probability(log_odds):
    return keras.layers.Activation("sigmoid", name="probability")(log_odds)


def test_stops_in_one_line_if_the_loss_is_not_a_number(workplace):
    inputs = keras.Input((4, 4, 3), dtype="uint8")
    huge = keras.layers.Rescaling(1e38)(keras.layers.Rescaling(1e38)(inputs))
    model = keras.Model(inputs, probability(keras.layers.Dense(1)(keras.layers.Flatten()(huge))))
    squares, y, rows = np.full((8, 4, 4, 3), 200, dtype=np.uint8), np.arange(8) % 2, np.arange(8)
    with pytest.raises(
        UserError,
        match=r"^the loss is nan in epoch 1; params.yaml: train.learning_rate is 0.001, try a low",
    ):
        fit(model, squares, y, rows, rows, read_params("train", TrainParameters), Record(LOG))


def start_training():
    return subprocess.Popen(
        [python(), "-m", "stages.train"],
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def written_files():
    files = [*Path("models").rglob("*"), *Path("metrics/train").rglob("*")]
    return {str(file): file.read_bytes() for file in files if file.is_file()}


def epochs_saved():
    try:
        with np.load("models/checkpoint.npz") as archive:
            return len(json.loads(str(archive["state"]))["history"])
    except FileNotFoundError:
        return 0


def forget_outputs():
    """Do what dvc does before it runs a stage."""
    shutil.rmtree("metrics/train", ignore_errors=True)
    for name in ("model.keras", "model.json", "validation.csv"):
        Path("models", name).unlink(missing_ok=True)


def test_killed_training_resumes_to_the_same_bytes(workplace):
    # The learning rate is halved, and the best epoch is not the last.
    changes = {
        "train.epochs": 14,
        "train.patience": 8,
        "train.learning_rate": 0.05,
        "train.dropout": 0.5,
    }
    prepare(
        **changes, **{"model.step": "conv1-dense1", "model.conv_filters": 2, "model.dense_units": 4}
    )
    training = start_training()
    output, _ = training.communicate()
    assert training.returncode == 0, output
    expected = written_files()
    assert "models/checkpoint.npz" not in expected
    assert (
        len(set(Path("metrics/train/plots/metrics/learning_rate.tsv").read_text().split()[3::2]))
        > 1
    )

    forget_outputs()
    training = start_training()
    while epochs_saved() < 3:
        assert training.poll() is None, training.communicate()[0]
        time.sleep(0.01)
    training.kill()
    training.wait()
    assert training.returncode != 0
    assert not Path("models/model.keras").exists()
    saved = epochs_saved()

    forget_outputs()
    training = start_training()
    output, _ = training.communicate()
    assert training.returncode == 0, output
    assert f"resuming after epoch {saved}," in output
    assert written_files() == expected


def test_ignores_the_state_of_another_training(workplace, capsys):
    prepare(**{"train.epochs": 2})
    params = read_params("train", TrainParameters)
    rows, y, squares = np.arange(8), np.arange(8) % 2, np.zeros((8, 4, 4, 3), dtype=np.uint8)

    def resumes(key):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((4, 4, 3), dtype="uint8")
        flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
        model = keras.Model(inputs, probability(keras.layers.Dense(1)(flat)))
        fit(model, squares, y, rows, rows, params, Record(LOG, CHECKPOINT, key))
        return "resuming" in capsys.readouterr().out

    assert [resumes(key) for key in ("a", "a", "b", None, "b")] == [False, True, False, False, True]
    Path("models/checkpoint.npz").write_bytes(b"PK")
    assert not resumes("b")


def test_ensemble_has_a_member_per_fold_that_validates_on_it(workplace):
    prepare(
        **{
            "train.ensemble": True,
            "train.test_time_augmentation": True,
            "split.folds": 4,
            "train.epochs": 2,
        }
    )
    train.main()
    cohort, squares = read_cohort(), open_squares()
    predictions = read_predictions(Path("models/validation.csv"))
    assert predictions.paths.tolist() == cohort.paths[cohort.folds > 0].tolist()
    model = load_model("models/model.keras")
    assert model.output_shape == (None, 3)
    members = [
        layer
        for layer in model.get_layer("one_orientation").layers
        if isinstance(layer, keras.Model)
    ]
    assert len(members) == 3
    for number, member in enumerate(members, start=1):
        rows = np.flatnonzero(cohort.folds == number)
        said = np.mean(
            [member.predict_on_batch(view) for view in orientations(squares[rows])], axis=0
        )[:, 0]
        ours = predictions.y_score[np.isin(predictions.paths, cohort.paths[rows])]
        assert ours == pytest.approx(said, abs=1e-5)
    card = json.loads(Path("models/model.json").read_text())
    assert len(card["validation"]) == 3
    assert (
        Path("metrics/train/member3/plots/metrics/val/loss.tsv").is_file()
        and Path("metrics/train/plots").is_dir()
    )
    assert not list(Path("models").glob("checkpoint*"))


def test_killed_ensemble_resumes_with_its_current_member(workplace):
    prepare(**{"train.ensemble": True, "split.folds": 3, "train.epochs": 6})
    training = start_training()
    output, _ = training.communicate()
    assert training.returncode == 0, output
    expected = written_files()
    forget_outputs()
    training = start_training()
    while not Path("models/checkpoint2.npz").exists():
        assert training.poll() is None, training.communicate()[0]
        time.sleep(0.005)
    training.send_signal(signal.SIGTERM)
    training.wait()
    forget_outputs()
    training = start_training()
    output, _ = training.communicate()
    assert training.returncode == 0, output
    assert "resuming after epoch 6," in output
    assert written_files() == expected
