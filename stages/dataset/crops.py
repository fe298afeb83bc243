"""data/crops.csv: every image of a dataset, opened once, whatever its label.

data/crops.json says of which dataset it is, and what else lies in its folder.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from stages.base.errors import UserError
from stages.base.files import (
    Sha256,
    damaged,
    iterate_table,
    read_record,
    sha256,
    write_json,
    write_table,
)
from stages.base.parameters import DatasetName

CROPS, CROPS_CARD = Path("data/crops.csv"), Path("data/crops.json")


class CropFile(NamedTuple):
    """An image below the folder of a dataset, as it opened: a row of data/crops.csv.

    Attributes:
        path: relative to the dataset's folder, as it is on disk.
        width: in pixels, as `height`; 0 if the image does not open.
        sha256: the digest of the file.
        pixels_sha256: the digest of the picture; files of one picture may differ in the first only.
            Empty if the image does not open.
        doubts: what is doubtful about the picture.
        problem: why the image does not open; empty if it does.
    """

    path: str
    width: int
    height: int
    sha256: str
    pixels_sha256: str
    doubts: tuple[str, ...] = ()
    problem: str = ""


class Files(NamedTuple):
    """What is below the folder of a dataset, by relative path.

    Attributes:
        crops: the files that are images by their names, sorted by path.
        others: the SHA-256 digest of each other file, such as a table of labels.
        ignored: hidden and system files, and folders (with a / at the end) with all they hold.
    """

    crops: list[CropFile]
    others: dict[str, str]
    ignored: list[str]

    def below(self, folder: str) -> "Files":
        """Return what is below one of the folders, by the path relative to that."""
        start = f"{folder}/"

        def cut(path: str) -> str:
            return path.removeprefix(start)

        return Files(
            [one._replace(path=cut(one.path)) for one in self.crops if one.path.startswith(start)],
            {cut(path): one for path, one in self.others.items() if path.startswith(start)},
            [cut(path) for path in self.ignored if path.startswith(start)],
        )


class CropsCard(BaseModel):
    """data/crops.json: the dataset of data/crops.csv, and the rest of `Files`."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: DatasetName
    crops_sha256: Sha256
    others: dict[str, str]
    ignored: list[str]


def write_files(name: str, files: Files) -> None:
    """Write data/crops.csv and data/crops.json for the dataset of a name."""
    rows = ((*crop[:5], "\n".join(crop.doubts), crop.problem) for crop in files.crops)
    write_table(CROPS, CropFile._fields, rows)
    card = CropsCard(
        name=name, crops_sha256=sha256(CROPS), others=files.others, ignored=files.ignored
    )
    write_json(CROPS_CARD, card.model_dump())


def read_files(name: str) -> Files:
    """Return what `write_files` wrote for the dataset of a name.

    Raises:
        UserError: the files are damaged, or of another dataset.
    """
    card = read_record(CROPS_CARD, CropsCard)
    if card.name != name:
        raise UserError(
            f"{CROPS_CARD}: it is of the dataset {card.name!r}, and params.yaml: data is {name!r}; "
            "run `dvc repro`"
        )
    if card.crops_sha256 != sha256(CROPS):
        raise UserError(f"{CROPS_CARD}: it was written with another {CROPS}; run `dvc repro`")
    return Files(read_crops(), card.others, card.ignored)


def read_crops(path: Path = CROPS) -> list[CropFile]:
    """Return the rows of data/crops.csv. Raises `UserError` if it is damaged."""
    rows = iterate_table(path, CropFile._fields)
    try:
        return [
            CropFile(path, int(width), int(height), digest, pixels, _lines(doubts), problem)
            for path, width, height, digest, pixels, doubts, problem in rows
        ]
    except ValueError as error:
        raise damaged(path, error) from None


def _lines(text: str) -> tuple[str, ...]:
    return tuple(text.split("\n")) if text else ()


def crops_digest(paths: Iterable[str], pixels: Iterable[str]) -> str:
    """Return the SHA-256 digest of the names of crops and the digests of their pixels."""
    rows = (f"{path}\t{digest}\n" for path, digest in zip(paths, pixels))
    return hashlib.sha256("".join(rows).encode()).hexdigest()
