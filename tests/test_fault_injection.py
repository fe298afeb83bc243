"""A few of the faults of tools/fault_injection.py; the program tries all of them."""

import shutil

import pytest

from tests.repositories import run_program, set_params
from tools.fault_injection import Pipelines, faults, inside

# Of a model without a backbone; each stands for a kind.
CHOSEN = [
    "manifest.csv after split and pad: a flipped label",
    "manifest.csv after train: another slide",
    "split.csv after train: of another fold",
    "padded squares: fewer than the manifest",
    "padded squares after train: in another order",
    "model.keras: of another training",
    "calibration.json: of another training",
    "calibration.json: a threshold of 7",
    "validation.csv: flipped labels",
    "params.yaml: a threshold rule that does not exist",
]


@pytest.fixture(scope="module")
def pipelines(reproduced, tmp_path_factory):
    place = tmp_path_factory.mktemp("faults")
    other = place / "other"
    shutil.copytree(reproduced, other, symlinks=True)
    with inside(other):
        set_params({"split.fold": 1})
        for stage in ("split", "features", "train", "calibrate"):
            code, _, error = run_program(stage)
            assert code == 0, error
    return Pipelines(place, reproduced, other)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHOSEN)
def test_a_damaged_file_is_refused_by_the_next_program(pipelines, name):
    fault = next(fault for fault in faults() if fault.name == name)
    outcome = pipelines.inject(fault)
    assert outcome.verdict == "refused", outcome


def test_every_fault_has_a_name_of_its_own():
    names = [fault.name for fault in faults()]
    assert len(names) == len(set(names)) > 80
