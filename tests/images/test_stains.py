"""Stains: changed by hand-worked numbers, and normalized to the training crops alone."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stages import manifest, pad, split, stain
from stages.base.errors import UserError
from stages.dataset.cohort import STAINED, open_padded, open_squares, read_cohort
from stages.images.stains import fit_normalization, read_normalization
from stages.model.augment import HAEMATOXYLIN, PAS, STAINS, change_stains
from tests.conftest import make_classes, set_params

ONE, ZERO = np.ones(3), np.zeros(3)


def stained(hematoxylin, pas):
    """A square of glass with so much of both stains, in optical densities."""
    density = np.outer(hematoxylin, HAEMATOXYLIN) + np.outer(pas, PAS)
    return np.rint(255 * 10**-density).astype(np.uint8).reshape(1, -1, 3)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_as_much_stain_as_before_is_the_same_picture(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    changed = change_stains(pixels, ONE, ZERO)
    assert (changed == np.maximum(pixels, 1)).all()  # No light at all has no density.


def test_twice_the_hematoxylin_and_no_more_pas():
    before, after = stained([0.1, 0.3], [0.2, 0.0]), stained([0.2, 0.6], [0.2, 0.0])
    changed = change_stains(before, np.array([2, 1, 1]), ZERO)
    assert np.abs(changed.astype(int) - after).max() <= 2


def test_an_offset_is_a_tenth_of_optical_density():
    changed = change_stains(np.full((1, 1, 3), 255, dtype=np.uint8), ONE, np.array([0, 1, 0]))
    assert np.abs(changed[0, 0] - 255 * 10 ** (-0.1 * np.array(PAS))).max() <= 0.5


@given(seed=st.integers(0, 2**32 - 1), most=st.floats(0, 0.99))
@settings(max_examples=20, deadline=None)
def test_any_change_is_that_of_the_formula(seed, most):
    """Written out in optical densities, in 64 bits; where a value lies halfway between two bytes
    either is right.
    """
    random = np.random.default_rng(seed)
    pixels = random.integers(1, 256, (8, 8, 3), dtype=np.uint8)
    factors, offsets = 1 + most * random.uniform(-1, 1, 3), most * random.uniform(-1, 1, 3)
    amounts = -np.log10(pixels / 255) @ np.linalg.inv(STAINS)
    expected = 255 * np.minimum(10 ** -((factors * amounts + offsets / 10) @ STAINS), 1)
    assert np.abs(change_stains(pixels, factors, offsets) - expected).max() <= 0.501


@pytest.fixture
def tinted(workplace):
    """Ten slides, each of its own tint."""
    folder = make_classes(slides=10, each=4)
    for number, file in enumerate(sorted(folder.rglob("*.png"))):
        random = np.random.default_rng(number)
        slide = int(file.stem[1 : file.stem.index("-")])
        amounts = random.uniform(0.05, 0.5, 256), random.uniform(0.05, 0.5, 256)
        pixels = stained(amounts[0] * (1 + slide / 5), amounts[1] * (2 - slide / 10)).reshape(
            16, 16, 3
        )
        Image.fromarray(pixels).save(file)
    set_params({"pad.size": 16})
    for stage in (manifest, split, pad):
        stage.main()
    return folder


@pytest.mark.parametrize("method", ["reinhard", "macenko"])
def test_all_crops_get_the_stain_of_the_training_crops(tinted, method):
    set_params({"stain.normalization": method})
    stain.main()
    padded, squares, cohort = open_padded(), open_squares(), read_cohort()
    assert squares.shape == padded.shape and squares.dtype == np.uint8
    spread = [
        np.std([square.reshape(-1, 3).mean(0) for square in some], axis=0).max()
        for some in (padded, squares)
    ]
    assert spread[1] < spread[0] / 3
    # What was learned is of the training slides alone.
    learned = json.loads(Path("models/stain.json").read_text())
    assert learned == fit_normalization(method, padded[cohort.rows("train")]).model_dump()
    # What is saved with the model does the same to a crop.
    assert np.array_equal(read_normalization()(padded[3]), squares[3])
    before = STAINED.read_bytes()
    stain.main()
    assert STAINED.read_bytes() == before


def test_without_normalization_nothing_is_computed_and_other_folds_change_nothing(tinted):
    contents = set()
    for fold in (0, 1):
        set_params({"split.fold": fold})
        split.main()
        stain.main()
        contents.add((STAINED.read_bytes(), Path("models/stain.json").read_bytes()))
    assert len(contents) == 1
    assert np.array_equal(open_squares(), open_padded())


# torchstain's Macenko divides by the number of stained pixels.
@pytest.mark.filterwarnings("ignore::RuntimeWarning:numpy", "ignore::RuntimeWarning:torchstain")
@pytest.mark.parametrize("method", ["reinhard", "macenko"])
def test_empty_glass_stays_as_it_is_and_teaches_nothing(tinted, method):
    normalizer = fit_normalization(method, open_padded()[:4])
    glass = np.full((16, 16, 3), 255, dtype=np.uint8)
    assert np.array_equal(normalizer(glass), glass)
    if method == "macenko":
        with pytest.raises(
            UserError,
            match=r"^params.yaml: stain.normalization is 'macenko', but the crops hold no stain",
        ):
            fit_normalization(method, glass[None])
