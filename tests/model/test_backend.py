"""A training on JAX writes the same kind of model as one on TensorFlow."""

import os
import subprocess
import sys

import numpy as np
import pytest

from stages import crops, manifest, pad, split
from stages.base.files import read_json
from stages.dataset.predictions import read_predictions
from stages.model.file import load_model
from tests.conftest import PROJECT, make_classes, set_params

pytestmark = pytest.mark.slow


def test_jax_trains_a_model_that_tensorflow_loads(workplace):
    pytest.importorskip("jax")
    make_classes(slides=10, each=4)
    small = {"pad.size": 16, "model.step": "conv1-dense1", "train.epochs": 1}
    set_params(small)
    for stage in (crops, manifest, split, pad):
        stage.main()
    environment = os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-m", "stages.train"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "note: " in done.stdout, done.stderr
    assert read_json("models/model.json")["arithmetic"]["backend"] == "jax"
    assert np.ptp(read_predictions("models/validation.csv").y_score) > 1e-3
    assert load_model("models/model.keras").input_shape == (None, 16, 16, 3)
