"""The crops that a model knows, by what they show: a crop that it was trained on says nothing of
how good it is.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from stages.base.files import damaged, missing_of_model, read_table, write_table

CROPS = Path("models/crops.csv")
# So many hexadecimal digits of the digest of a crop's pixels: among a million crops two agree by
# chance once in forty million.
DIGITS = 16
SPLITS = ("train", "val", "test")


def write_crops(pixels: Iterable[str], splits: Iterable[str], path: Path = CROPS) -> None:
    """Write the crops of a training, sorted by their digests.

    Args:
        pixels: digests by `pixel_digest`.
        splits: `train` and `val` of crops that were learned from, `test` of those that were not.
    """
    write_table(
        path,
        ("pixels_sha256", "split"),
        sorted({digest[:DIGITS]: split for digest, split in zip(pixels, splits)}.items()),
    )


class Seen:
    """The crops that a model knows: which part of its dataset each was in, by the beginning of its
    digest.
    """

    def __init__(self, splits: Mapping[str, str]):
        self.splits = splits

    def knows(self, digest: str) -> bool:
        """Return whether a crop was in the model's dataset, the test set included."""
        return digest[:DIGITS] in self.splits

    def trained_on(self, digest: str) -> bool:
        """Return whether the model learned from a crop: by fitting, or by choosing the best epoch
        or the threshold.
        """
        return self.splits.get(digest[:DIGITS], "test") != "test"


def read_crops(path: Path) -> Seen:
    """Return what `write_crops` wrote. Raises `UserError` if it is missing or damaged."""
    try:
        pixels, splits = read_table(path, ("pixels_sha256", "split"))
    except FileNotFoundError:
        raise missing_of_model(path) from None
    if not set(splits) <= set(SPLITS):
        raise damaged(path, f"split must be one of {', '.join(SPLITS)}")
    return Seen(dict(zip(pixels, splits)))
