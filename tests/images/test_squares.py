"""Padding: worked by hand on small arrays, and properties over all sizes and modes."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stages.images.parameters import Mode
from stages.images.squares import make_square, rim_color

MODES = get_args(Mode)


def crop(pixels):
    return Image.fromarray(np.array(pixels, dtype=np.uint8))


def gray(*rows):
    """An RGB picture with equal channels."""
    return crop(np.repeat(np.array(rows)[..., None], 3, axis=2))


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("white", [[255, 255, 255, 255], [10, 20, 30, 40], [50, 60, 70, 80], [255, 255, 255, 255]]),
        ("zero", [[0, 0, 0, 0], [10, 20, 30, 40], [50, 60, 70, 80], [0, 0, 0, 0]]),
        ("edge", [[10, 20, 30, 40], [10, 20, 30, 40], [50, 60, 70, 80], [50, 60, 70, 80]]),
        ("reflect", [[50, 60, 70, 80], [10, 20, 30, 40], [50, 60, 70, 80], [10, 20, 30, 40]]),
        ("mean", [[45, 45, 45, 45], [10, 20, 30, 40], [50, 60, 70, 80], [45, 45, 45, 45]]),
    ],
)
def test_a_wide_crop_by_hand(mode, expected):
    square = make_square(gray([10, 20, 30, 40], [50, 60, 70, 80]), mode, 4)
    assert square[..., 0].tolist() == expected


def test_an_odd_pixel_goes_to_the_right_and_to_the_bottom():
    tall = make_square(gray([1, 2], [3, 4], [5, 6], [7, 8], [9, 10]), "zero", 5)
    assert tall[0, :, 0].tolist() == [0, 1, 2, 0, 0]
    wide = make_square(gray([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]), "zero", 5)
    assert wide[:, 0, 0].tolist() == [0, 1, 6, 0, 0]


def test_stretch_fills_the_square():
    assert (make_square(crop(np.full((2, 6, 3), 90)), "stretch", 6) == 90).all()


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("white", 255), ("zero", 0), ("edge", 255), ("reflect", 255), ("stretch", 255)],
)
def test_transparency_is_laid_on_the_padding_color(mode, expected):
    image = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    assert (make_square(image, mode, 4) == expected).all()


def test_half_transparency_is_mixed():
    square = make_square(
        Image.new("RGBA", (4, 4), (100, 100, 100, 51)), "zero", 4
    )  # 51 / 255 is a fifth.
    assert (square == 20).all()


def test_the_mean_is_of_the_opaque_rim():
    pixels = np.zeros((3, 3, 4), dtype=np.uint8)
    pixels[0] = (90, 60, 30, 255)  # Only the upper row is opaque; the center does not count.
    pixels[1, 1] = (255, 255, 255, 255)
    assert rim_color(Image.fromarray(pixels)) == (90, 60, 30)
    assert rim_color(Image.new("RGBA", (3, 3), (1, 2, 3, 0))) == (255, 255, 255)


@given(
    width=st.integers(1, 60),
    height=st.integers(1, 60),
    size=st.integers(8, 80),
    mode=st.sampled_from(MODES),
    seed=st.integers(0, 99),
)
def test_every_crop_becomes_a_square(width, height, size, mode, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    square = make_square(crop(pixels), mode, size)
    assert (square.shape, square.dtype) == ((size, size, 3), np.uint8)
    if width == height == size:
        assert (square == pixels).all()


@given(width=st.integers(1, 200), height=st.integers(1, 200), size=st.integers(8, 120))
def test_centred_with_its_aspect_ratio_kept_to_half_a_pixel(width, height, size):
    square = make_square(crop(np.full((height, width, 3), 200)), "zero", size)
    inside = square[..., 0] == 200
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    drawn_height, drawn_width = len(rows), len(columns)
    assert inside.sum() == drawn_height * drawn_width
    # In whole numbers, times the longest side: half a pixel is exactly half a pixel.
    longest = max(width, height)
    assert 2 * abs(drawn_width * longest - width * size) <= longest or (
        drawn_width == 1 and width * size < longest
    )
    assert 2 * abs(drawn_height * longest - height * size) <= longest or (
        drawn_height == 1 and height * size < longest
    )
    assert 0 <= (size - 1 - columns[-1]) - columns[0] <= 1
    assert 0 <= (size - 1 - rows[-1]) - rows[0] <= 1


def test_down_sampling_does_not_alias():
    stripes = np.zeros((512, 512, 3), dtype=np.uint8)
    stripes[:, ::2] = (
        255  # Finer than the result can show: it must be gray, not black, white or moire.
    )
    small = make_square(crop(stripes), "white", 128)
    assert small[:, 8:-8].min() >= 120 and small[:, 8:-8].max() <= 135
