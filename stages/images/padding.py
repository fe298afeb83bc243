"""Pad many crops, on all cores or on a cluster, and draw a picture of the result."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from stages.base.errors import UserError, refuse
from stages.images.opening import load_image, pixel_digest
from stages.images.parameters import Mode
from stages.images.sheets import contact_sheet
from stages.images.squares import make_square
from stages.workers.cluster import connect, in_any_order
from stages.workers.cores import on_all_cores
from stages.workers.growing import GrowingArray
from stages.workers.progress import progress

GROUP = 64  # crops that a worker of a cluster pads at a time


class Crop(NamedTuple):
    """A file to pad, and the `pixel_digest` that it must have; None for any."""

    file: Path
    pixels_sha256: str | None = None


def pad_all(
    crops: Sequence[Crop],
    mode: Mode,
    size: int,
    rows: GrowingArray,
    scheduler: str | None = None,
) -> None:
    """Write the missing squares of `crops` to the `rows` of an array, on all cores.

    Args:
        rows: uint8 (N, size, size, 3), row i for crop i.
        scheduler: the address of a Dask cluster to use instead; its workers need the same paths.

    Raises:
        UserError: some files cannot be read, or show another picture.
    """
    problems: dict[int, str] = {}
    missing = rows.missing
    items = [(crops[row], mode, size) for row in missing]
    padded: Iterable[tuple[int, np.ndarray | str]]
    if scheduler is None:
        padded = zip(missing, on_all_cores(pad_one, items, "padding"))
    else:
        padded = pad_on_cluster(crops, missing, mode, size, scheduler)
    for row, square in padded:
        if isinstance(square, str):
            problems[row] = square
        else:
            rows.write(np.array([row]), square[None])
    refuse(problems[row] for row in sorted(problems))


def pad_one(crop: Crop, mode: Mode, size: int) -> np.ndarray | str:
    """Return the square of a crop, or what is wrong with its file."""
    try:
        image = load_image(crop.file)
        if crop.pixels_sha256 is not None and crop.pixels_sha256 != pixel_digest(image):
            raise UserError(
                f"{crop.file}: it shows another picture than when the manifest was written; "
                "run `dvc repro`"
            )
        return make_square(image, mode, size)
    except UserError as error:
        return str(error)


def pad_on_cluster(
    crops: Sequence[Crop], missing: np.ndarray, mode: Mode, size: int, scheduler: str
) -> Iterator[tuple[int, np.ndarray | str]]:
    """Yield each missing row and its `pad_one`, from the workers of a Dask cluster."""
    # Workers have other working folders.
    wanted = [crops[row]._replace(file=crops[row].file.absolute()) for row in missing]
    with (
        connect(scheduler) as client,
        progress(total=len(wanted), desc="padding", unit="image") as bar,
    ):
        starts = range(0, len(wanted), GROUP)
        groups = ((start, wanted[start : start + GROUP], mode, size) for start in starts)
        for (first, *_), padded in in_any_order(client, pad_group, groups):
            if isinstance(padded, BaseException):
                raise UserError(
                    f"the cluster at {scheduler} failed to pad {wanted[first].file} and the next "
                    f"ones: {padded}"
                )
            yield from zip(missing[first : first + GROUP], padded)
            bar.update(len(padded))


def pad_group(first: int, crops: Sequence[Crop], mode: Mode, size: int) -> list[np.ndarray | str]:
    """Return `pad_one` of each of some crops; `first` tells them apart."""
    return [pad_one(crop, mode, size) for crop in crops]


def padding_picture(
    folder: Path,
    paths: Sequence[str],
    labels: Sequence[str],
    widths: Sequence[str],
    heights: Sequence[str],
    images: np.ndarray,
    mode: Mode,
    per_class: int = 4,
) -> Image.Image:
    """Return a sheet of a few crops, unpadded and padded: of each class, the tallest to the widest.

    Which crops it shows depends only on the manifest, so that all modes show the same ones.
    """
    aspect = np.array(widths, dtype=float) / np.array(heights, dtype=float)
    chosen: list[int] = []
    for label in ("1", "0"):
        rows = [row for row in np.argsort(aspect, kind="stable") if labels[row] == label]
        places = np.linspace(0, len(rows) - 1, min(per_class, len(rows))).round().astype(int)
        chosen += [rows[place] for place in places]
    originals = [load_image(folder / paths[row]).convert("RGB") for row in chosen]
    padded = [Image.fromarray(images[row]) for row in chosen]
    names = [
        f"as it is: {widths[row]} x {heights[row]} pixels\n{Path(paths[row]).name}"
        for row in chosen
    ]
    size = images.shape[1]
    how = f"padded: {mode}, {size} x {size} pixels"
    kinds = [f"{how}\n{'not ' * (labels[row] != '1')}globally sclerotic" for row in chosen]
    heading = "Above: crops as they are. Below: as the model takes them."
    return contact_sheet(originals + padded, names + kinds, columns=len(chosen), heading=heading)
