"""The crops of a model's dataset, known by their pixels: they cannot measure how good it is."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from stages.base.files import damaged, missing_of_model, read_table, write_table

CROPS = Path("models/crops.csv")
# Hexadecimal digits of the digest of a crop's pixels: among a million crops, two are equal by
# chance once in forty million.
DIGITS = 16
LEARNED_FROM, NOT_LEARNED_FROM = ("train", "val"), ("test", "locked")


def write_crops(pixels: Iterable[str], splits: Iterable[str], path: Path = CROPS) -> None:
    """Write the crops of a training, sorted by their digests.

    Args:
        pixels: digests by `pixel_digest`.
        splits: `train` or `val` for crops that the model learned from, else `test` or `locked`.
    """
    seen = {digest[:DIGITS]: split for digest, split in zip(pixels, splits)}
    write_table(path, ("pixels_sha256", "split"), sorted(seen.items()))


class Seen(NamedTuple):
    """The split of each crop of a model's dataset, by the first digits of its digest."""

    splits: Mapping[str, str]

    def knows(self, digest: str) -> bool:
        """Return whether a crop was in the model's dataset, including the test set."""
        return digest[:DIGITS] in self.splits

    def trained_on(self, digest: str) -> bool:
        """Return whether a crop was used to fit the model or to choose the epoch or threshold."""
        return self.splits.get(digest[:DIGITS]) in LEARNED_FROM


def read_crops(path: Path) -> Seen:
    """Return what `write_crops` wrote. Raises `UserError` if it is missing or damaged."""
    try:
        pixels, splits = read_table(path, ("pixels_sha256", "split"))
    except FileNotFoundError:
        raise missing_of_model(path) from None
    if not set(splits) <= {*(known := (*LEARNED_FROM, *NOT_LEARNED_FROM))}:
        raise damaged(path, f"split must be one of {', '.join(known)}")
    return Seen(dict(zip(pixels, splits)))
