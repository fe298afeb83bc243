"""The images of the manifest with their split, and their squares and features."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from pydantic import BaseModel

from stages.base.errors import UserError
from stages.base.files import damaged, read_record, read_table, write_json, write_table
from stages.dataset.crops import CropFile, crops_digest

MANIFEST = Path("data/manifest.csv")
SPLIT = Path("data/split.csv")
FOLDS = Path("data/folds.csv")
IMAGES = Path("data/padded/images.npy")
FEATURES = Path("data/features/features.npy")
# Of another tool, matched to the crops; without rows if the model uses none.
EMBEDDINGS = Path("data/embeddings.npy")
# The crop of each row of the squares and of the features.
ROWS = IMAGES.with_name("crops.csv")
# Next to each array is a card: how it was made.
SQUARES_CARD, FEATURES_CARD = IMAGES.with_name("card.json"), FEATURES.with_name("card.json")
SPLITS = ("train", "val", "test")
# Of slides that the card locks, unless they are the test set.
LOCKED = "locked"
# Printed if no two images share a slide.
SINGLE = (
    "each crop is a separate slide: nothing keeps a patient's crops together, and leakage is "
    "unknown"
)
CLASS_NAMES = ("non_globally_sclerotic", "globally_sclerotic")  # of label 0 and of label 1


class Cohort(NamedTuple):
    """N images in the order of the manifest; row i of `open_squares` is image i.

    `paths`, `slides`, `sites` (empty if unknown), `splits` and `pixels_sha256` (digests of the
    decoded pixels) are text arrays (N,); `labels`, `published` (before the card's corrections) and
    `folds` (0: the test set, -1: locked) are int64 (N,).
    """

    paths: np.ndarray
    labels: np.ndarray
    slides: np.ndarray
    splits: np.ndarray
    folds: np.ndarray
    published: np.ndarray
    pixels_sha256: np.ndarray
    sites: np.ndarray

    @property
    def has_no_test(self) -> bool:
        """Whether all slides are for training; each member of an ensemble leaves one fold out."""
        return not np.any(self.splits == "test")

    def seen_by(self, ensemble: bool) -> np.ndarray:
        """Return `splits` as the model sees them: an ensemble's members train on `val`, too."""
        return np.where(self.folds > 0, "train", self.splits) if ensemble else self.splits

    def rows(self, split: str) -> np.ndarray:
        """Return the rows of `train`, `val` or `test`, int64 (n,), ascending."""
        return np.flatnonzero(self.splits == split)


def leakage(slides: np.ndarray, splits: np.ndarray) -> float | None:
    """Return the share of test images whose slide is also in train: 0 if slides are kept apart.

    None without a test set, and if no two images share a slide: patients are then unknown.
    """
    if not np.any(splits == "test") or are_single(slides):
        return None
    return float(np.mean(np.isin(slides[splits == "test"], slides[splits == "train"])))


def are_single(slides: np.ndarray) -> bool:
    """Return whether each of several images is a separate slide, as by `group: none` in a card."""
    return 1 < len(np.unique(slides)) == len(slides)


def read_cohort() -> Cohort:
    """Return the images of data/manifest.csv with their splits in data/split.csv.

    Raises:
        UserError: a file is damaged, or the two list different images.
    """
    columns = ("path", "label", "slide", "published", "pixels_sha256", "site")
    paths, labels, slides, published, pixels, sites = read_table(MANIFEST, columns)
    *drawn_for, splits, folds = read_table(SPLIT, ("path", "label", "slide", "split", "fold"))
    if drawn_for != [paths, labels, slides]:
        raise UserError(
            f"{SPLIT}: it was drawn for other crops, labels or slides than {MANIFEST} lists; "
            "run `dvc repro`"
        )
    known = (*SPLITS, LOCKED)
    if unknown := sorted({*splits} - {*known}):
        raise damaged(SPLIT, f"a split is {unknown[0]!r}; it must be one of {', '.join(known)}")
    return Cohort(
        paths=np.array(paths),
        labels=np.array(labels, dtype=np.int64),
        slides=np.array(slides),
        splits=np.array(splits),
        folds=np.array(folds, dtype=np.int64),
        published=np.array(published, dtype=np.int64),
        pixels_sha256=np.array(pixels),
        sites=np.array(sites),
    )


class Rows:
    """Some rows of a memory-mapped array; only those that an index selects are read.

    It is indexed like an array, and has no other operations.
    """

    def __init__(self, array: np.ndarray, rows: np.ndarray):
        self.array, self.rows = array, rows
        self.shape, self.dtype = (len(rows), *array.shape[1:]), array.dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> np.ndarray:
        first, *others = key if isinstance(key, tuple) else (key,)
        return self.array[(self.rows[first], *others)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)


def open_squares() -> np.ndarray:
    """Return the squares of the manifest's crops, uint8 (N, size, size, 3), memory-mapped.

    It is a `Rows` if the manifest leaves crops out.

    Raises:
        UserError: the file is damaged, or lacks crops that the manifest lists.
    """
    return _of_manifest(IMAGES, open_all_squares())


def open_all_squares() -> np.ndarray:
    """Return the squares of all crops that open, as `pad` wrote them, in the order of
    data/crops.csv: uint8 (N, size, size, 3), memory-mapped.

    Raises:
        UserError: the file is damaged.
    """
    card = read_squares_card()
    return _open(IMAGES, np.uint8, (card.crops, card.size, card.size, 3), card.sample_sha256)


def _of_manifest(path: Path, array: np.ndarray) -> np.ndarray:
    """Return the rows of `array`, from the file `path`, of the crops that the manifest lists."""
    columns = ("path", "pixels_sha256")
    here, listed = read_table(ROWS, columns), read_table(MANIFEST, columns)
    if crops_digest(*here) != read_squares_card().crops_sha256:
        raise damaged(ROWS, f"its crops are not those that {SQUARES_CARD} was written for")
    if here == listed:
        return array
    row_of = {crop: row for row, crop in enumerate(zip(*here))}
    rows = [row_of.get(crop, -1) for crop in zip(*listed)]
    if -1 in rows:
        raise UserError(f"{path}: it lacks crops that {MANIFEST} lists; run `dvc repro`")
    return cast(np.ndarray, Rows(array, np.array(rows, dtype=np.int64)))


class SquaresCard(BaseModel):
    """How the squares were made, and from which crops.

    Attributes:
        crops_sha256: of the names and pixels of all crops.
        sample_sha256: of some rows; it differs for other crops and for another order.
    """

    mode: str
    size: int
    crops: int
    crops_sha256: str
    sample_sha256: str


class FeaturesCard(BaseModel):
    """How the features were made.

    `squares` is None without features: other squares are then no reason to train again.
    """

    squares: SquaresCard | None
    parameters: dict[str, Any]
    shape: list[int]
    sample_sha256: str


def write_squares_card(mode: str, size: int, crops: Sequence[CropFile]) -> None:
    """Write what says how the squares were made, and which crop each row is."""
    rows = [(crop.path, crop.pixels_sha256) for crop in crops]
    write_table(ROWS, ("path", "pixels_sha256"), rows)
    card = SquaresCard(
        mode=mode,
        size=size,
        crops=len(rows),
        crops_sha256=crops_digest(
            [crop.path for crop in crops], [crop.pixels_sha256 for crop in crops]
        ),
        sample_sha256=_sample(_load(IMAGES)),
    )
    write_json(SQUARES_CARD, card.model_dump())


def read_squares_card() -> SquaresCard:
    """Return how the squares were made. Raises `UserError` if the file is damaged."""
    return read_record(SQUARES_CARD, SquaresCard)


def write_features_card(parameters: dict[str, Any]) -> None:
    """Write the card of features that were made from the squares with `parameters`."""
    features = _load(FEATURES)
    card = FeaturesCard(
        squares=read_squares_card() if len(features) else None,
        parameters=parameters,
        shape=list(features.shape),
        sample_sha256=_sample(features),
    )
    write_json(FEATURES_CARD, card.model_dump())


def open_features(parameters: dict[str, Any] | None = None) -> np.ndarray:
    """Return the backbone's features of views of the squares of the manifest's crops.

    Args:
        parameters: that the features must have been made with; None for any.

    Returns:
        float32 (N, views, D), memory-mapped, perhaps a `Rows`: the orientations, beginning with the
        upright one, then jittered views. Without a frozen backbone it has no rows.

    Raises:
        UserError: the file is damaged, or the features are of other squares or another backbone.
    """
    card = read_record(FEATURES_CARD, FeaturesCard)
    if card.squares not in (None, read_squares_card()):
        raise UserError(
            f"{FEATURES}: it holds features of other squares than {IMAGES}; run `dvc repro`"
        )
    if parameters is not None and card.parameters != parameters:
        raise UserError(
            f"{FEATURES}: it was made by other parameters than params.yaml holds now; "
            "run `dvc repro`"
        )
    features = _open(FEATURES, np.float32, tuple(card.shape), card.sample_sha256)
    return _of_manifest(FEATURES, features) if len(features) else features


def _open(path: Path, dtype: type, shape: tuple[int, ...], sample_sha256: str) -> np.ndarray:
    array = _load(path)
    if array.dtype != dtype or array.shape != shape:
        raise damaged(path, f"it holds {array.dtype} {array.shape}, not {np.dtype(dtype)} {shape}")
    if _sample(array) != sample_sha256:
        card = path.with_name("card.json")
        raise damaged(path, f"its rows are not those that {card} was written for")
    return array


def _load(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r")
    except ValueError as error:
        raise damaged(path, error) from None


def _sample(array: np.ndarray) -> str:
    """Return the SHA-256 of at most 64 rows, evenly spaced: reading a large array takes seconds."""
    rows = np.linspace(0, max(0, len(array) - 1), min(64, len(array))).astype(np.int64)
    return hashlib.sha256(array[rows].tobytes()).hexdigest()
