"""Every parameter is checked where it is read; what does not fit is named, with what is allowed."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.base.errors import UserError
from stages.base.parameters import read_dataset_name, read_params, read_yaml
from stages.images.parameters import PadParameters
from stages.intake.parameters import ManifestParameters, SplitParameters
from stages.measures.parameters import EvaluateParameters
from stages.model.networks import ModelParameters
from stages.synthetic.parameters import DemoParameters
from stages.training.parameters import TrainParameters
from tests.conftest import set_params

SCHEMAS = {
    "demo": DemoParameters,
    "manifest": ManifestParameters,
    "split": SplitParameters,
    "pad": PadParameters,
    "model": ModelParameters,
    "train": TrainParameters,
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
        ("pad.colour", 1, ["pad.colour is not a parameter here"]),
        ("split.by", "patient", ["split.by is 'patient'", "'slide', 'site' or 'image'"]),
        ("split.folds", 2, ["split.folds is 2", "greater than or equal to 3"]),
        ("split.fold", 5, ["split: fold is 5; with 5 folds it must be from 0 to 4"]),
        ("split.seed", -1, ["split.seed is -1"]),
        ("model.step", "conv6-dense1", ["model.step is 'conv6-dense1'", "logistic, or convC-denseD", "from 0 to 5"]),
        ("model.step", "conv1-dense5", ["model.step is 'conv1-dense5'"]),
        ("model.pooling", None, ["model.pooling is None", "'max', 'average' or 'none'"]),
        ("train.learning_rate", math.nan, ["train.learning_rate is nan", "finite"]),
        ("train.learning_rate", 0, ["train.learning_rate is 0", "greater than 0"]),
        ("train.dropout", 1.0, ["train.dropout is 1.0", "less than 1"]),
        ("train.augment", True, ["train.augment is True"]),
        ("train.augment.rotation", 200, ["train.augment.rotation is 200", "less than or equal to 180"]),
        ("train.class_weight", "auto", ["train.class_weight is 'auto'", "'none' or 'balanced'"]),
        ("evaluate.target", 0, ["evaluate.target is 0", "greater than 0"]),
        ("evaluate.threshold", 0.5, ["evaluate.threshold is 0.5", "'fixed', 'youden', 'balanced' or 'sensitivity'"]),
        ("manifest.unreadable", "ignore", ["manifest.unreadable is 'ignore'", "'refuse' or 'skip'"]),
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


def test_a_missing_parameter_is_named(workplace):
    Path("params.yaml").write_text("pad: {mode: white}\n")
    with pytest.raises(UserError, match=r"^params.yaml: pad.size is missing$"):
        read_params("pad", PadParameters)


def test_a_missing_block_is_named(workplace):
    Path("params.yaml").write_text("data: demo\n")
    with pytest.raises(UserError, match=r"pad must be a block with mode, size; it is None"):
        read_params("pad", PadParameters)


def test_an_unknown_block_is_named(workplace):
    Path("params.yaml").write_text("padd: {mode: white}\n")
    with pytest.raises(UserError, match=r"padd is not a parameter; there are data, demo, manifest"):
        read_params("pad", PadParameters)


@pytest.mark.parametrize("name", ["../demo", "/etc", "", ".hidden", "a/b", "a b", 3, None, "demo\n"])
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
