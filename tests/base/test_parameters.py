"""Every parameter is checked where it is read; what does not fit is named, with what is allowed."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.base.errors import UserError
from stages.base.parameters import read_dataset_name, read_params, read_yaml
from stages.images.parameters import PadParameters
from stages.intake.parameters import ManifestParameters, SplitParameters
from stages.measures.parameters import CalibrateParameters, EvaluateParameters
from stages.model.networks import ModelParameters
from stages.synthetic.parameters import DemoParameters
from stages.training.parameters import TrainParameters
from tests.conftest import PROJECT, set_params

SCHEMAS = {
    "demo": DemoParameters,
    "manifest": ManifestParameters,
    "split": SplitParameters,
    "pad": PadParameters,
    "model": ModelParameters,
    "train": TrainParameters,
    "calibrate": CalibrateParameters,
    "evaluate": EvaluateParameters,
}


def test_the_committed_params_are_valid(workplace):
    assert read_dataset_name() == "demo"
    for block, schema in SCHEMAS.items():
        read_params(block, schema)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("pad.mode", "blue", ["pad.mode is 'blue'", "'white'", "'stretch'"]),
        ("pad.size", 4, ["pad.size is 4", "greater than or equal to 8"]),
        ("pad.size", "128", ["pad.size is '128'", "valid integer"]),
        ("pad.size", True, ["pad.size is True", "valid integer"]),
        ("pad.size", 128.0, ["pad.size is 128.0", "valid integer"]),
        ("pad.color", 1, ["pad.color is not a parameter here"]),
        ("split.by", "patient", ["split.by is 'patient'", "'slide', 'site' or 'image'"]),
        ("split.folds", 2, ["split.folds is 2", "greater than or equal to 3"]),
        ("split.fold", 5, ["split: fold is 5; with 5 folds it must be from 0 to 4"]),
        ("split.seed", -1, ["split.seed is -1"]),
        (
            "model.step",
            "conv6-dense1",
            ["model.step is 'conv6-dense1'", "logistic, or convC-denseD", "from 0 to 5"],
        ),
        ("model.step", "conv1-dense5", ["model.step is 'conv1-dense5'"]),
        ("model.pooling", None, ["model.pooling is None", "'max', 'average' or 'none'"]),
        ("train.learning_rate", math.nan, ["train.learning_rate is nan", "finite"]),
        ("train.learning_rate", 0, ["train.learning_rate is 0", "greater than 0"]),
        ("train.dropout", 1.0, ["train.dropout is 1.0", "less than 1"]),
        ("train.augment", True, ["train.augment is True"]),
        (
            "train.augment.rotation",
            200,
            ["train.augment.rotation is 200", "less than or equal to 180"],
        ),
        ("train.class_weight", "auto", ["train.class_weight is 'auto'", "'none' or 'balanced'"]),
        (
            "calibrate.target_sensitivity",
            0,
            ["calibrate.target_sensitivity is 0", "greater than 0"],
        ),
        (
            "calibrate.threshold_rule",
            0.5,
            ["calibrate.threshold_rule is 0.5", "'fixed', 'youden', 'balanced', 'sensitivity' or"],
        ),
        (
            "manifest.unreadable",
            "ignore",
            ["manifest.unreadable is 'ignore'", "'refuse' or 'skip'"],
        ),
        ("demo.sites", 0, ["demo.sites is 0"]),
    ],
)
def test_what_does_not_fit_is_one_line(workplace, name, value, said):
    set_params({name: value})
    block = name.split(".")[0]
    with pytest.raises(UserError) as error:
        read_params(block, SCHEMAS[block])
    message = str(error.value)
    assert message.startswith("params.yaml: ")
    assert "\n" not in message
    for text in said:
        assert text in message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"calibrate.threshold_rule": "yuden"},
            "calibrate.threshold_rule is 'yuden'; input should be 'fixed', 'youden'",
        ),
        ({"calibrate.method": "platt"}, "calibrate.method is 'platt'"),
        ({"train.epochs": 0}, "train.epochs is 0"),
        ({"train.augment.rotation": -1}, "train.augment.rotation is -1"),
        ({"model.head": "svm"}, "model.head is 'svm'"),
        ({"model.head": "knn"}, "model: head knn is for a frozen backbone"),
        ({"model.views": 3}, "model.views is 3; input should be 1, 2, 4 or 8"),
        ({"model.views": 4}, "model: views 4 is for features computed here by a frozen backbone"),
        (
            {
                "model.step": "efficientnet_lite0",
                "model.views": 1,
                "train.test_time_augmentation": True,
            },
            "model.views is 1, so that there are no orientations to average",
        ),
        ({"model.step": "EfficientNetV9"}, "model.step is 'EfficientNetV9'"),
        ({"split.fold": 7}, "split: fold is 7; with 5 folds it must be from 0 to 4"),
        ({"climb.measure": "auc"}, "climb.measure is 'auc'"),
        (
            {"climb.validations": 5},
            "climb.validations is 5; with split.folds 5 it must be at most 4",
        ),
        ({"demo.sites": 99}, "demo.sites is 99"),
        ({"external": "kpmp"}, "external is 'kpmp'; input should be a valid list"),
        ({"external": ["a/b"]}, "external.0 is 'a/b'"),
        ({"external": ["demo"]}, "external names 'demo', the dataset that the model is trained on"),
        ({"external": ["kpmp"]}, "external names 'kpmp', but data/kpmp.yaml does not exist"),
        ({"data": "kpmp", "external": ["other", "other"]}, "it must name each dataset once"),
        ({"split.test": "none"}, "split.test is 'none', so train.ensemble must be true"),
        (
            {"model.step": "conv5-dense1", "pad.size": 16},
            "pad.size is 16; model.step conv5-dense1 halves it 5 times",
        ),
    ],
)
def test_what_is_wrong_in_any_block_stops_every_stage(workplace, changes, said):
    set_params(changes)
    with pytest.raises(UserError, match=r"^params.yaml: ") as error:
        read_params("manifest", ManifestParameters)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_what_a_misspelt_name_may_mean_is_said(workplace):
    text = Path("params.yaml").read_text()
    for wrong, said in {
        "  treshold_rule:": (
            "calibrate.treshold_rule is not a parameter here; did you mean threshold_rule?"
        )
    }.items():
        Path("params.yaml").write_text(text.replace("  threshold_rule:", wrong))
        with pytest.raises(UserError) as error:
            read_params("manifest", ManifestParameters)
        assert said in str(error.value) and "calibrate.threshold_rule is missing" in str(
            error.value
        )
    Path("params.yaml").write_text(text.replace("\nevaluate:", "\nevalute:"))
    with pytest.raises(UserError, match=r"evalute is not a parameter here; did you mean evaluate"):
        read_params("manifest", ManifestParameters)


def test_the_whole_check_imports_little_and_leaves_no_trace(workplace):
    """Each program waits for it; and the card of a model lists the modules that it ran."""
    code = """
import sys
from stages.base.parameters import read_dataset_name
before = set(sys.modules)
read_dataset_name()
found = {name.split(".")[0] for name in set(sys.modules) - before}
slow = {"stages", "numpy", "scipy", "keras", "tensorflow", "sklearn", "cv2", "PIL", "dvc"}
assert not found & slow, found
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pad: {mode: white}\n", "pad.size is missing"),
        ("data: demo\n", "pad is missing"),
        ("padd: {mode: white}\n", "padd is not a parameter here; did you mean pad?"),
        ("other: 1\n", "other is not a parameter here; there are data, demo, manifest"),
        ("pad: white\n", "pad is 'white'; input should be a valid dictionary"),
    ],
)
def test_what_is_missing_or_unknown_is_named(workplace, text, said):
    Path("params.yaml").write_text(text)
    with pytest.raises(UserError) as error:
        read_params("pad", PadParameters)
    assert any(line.startswith(f"params.yaml: {said}") for line in str(error.value).splitlines())


@pytest.mark.parametrize(
    "name", ["../demo", "/etc", "", ".hidden", "a/b", "a b", 3, None, "demo\n"]
)
def test_a_dataset_is_a_plain_name(workplace, name):
    set_params({"data": name})
    with pytest.raises(UserError, match=r"^params.yaml: data is "):
        read_dataset_name()


def test_numbers_read_as_dvc_reads_them(workplace):
    text = Path("params.yaml").read_text().replace("learning_rate: 0.001", "learning_rate: 1e-3")
    Path("params.yaml").write_text(text)
    assert read_params("train", TrainParameters).learning_rate == 0.001


@given(st.binary(max_size=200))
def test_any_bytes_are_a_mapping_or_an_error(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("yaml") / "params.yaml"
    file.write_bytes(content)
    try:
        assert isinstance(read_yaml(file), dict)
    except UserError as error:
        assert str(file) in str(error)


def test_a_key_that_stands_twice_is_refused(tmp_path):
    (tmp_path / "p.yaml").write_text("a: 1\na: 2\n")
    with pytest.raises(UserError, match="duplicate key"):
        read_yaml(tmp_path / "p.yaml")
