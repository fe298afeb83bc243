"""The files of a dataset, each image opened once, whatever its label."""

import hashlib
from pathlib import Path

from stages.base.errors import UserError
from stages.base.files import sha256
from stages.dataset.crops import CropFile, Files
from stages.images.opening import DOUBTS, TooLittleMemory, decode, finish, pixel_digest
from stages.intake.listing import list_images, no_image
from stages.intake.names import refuse_twins
from stages.workers.cores import on_all_cores


def open_files(folder: Path) -> Files:
    """Return what is below the folder of a dataset, with all images opened, on all cores.

    Raises:
        UserError: there is no image; a file or folder is a link that leads out, or has a name that
            cannot be used; a picture does not fit in memory. Any other image that does not open is
            no error, but has a `problem`.
        OSError: a file cannot be read, which says nothing about what it holds.
    """
    listing = list_images(folder)
    listing.refuse_problems()
    listing.warn_of_ignored()
    if not listing.images:
        raise no_image(folder)
    refuse_twins(listing.images, folder)
    jobs = [(folder, path) for path in listing.images]
    crops = list(on_all_cores(open_crop, jobs, "checking"))
    digests = {
        path: sha256(folder / path) if (folder / path).is_file() else "" for path in listing.others
    }
    return Files(crops, digests, listing.ignored)


def open_crop(folder: Path, path: str) -> CropFile:
    """Return a file below a folder, with its picture or why it does not open."""
    file = folder / path
    data = file.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    try:
        image = finish(lambda: decode(data, file), file)
    except TooLittleMemory:
        raise
    except UserError as error:
        return CropFile(path, 0, 0, digest, "", problem=str(error))
    return CropFile(path, *image.size, digest, pixel_digest(image), tuple(image.info[DOUBTS]))
