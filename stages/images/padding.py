"""Pad many crops, on all cores or on a cluster, and draw a picture of the result."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from PIL import Image

from stages.base.errors import UserError, refuse
from stages.images.archives import File
from stages.images.opening import load_image, pixel_digest
from stages.images.parameters import Mode
from stages.images.sheets import contact_sheet
from stages.images.squares import make_square
from stages.workers.cluster import connect, in_any_order
from stages.workers.cores import on_all_cores
from stages.workers.growing import GrowingArray, Target
from stages.workers.progress import progress

# What a worker of a cluster pads at a time: bytes of squares, and crops.
BLOCK, MOST_CROPS = 2**24, 64


class Crop(NamedTuple):
    """A file to pad, and the `pixel_digest` that it must have; None for any."""

    file: File
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
            They write the squares themselves if they see the file of `rows`, too.

    Raises:
        UserError: some files cannot be read, or show another picture.
    """
    problems: dict[int, str] = {}
    padded: Iterable[tuple[int, np.ndarray | str | None]]
    if scheduler is None:
        items = [(crops[row], mode, size) for row in rows.missing]
        padded = zip(rows.missing, on_all_cores(pad_one, items, "padding"))
    else:
        padded = pad_on_cluster(crops, mode, size, rows, scheduler)
    for row, square in padded:
        if isinstance(square, str):
            problems[row] = square
        else:
            rows.write(np.array([row]), None if square is None else square[None])
    refuse(problems[row] for row in sorted(problems))


def pad_one(crop: Crop, mode: Mode, size: int) -> np.ndarray | str:
    """Return the square of a crop, or what is wrong with its file."""
    try:
        image = load_image(crop.file)
        if crop.pixels_sha256 is not None and crop.pixels_sha256 != pixel_digest(image):
            raise UserError(
                f"{crop.file}: it shows another picture than when the crops were listed; "
                "run `dvc repro`"
            )
        return make_square(image, mode, size)
    except UserError as error:
        return str(error)


def pad_on_cluster(
    crops: Sequence[Crop], mode: Mode, size: int, rows: GrowingArray, scheduler: str
) -> Iterator[tuple[int, np.ndarray | str | None]]:
    """Yield each missing row and its square, or what is wrong with its file, from Dask's workers.

    The square is None if the worker has written it to the file of `rows`.
    """
    missing = rows.missing
    several = int(np.clip(BLOCK // (3 * size * size), 1, MOST_CROPS))
    blocks = (missing[start : start + several] for start in range(0, len(missing), several))
    items = (
        # Workers have other working folders.
        (block, [crops[row]._replace(file=crops[row].file.absolute()) for row in block], mode, size)
        for block in blocks
    )
    with (
        rows.shared() as target,
        connect(scheduler) as client,
        progress(total=len(missing), desc="padding", unit="image") as bar,
    ):
        for (block, some, *_), padded in in_any_order(client, partial(pad_block, target), items):
            if isinstance(padded, BaseException):
                raise UserError(
                    f"the cluster at {scheduler} failed to pad {some[0].file} and the next "
                    f"ones: {padded}"
                )
            yield from zip(block, padded)
            bar.update(len(block))


def pad_block(
    target: Target, rows: Iterable[int], crops: Iterable[Crop], mode: Mode, size: int
) -> list[np.ndarray | str | None]:
    """Return `pad_one` of each crop, or None for each square that is written to the `target`."""
    padded: list[np.ndarray | str | None] = [pad_one(crop, mode, size) for crop in crops]
    if not target.is_seen():
        return padded
    squares = {row: square for row, square in zip(rows, padded) if isinstance(square, np.ndarray)}
    target.write(squares, squares.values())
    return [square if isinstance(square, str) else None for square in padded]


def padding_picture(
    files: Sequence[File],
    sizes: Sequence[tuple[int, int]],
    squares: np.ndarray,
    mode: Mode,
    shown: int = 8,
) -> Image.Image:
    """Return a sheet of a few crops, unpadded and padded, from the tallest to the widest.

    Which crops it shows depends only on their sizes, so that all modes show the same ones.

    Args:
        sizes: (width, height) of each of the files.
        squares: of the files, uint8 (N, size, size, 3).
    """
    order = np.argsort([width / height for width, height in sizes], kind="stable")
    places = np.linspace(0, len(order) - 1, min(shown, len(order))).round().astype(int)
    chosen = order[places].tolist()
    originals = [load_image(files[row]).convert("RGB") for row in chosen]
    padded = [Image.fromarray(squares[row]) for row in chosen]
    names = [
        f"as it is: {sizes[row][0]} x {sizes[row][1]} pixels\n{files[row].name}" for row in chosen
    ]
    size = squares.shape[1]
    how = [f"padded: {mode}, {size} x {size} pixels"] * len(chosen)
    heading = "Above: crops as they are. Below: as the model takes them."
    return contact_sheet(originals + padded, names + how, columns=len(chosen), heading=heading)
