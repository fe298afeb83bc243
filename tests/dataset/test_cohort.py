"""Squares and features of all crops, as the rows of the manifest."""

from pathlib import Path

import numpy as np
import pytest

from stages import features, pad
from stages.base.errors import UserError
from stages.dataset.cohort import MANIFEST, ROWS, Rows, open_squares
from stages.images.opening import load_image
from stages.images.squares import make_square
from tests.conftest import list_crops, make_table, set_params

CARD = (
    "title: t\nlabels: labels.csv\ncolumns: {name: name, readers: [ann, ben]}\n"
    "group: '(?P<slide>[a-z]+)'\n"
)
TEXT = "name,ann,ben\na1.png,1,1\na2.png,0,1\nb1.png,0,0\nb2.png,0,1\nb3.png,1,1\n"


@pytest.fixture
def padded(workplace):
    """Five crops, of which the readers agree on three; the squares of all."""
    folder = make_table(TEXT, ["a1.png", "a2.png", "b1.png", "b2.png", "b3.png"], card=CARD)
    set_params({"pad.size": 8})
    list_crops()
    pad.main()
    features.main()
    return folder


def test_squares_are_those_of_the_crops_that_have_a_label(padded):
    squares = open_squares()
    assert isinstance(squares, Rows) and squares.shape == (3, 8, 8, 3)
    for name, square in zip(("a1.png", "b1.png", "b3.png"), np.array(squares), strict=True):
        assert (square == make_square(load_image(padded / name), "white", 8)).all()


def test_a_corrected_label_needs_no_image_and_no_square_again(padded):
    Path("data/table/labels.csv").write_text(TEXT.replace("a2.png,0,1", "a2.png,1,1"))
    assert len(open_squares()) == 3
    squares = Path("data/padded/images.npy").read_bytes()
    list_crops()
    assert len(open_squares()) == 4 and Path("data/padded/images.npy").read_bytes() == squares
    Path("data/table/labels.csv").write_text(TEXT.replace("0,1", "0,0"))
    list_crops()
    assert isinstance(open_squares(), np.memmap)


def test_refuses_squares_that_lack_a_crop_of_the_manifest(padded):
    text = MANIFEST.read_text()
    MANIFEST.write_text(text.replace("b1.png", "b9.png"))
    with pytest.raises(UserError, match=r"images.npy: it lacks crops that data/manifest.csv lists"):
        open_squares()
    MANIFEST.write_text(text)
    header, first, second, *rest = ROWS.read_text().splitlines(keepends=True)
    ROWS.write_text("".join([header, second, first, *rest]))
    with pytest.raises(UserError, match=r"its crops are not those that .+ was written for"):
        open_squares()


def test_rows_are_indexed_like_an_array():
    array = np.random.default_rng(0).integers(0, 9, (6, 3, 4))
    chosen = np.array([5, 0, 3, 2])
    rows, expected = Rows(array, chosen), array[chosen]
    some = np.array([2, 0])
    for key in (
        1,
        -1,
        np.int64(2),
        slice(1, 3),
        some,
        np.array([True, False, True, False]),
        (some, 0),
        (1, slice(0, 2), slice(1, 3)),
        (slice(None), 0),
        (some, slice(0, 2)),
        np.ix_(some, [0, 2]),
    ):
        assert np.array_equal(rows[key], expected[key])
    assert len(rows) == 4 and rows.shape == expected.shape and rows.dtype == expected.dtype
    assert np.array_equal(np.asarray(rows, dtype=np.float32), expected)
    assert np.array_equal(np.stack(list(rows)), expected)
