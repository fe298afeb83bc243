"""The images below a folder, and what file systems leave there beside them."""

import os
from pathlib import Path

from stages.base.errors import refuse
from stages.base.parameters import quoted
from stages.images.opening import SUFFIXES

CLUTTER = ("thumbs.db", "desktop.ini")


def list_images(folder: Path) -> tuple[list[str], list[str]]:
    """Return the files below `folder` that are images by their name, and the others, as sorted relative paths.

    Hidden files and a file manager's own (Thumbs.db) are passed over. Paths have forward slashes on every system.

    Raises:
        UserError: a link leads out of the folder, or a name is not valid text.
        OSError: a folder cannot be read; what is in it must not be missing without a word.
    """

    def stop(error: OSError) -> None:
        raise error

    images: list[str] = []
    others: list[str] = []
    problems: list[str] = []
    home = folder.resolve()
    for parent, folders, names in os.walk(folder, onerror=stop):
        for name in folders:
            if (Path(parent) / name).is_symlink():
                problems.append(f"{Path(parent) / name} is a link to a folder; links to folders are not followed")
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            file = Path(parent) / name
            if name.startswith(".") or name.lower() in CLUTTER:
                continue
            if file.is_symlink() and not _may_follow(file, home):
                problems.append(f"{quoted(str(file))} is a link that leads out of {folder}")
            elif not file.is_file():
                problems.append(f"{quoted(str(file))} is not a file")
            elif not name.isprintable():
                problems.append(f"{quoted(str(file))} has a character in its name that is not printable text; rename it")
            else:
                relative = file.relative_to(folder).as_posix()
                (images if file.suffix.lower() in SUFFIXES else others).append(relative)
    refuse(sorted(problems))
    return sorted(images), sorted(others)


def _may_follow(link: Path, home: Path) -> bool:
    # With `cache.type = symlink`, DVC itself lays a dataset out as links into its cache, .../files/md5/ab/cdef...
    target = link.resolve()
    return target.is_relative_to(home) or target.parts[-4:-2] == ("files", "md5")
