"""Parameters of experiments as texts, and whether an experiment with them has run."""

import pytest

from stages.experiments.inputs import input_kind
from stages.experiments.reading import Experiment, has_run
from stages.experiments.settings import IRRELEVANT, as_yaml
from tests.repositories import dvc, git


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.0, "3"),
        (1234567.0, "1234567"),
        (1234568, "1234568"),
        (4294967295.0, "4294967295"),
        (0.001, "0.001"),
        (1e-05, "1e-05"),
        (0.1234567, "0.1234567"),
        ("True", "true"),
        (True, "true"),
        ("white", "white"),
    ],
)
def test_a_value_as_params_yaml_has_it(value, text):
    """With all its digits: six of them would make one experiment of two."""
    assert as_yaml(value) == text


def test_has_run_knows_seeds_apart_and_asks_for_the_code_of_this_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    git("init", "-q")
    dvc("init", "-q")
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/pad.py").write_text("x")
    here = {"stages/pad.py": "9dd4e461268c8034f5c8564e155c67a6"}  # echo -n x | md5sum
    params = {"train.seed": 1234567.0, "pad.mode": "white", "climb.seeds": 1.0}
    one = Experiment("one", "one", params, here)
    assert has_run([one], {"train.seed": 1234567, "pad.mode": "white"}) is one
    assert has_run([one], {"train.seed": 1234568, "pad.mode": "white"}) is None
    assert has_run([one], {"train.seed": 1234567, "climb.seeds": 2}) is None
    assert has_run([one], {"train.seed": 1234567, "climb.seeds": 2}, IRRELEVANT) is one
    folds = one._replace(params={"split.fold": 0.0, "split.folds": 5.0})
    assert has_run([folds], {"split.fold": 1, "split.folds": 5}, ("split.fold",)) is folds
    assert has_run([folds], {"split.fold": 1, "split.folds": 10}, ("split.fold",)) is None
    assert (
        has_run([one._replace(inputs={"stages/pad.py": "other"})], {"train.seed": 1234567}) is None
    )


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("data/demo", True),
        ("data/demo.yaml", True),
        ("data/demo2", False),
        ("data/demo2.yaml", False),
        ("data/weights/mine.weights.h5", True),
        ("data/weights/mine.weights.h5.old", False),
        ("stages/pad.py", True),
        ("data/padded", False),
        ("models/model.keras", False),
    ],
)
def test_what_an_experiment_is_made_of(path, wanted):
    """A dataset whose name begins with the name of this one is no input."""
    assert (input_kind(path, "demo", "mine.weights.h5") is not None) == wanted
