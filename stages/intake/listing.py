"""The images below a folder, and what file systems, editors and archives leave there beside them."""

import os
import re
import sys
import unicodedata
from fnmatch import translate
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from stages.base.errors import UserError, refuse
from stages.base.files import is_in_cache
from stages.base.parameters import quoted
from stages.dataset.card import Dataset
from stages.images.opening import SUFFIXES

# In lower case; all that begins with a dot is passed over anyway, such as .DS_Store, ._a.png,
# .@__thumb and .Trash-1000.
LEFT_BEHIND = (
    # Windows
    *(
        "thumbs.db",
        "ehthumbs*.db",
        "desktop.ini",
        "$recycle.bin",
        "recycler",
        "recycled",
        "system volume information",
    ),
    *("*:zone.identifier", "*:encryptable", "found.[0-9][0-9][0-9]", "~$*"),
    # macOS, and archives that were made there
    *(
        "icon\r",
        "icon\uf00d",
        "__macosx",
        "network trash folder",
        "temporary items",
        "desktop db",
        "desktop df",
    ),
    # Boxes by Synology, QNAP, NetApp and others: thumbnails, deleted files, earlier states
    *(
        "@eadir",
        "#recycle",
        "@recycle",
        "@recently-snapshot",
        "@tmp",
        "#snapshot",
        "~snapshot",
        "@gmt-*",
        "lost+found",
    ),
    # Editors, viewers and programs that synchronize folders
    *(
        "*~",
        "#*#",
        "__pycache__",
        "picasa.ini",
        "zbthumbnail.info",
        "_gsdata_",
        "albumart*.jpg",
        "*.dropbox.attr",
    ),
)


# Nobody orders crops so; a program that made folders in a loop does.
DEEPEST = 100
_LEFT_BEHIND = re.compile("|".join(map(translate, LEFT_BEHIND)))


class Listing(NamedTuple):
    """What is below a folder, as sorted relative paths with forward slashes on every system.

    `images` are those by their names; `others` are not; `left_behind` was passed over, a folder
    with all that is in it. `problems` says of paths that are not read what is wrong with them.
    """

    folder: Path
    images: list[str]
    others: list[str]
    left_behind: list[str]
    problems: dict[str, str]

    def warn_of_left_behind(self) -> None:
        """Print one line that counts what was passed over, if there was anything."""
        if self.left_behind:
            shown = ", ".join(map(quoted, self.left_behind[:5])) + ", ..." * (
                len(self.left_behind) > 5
            )
            print(
                f"warning: passed over in {self.folder}, hidden or left behind by file systems, editors or archives: "
                f"{len(self.left_behind)} ({shown})",
                file=sys.stderr,
            )

    @property
    def unread(self) -> dict[str, str]:
        """Return why each path that a person may name is not among the images."""
        of_no_format = f"is in {self.folder}, but not of a format that is read; these end in {', '.join(sorted(SUFFIXES))}"
        passed_over = f"is ignored in {self.folder}: it is hidden, or left behind by a file system, an editor or an archive"
        reasons = {path: f"{quoted(path)} {of_no_format}" for path in self.others}
        return (
            reasons
            | {path: f"{quoted(path)} {passed_over}" for path in self.left_behind}
            | self.problems
        )

    def refuse_problems(self) -> None:
        """Raise `UserError` with all the problems, where everything below the folder is asked for."""
        refuse([self.problems[path] for path in sorted(self.problems)])


def list_images(folder: Path) -> Listing:
    """List what is below a folder. Links to files are followed where they stay in the folder or
    lead into DVC's cache.

    Raises:
        OSError: a folder cannot be read; what is in it must not be missing without a word.
    """

    def stop(error: OSError) -> None:
        raise error

    found = Listing(folder, [], [], [], {})
    for parent, folders, names in os.walk(folder, onerror=stop):
        inside = PurePosixPath(Path(parent).relative_to(folder).as_posix())
        for name in [*folders]:
            path = str(inside / name)
            if is_left_behind(name):
                found.left_behind.append(_shown(path) + "/")
            elif len(inside.parts) >= DEEPEST:
                found.problems[path] = (
                    f"{quoted(str(folder / path))} is in {DEEPEST} folders; at most so many are looked into"
                )
            elif problem := _unreadable_name(Path(parent) / name):
                found.problems[path] = problem
            elif (Path(parent) / name).is_symlink():
                found.problems[path] = (
                    f"{quoted(str(folder / path))} is a link to a folder; links to folders are not followed"
                )
            else:
                continue
            folders.remove(name)
        for name in names:
            file, path = Path(parent) / name, str(inside / name)
            if is_left_behind(name):
                found.left_behind.append(_shown(path))
            elif problem := _unreadable_name(file):
                found.problems[path] = problem
            elif file.suffix.lower() not in SUFFIXES:
                found.others.append(path)
            elif file.is_symlink() and not file.exists():
                found.problems[path] = (
                    f"{quoted(str(file))} is not a file, but a link that leads nowhere"
                )
            elif file.is_symlink() and not may_follow(file, folder):
                found.problems[path] = f"{quoted(str(file))} is a link that leads out of {folder}"
            elif not file.is_file():
                found.problems[path] = f"{quoted(str(file))} is not a file"
            else:
                found.images.append(path)
    for names in (found.images, found.others, found.left_behind):
        names.sort()
    return found


def is_left_behind(name: str) -> bool:
    """Return whether a file or folder of this name is no work of a person: hidden, or of a file
    system, an editor, an archive.
    """
    return name.startswith(".") or _LEFT_BEHIND.match(name.lower()) is not None


def has_control(text: str) -> bool:
    """Return whether a control character (Unicode's Cc), such as a line end, is in a text."""
    return not text.isprintable() and any(
        unicodedata.category(character) == "Cc" for character in text
    )


def _unreadable_name(file: Path) -> str | None:
    if re.search("[\ud800-\udfff]", file.name):
        return f"{quoted(str(file))} has a name that is not UTF-8 text; rename it"
    if has_control(file.name):
        return f"{quoted(str(file))} has a control character in its name; rename it"
    if file.suffix != file.suffix.rstrip() and file.suffix.rstrip().lower() in SUFFIXES:
        return f"{quoted(str(file))} has a space at the end of its name; rename it"
    return None


def _shown(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def may_follow(link: Path, folder: Path) -> bool:
    """Return whether a link stays in a folder or leads into DVC's cache: `cache.type = symlink`
    lays a dataset out so.
    """
    # Not `Path.resolve`, which raises RuntimeError for a link to itself before Python 3.13.
    target = Path(os.path.realpath(link))
    return target.is_relative_to(os.path.realpath(folder)) or is_in_cache(target)


def no_image(folder: Path) -> UserError:
    """Return the error for a folder without an image."""
    return UserError(
        f"{folder} holds no image; formats that are read end in {', '.join(sorted(SUFFIXES))}"
    )


def refuse_leading_out(dataset: Dataset, key: str, table: Path) -> None:
    """Raise `UserError` if the table that a card names by `key` is a link that leads out of the
    dataset's folder.
    """
    if table.exists() and not may_follow(table, dataset.folder):
        raise dataset.error(key, f"{table} is a link that leads out of {dataset.folder}")
