"""The images of the chosen dataset as the manifest and the split list them, and their squares."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.files import damaged, read_table

MANIFEST = Path("data/manifest.csv")
SPLIT = Path("data/split.csv")
IMAGES = Path("data/padded/images.npy")
FEATURES = Path("data/features/features.npy")
SPLITS = ("train", "val", "test")
CLASS_NAMES = ("non_globally_sclerotic", "globally_sclerotic")  # of label 0 and of label 1


class Cohort(NamedTuple):
    """N images in the order of the manifest; row i of the squares is image i.

    `paths`, `slides` and `splits` are text arrays (N,), `labels` is int64 (N,).
    """

    paths: np.ndarray
    labels: np.ndarray
    slides: np.ndarray
    splits: np.ndarray

    def rows(self, split: str) -> np.ndarray:
        """Return the rows of `train`, `val` or `test`, int64 (n,), ascending."""
        return np.flatnonzero(self.splits == split)


def read_cohort() -> Cohort:
    """Return the images of data/manifest.csv with their part in data/split.csv.

    Raises:
        UserError: a file is damaged, or the two are not of the same images.
    """
    paths, labels, slides = read_table(MANIFEST, ("path", "label", "slide"))
    split_paths, splits = read_table(SPLIT, ("path", "split"))
    if split_paths != paths:
        raise damaged(SPLIT, f"it does not list the images of {MANIFEST}")
    return Cohort(np.array(paths), np.array(labels, dtype=np.int64), np.array(slides), np.array(splits))


def open_squares() -> np.ndarray:
    """Return the padded squares, uint8 (N, size, size, 3), memory-mapped: what is not asked for is not read.

    Raises:
        UserError: the file is damaged.
    """
    return _open(IMAGES)


def open_features() -> np.ndarray:
    """Return the backbone's features of the squares' eight orientations, float32 (N, 8, D), memory-mapped.

    Raises:
        UserError: the file is damaged.
    """
    return _open(FEATURES)


def _open(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r")
    except ValueError as error:
        raise damaged(path, error) from None
