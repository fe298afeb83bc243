"""The files of a dataset, each image opened once, whatever its label."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from stages.base.errors import UserError
from stages.base.files import sha256
from stages.dataset.crops import CROPS, CropFile, Files, read_crops
from stages.images.archives import locate
from stages.images.opening import DOUBTS, TooLittleMemory, decode, finish, pixel_digest
from stages.intake.listing import list_crops
from stages.intake.names import refuse_twins
from stages.workers.cores import on_all_cores
from stages.workers.growing import keys_file, row_keys
from stages.workers.previous import previous_output


def opened_before(code: str) -> dict[str, CropFile]:
    """Return the images that opened in the last run of `crops`, by the digests of their files.

    Args:
        code: the fingerprint of what opens images: those that another code opened are left out.
    """
    table, of_rows = previous_output(CROPS), previous_output(keys_file(CROPS))
    if not table or not of_rows:
        return {}
    try:
        crops, keys = read_crops(table), np.load(of_rows)
    except UserError:  # It has other columns.
        return {}
    same = (keys == row_keys(code, (crop.sha256 for crop in crops))).all(axis=1)
    return {crop.sha256: crop for crop, known in zip(crops, same) if known and not crop.problem}


def open_files(folder: Path, known: Mapping[str, CropFile] | None = None) -> Files:
    """Return what is below the folder of a dataset, with all images opened, on all cores.

    Args:
        known: images that opened before, by the digests of their files, which are not decoded.

    Raises:
        UserError: there is no image; a file or folder is a link that leads out, or has a name that
            cannot be used; a picture does not fit in memory. Any other image that does not open is
            no error, but has a `problem`.
        OSError: a file cannot be read, which says nothing about what it holds.
    """
    listing = list_crops(folder)
    refuse_twins(listing.images, folder)
    jobs = [(folder, path, known or {}) for path in listing.images]
    crops = list(on_all_cores(open_crop, jobs, "checking"))
    digests = {
        path: sha256(folder / path) if (folder / path).is_file() else "" for path in listing.others
    }
    return Files(crops, digests, listing.ignored)


def open_crop(folder: Path, path: str, known: Mapping[str, CropFile]) -> CropFile:
    """Return a file below a folder, with its picture or why it does not open."""
    file, digest = locate(folder, path), ""
    try:
        data = file.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        if digest in known:
            return known[digest]._replace(path=path)
        image = finish(lambda: decode(data, file), file)
    except TooLittleMemory:
        raise
    except UserError as error:
        return CropFile(path, 0, 0, digest, "", problem=str(error))
    return CropFile(path, *image.size, digest, pixel_digest(image), tuple(image.info[DOUBTS]))
