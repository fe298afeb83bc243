"""The published model: small, with its terms, and with the probabilities that it had at first."""

import numpy as np
import pytest

import glomeruli
from tests.conftest import PROJECT
from tests.drawn import drawn_crops

PUBLISHED = PROJECT / "published/aidpath"
# Of four drawn crops.
PROBABILITIES = [0.07289481, 0.98918438, 0.00050322, 0.45628887]
NOVELTY = [1.0, 1.0, 1.0, 0.996]


@pytest.fixture(scope="module")
def model():
    return glomeruli.load(PUBLISHED)


def test_is_small_and_comes_with_its_card_and_its_terms():
    files = {file.name: file.stat().st_size for file in PUBLISHED.iterdir()}
    assert {"README.md", "TERMS.md"} < files.keys()
    assert sum(files.values()) < 2_000_000


@pytest.mark.slow
def test_predicts_what_it_did_when_it_was_published(model):
    crops, _ = drawn_crops(4, 96)
    found = model.predict(list(crops))
    assert [one.probability for one in found] == pytest.approx(PROBABILITIES, rel=1e-3)
    assert [one.novelty for one in found] == pytest.approx(NOVELTY, abs=2e-3)
    assert not any(one.trained_on for one in found)


@pytest.mark.slow
def test_on_crops_of_a_fourth_hospital(model, real_data):
    """As docs/backbones-evidence.md says: it misses one of seven, and knows that it is unsure."""
    folder = real_data / "kpmp_sample"
    files = sorted(folder.glob("*/*.png"))
    y_true = np.array([file.parent.name.startswith("globally") for file in files])
    found = model.predict(files)
    y_pred = np.array([one.predicted == 1 for one in found])
    assert (y_pred & y_true).sum() == 6 and not (y_pred & ~y_true).any()
    assert all(one.uncertain for one, wrong in zip(found, y_pred != y_true) if wrong)


@pytest.mark.slow
def test_knows_the_crops_that_it_was_trained_on(model, real_data):
    files = sorted((real_data / "aidpath").glob("*/*.png"))[::300]
    assert all(one.trained_on for one in model.predict(files))
