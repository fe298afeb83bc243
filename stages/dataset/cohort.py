"""The images of the chosen dataset as the manifest and the split list them, and their squares."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.base.files import damaged, read_table

MANIFEST = Path("data/manifest.csv")
SPLIT = Path("data/split.csv")
IMAGES = Path("data/padded/images.npy")
STAINED = Path("data/stained/images.npy")
FEATURES = Path("data/features/features.npy")
SPLITS = ("train", "val", "test")
# What is said where no two images share a slide.
SINGLE = "each crop is a slide of its own: nothing keeps a patient's crops together, and leakage is not known"
CLASS_NAMES = ("non_globally_sclerotic", "globally_sclerotic")  # of label 0 and of label 1


class Cohort(NamedTuple):
    """N images in the order of the manifest; row i of the squares is image i.

    `paths`, `slides`, `splits` and `pixels`, the digests of what they show, are text arrays (N,), `labels`, `published` and
    `folds` int64 (N,). A label differs from the published one where the dataset's card corrects it. Fold 0 is the test set.
    """

    paths: np.ndarray
    labels: np.ndarray
    slides: np.ndarray
    splits: np.ndarray
    folds: np.ndarray
    published: np.ndarray
    pixels: np.ndarray

    @property
    def has_no_test(self) -> bool:
        """Whether all slides are for training: each fold is validated on by the member of an ensemble that has not seen it."""
        return not np.any(self.splits == "test")

    def rows(self, split: str) -> np.ndarray:
        """Return the rows of `train`, `val` or `test`, int64 (n,), ascending."""
        return np.flatnonzero(self.splits == split)


def leakage(slides: np.ndarray, splits: np.ndarray) -> float | None:
    """Return the share of test images whose slide is also in train: 0 where slides are kept apart.

    None without a test set, and where no two images share a slide: nothing is then known of patients.

    Args:
        slides, splits: text arrays (N,).
    """
    if not np.any(splits == "test") or are_single(slides):
        return None
    return float(np.mean(np.isin(slides[splits == "test"], slides[splits == "train"])))


def are_single(slides: np.ndarray) -> bool:
    """Return whether each of several images has a slide of its own, as with `group: none` in a card."""
    return 1 < len(np.unique(slides)) == len(slides)


def read_cohort() -> Cohort:
    """Return the images of data/manifest.csv with their part in data/split.csv.

    Raises:
        UserError: a file is damaged, or the two are not of the same images.
    """
    paths, labels, slides, published, pixels = read_table(MANIFEST, ("path", "label", "slide", "published", "pixels"))
    split_paths, splits, folds = read_table(SPLIT, ("path", "split", "fold"))
    if split_paths != paths:
        raise damaged(SPLIT, f"it does not list the images of {MANIFEST}")
    y, number, as_published = (np.array(column, dtype=np.int64) for column in (labels, folds, published))
    return Cohort(np.array(paths), y, np.array(slides), np.array(splits), number, as_published, np.array(pixels))


def open_squares() -> np.ndarray:
    """Return the squares, uint8 (N, size, size, 3), memory-mapped: what is not asked for is not read.

    They are those with normalised stains, where stains are normalised.

    Raises:
        UserError: a file is damaged.
    """
    stained = _open(STAINED)
    return stained if len(stained) else open_padded()


def open_padded() -> np.ndarray:
    """Return the squares as the stage `pad` wrote them. Raises `UserError` if the file is damaged."""
    return _open(IMAGES)


def open_features() -> np.ndarray:
    """Return the backbone's features of views of the squares, float32 (N, views, D), memory-mapped.

    The first eight views are the orientations, the first of all the square as it is; jittered views follow.

    Raises:
        UserError: the file is damaged.
    """
    return _open(FEATURES)


def _open(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r")
    except ValueError as error:
        raise damaged(path, error) from None
