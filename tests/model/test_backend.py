"""A training whose batches several devices share comes to the same model, to within rounding, where
that is promised.
"""

import os
import subprocess
import sys

import numpy as np
import pytest

from stages import manifest, pad, split
from stages.base.errors import UserError
from stages.dataset.cohort import SPLIT, read_cohort
from stages.dataset.predictions import read_predictions
from stages.model.backend import on_devices
from stages.model.batches import Batches
from tests.conftest import PROJECT, make_classes, set_params
from tests.model.test_batches import NONE, AugmentParameters, squares

pytestmark = pytest.mark.slow

# Two devices of the one processor. JAX reads them from the environment, TensorFlow is told before
# it starts.
JAX = {"KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
TENSORFLOW = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2"}
TRAIN = """
import os
if os.environ["KERAS_BACKEND"] == "tensorflow":
    import tensorflow as tf
    processor = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
import pathlib, shutil, sys
from stages.base.errors import run_program
from stages.train import main
text = pathlib.Path("params.yaml").read_text()
for devices in sys.argv[1:]:
    pathlib.Path("params.yaml").write_text(text.replace("devices: 1 ", f"devices: {devices} "))
    try:
        run_program(main)
    except SystemExit as stopped:
        # A text, which Python would print as it ends with 1.
        assert isinstance(stopped.code, str), stopped.code
        print(stopped.code, file=sys.stderr)
    else:
        shutil.copy("models/validation.csv", f"{devices}.csv")
"""


def prepare(**changes):
    make_classes(slides=10, each=4)
    small = {
        "pad.size": 16,
        "model.step": "conv1-dense1",
        "model.dense_units": 8,
        "train.epochs": 3,
        "train.batch_size": 8,
    }
    set_params(small | changes)
    for stage in (manifest, split, pad):
        stage.main()


def train(environment, *devices):
    """Train with each number of devices, one after the other in one process; return the lines of
    its errors.
    """
    environment = os.environ | environment | {"PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-c", TRAIN, *map(str, devices)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    return [line for line in done.stderr.splitlines() if line.startswith("error: ")]


def validated(devices):
    return read_predictions(f"{devices}.csv").y_score


# On TensorFlow each device normalizes its own share of a batch and draws its own dropout: there it
# is the same without both.
@pytest.mark.parametrize(
    ("environment", "dropout", "batch_norm"),
    [(JAX, 0.2, True), (JAX, 0.0, False), (TENSORFLOW, 0.0, False)],
    ids=["jax", "jax-bare", "tensorflow-bare"],
)
def test_two_devices_come_to_the_model_of_one(workplace, environment, dropout, batch_norm):
    prepare(**{"train.dropout": dropout, "model.batch_norm": batch_norm})
    assert train(environment, 1, 2) == []
    assert np.ptp(validated(1)) > 1e-3  # It says something.
    assert validated(2) == pytest.approx(validated(1), abs=1e-4)


def test_an_odd_number_of_crops_is_shared_and_all_are_judged(workplace):
    prepare(**{"split.folds": 3})
    (row, *_) = np.flatnonzero(read_splits() == "val")
    drop(row)
    assert train(JAX, 2) == []
    assert len(validated(2)) == np.sum(read_splits() == "val")


def read_splits():
    return read_cohort().splits


def drop(row):
    """Let one validation crop be a test crop instead: an odd number is left."""
    lines = SPLIT.read_text().splitlines(keepends=True)
    lines[row + 1] = lines[row + 1].replace(",val,", ",test,")
    SPLIT.write_text("".join(lines))


def test_batches_are_multiples_of_the_devices():
    images, y = squares(10), np.arange(10) % 2
    in_order = Batches(images, np.arange(7), y, batch_size=4, devices=2)
    assert [len(in_order[index][0]) for index in range(len(in_order))] == [4, 4]
    assert (in_order[1][0] == images[[4, 5, 6, 6]]).all()
    shuffled = Batches(images, np.arange(7), y, 4, AugmentParameters(**NONE), devices=2)
    left_out = set()
    for _ in range(60):
        assert [len(shuffled[index][0]) for index in range(len(shuffled))] == [4, 2]
        left_out |= set(range(7)) - set(shuffled.ordered.tolist())
        shuffled.on_epoch_end()
    assert left_out == set(range(7))


def test_what_cannot_be_shared_is_one_line(workplace):
    prepare()
    assert train(JAX, 4, 3) == [
        "error: params.yaml: train.devices is 4; this machine has 2: cpu:0, cpu:1",
        "error: params.yaml: train: batch_size is 8; with 3 devices it must be a multiple of that "
        "(params.yaml keeps it until it is set anew)",
    ]
    assert not os.path.exists("4.csv") and not os.path.exists("3.csv")
    with pytest.raises(UserError, match=r"train\.devices is 1024; this machine has 1"):
        on_devices(1024)
