"""The images below a folder, without what file systems, editors and archives leave there."""

import os
import re
import unicodedata
from fnmatch import translate
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from stages.base.errors import UserError, refuse, warn
from stages.base.files import is_in_cache
from stages.base.parameters import quoted
from stages.dataset.card import Dataset
from stages.images.opening import SUFFIXES

# Names in lower case, in lines for Windows (two), macOS and archives made there, network drives
# (thumbnails, deleted files, snapshots), and editors, viewers and synchronization. All that begins
# with a dot is ignored anyway, such as .DS_Store, ._a.png, .@__thumb and .Trash-1000.
IGNORED = (
    r"thumbs.db|ehthumbs*.db|desktop.ini|$recycle.bin|recycler|recycled|system volume information"
    r"|*:zone.identifier|*:encryptable|found.[0-9][0-9][0-9]|~$*"
    "|icon\r|icon\uf00d|__macosx|network trash folder|temporary items|desktop db|desktop df"
    r"|@eadir|#recycle|@recycle|@recently-snapshot|@tmp|#snapshot|~snapshot|@gmt-*|lost+found"
    r"|*~|#*#|__pycache__|picasa.ini|zbthumbnail.info|_gsdata_|albumart*.jpg|*.dropbox.attr"
).split("|")
_IGNORED = re.compile("|".join(map(translate, IGNORED)))
# People do not nest crops this deep; a program that made folders in a loop does.
DEEPEST_FOLDER = 100
READABLE = f"readable formats end in {', '.join(sorted(SUFFIXES))}"


class Listing(NamedTuple):
    """What is below a folder, as sorted relative paths with forward slashes on every system."""

    folder: Path
    images: list[str]  # files with an image's suffix
    others: list[str]
    # Hidden and system files, and folders (with a / at the end) with all they hold.
    ignored: list[str]
    problems: dict[str, str]  # why a path is not read

    def warn_of_ignored(self) -> None:
        """Print one line that counts the ignored files, if there are any."""
        if self.ignored:
            shown = ", ".join(map(quoted, self.ignored[:5])) + ", ..." * (len(self.ignored) > 5)
            warn(
                f"{self.folder}: ignored {len(self.ignored)} hidden files or folders, or leftovers "
                f"of file systems, editors or archives ({shown})"
            )

    @property
    def unread(self) -> dict[str, str]:
        """Return why each path that a table may name is not among the images."""
        other = f"is in {self.folder}, but its format is not read; {READABLE}"
        ignored = (
            f"is ignored in {self.folder}, as a hidden file or a leftover of a file system, an "
            "editor or an archive; rename it"
        )
        reasons = dict.fromkeys(self.others, other) | dict.fromkeys(self.ignored, ignored)
        return {path: f"{quoted(path)} {why}" for path, why in reasons.items()} | self.problems

    def refuse_problems(self) -> None:
        """Raise `UserError` with all problems, where everything below the folder is requested."""
        refuse([self.problems[path] for path in sorted(self.problems)])


def list_images(folder: Path) -> Listing:
    """List what is below a folder; links to files are followed inside it and to DVC's cache.

    Raises:
        OSError: a folder cannot be read; its content must not be missing silently.
    """

    def stop(error: OSError) -> None:
        raise error

    found = Listing(folder, [], [], [], {})
    for parent, folders, names in os.walk(folder, onerror=stop):
        inside = PurePosixPath(Path(parent).relative_to(folder).as_posix())
        for name in [*folders]:
            path = str(inside / name)
            if is_ignored(name):
                found.ignored.append(_printable(path) + "/")
            elif problem := _folder_problem(Path(parent) / name, len(inside.parts)):
                found.problems[path] = problem
            else:
                continue
            folders.remove(name)
        for name in names:
            file, path = Path(parent) / name, str(inside / name)
            if is_ignored(name):
                found.ignored.append(_printable(path))
            elif problem := _name_problem(file):
                found.problems[path] = problem
            elif file.suffix.lower() not in SUFFIXES:
                found.others.append(path)
            elif problem := _file_problem(file, folder):
                found.problems[path] = problem
            else:
                found.images.append(path)
    for paths in (found.images, found.others, found.ignored):
        paths.sort()
    return found


def _folder_problem(folder: Path, depth: int) -> str | None:
    here = quoted(str(folder))
    if depth >= DEEPEST_FOLDER:
        return f"{here} is in {DEEPEST_FOLDER} folders; nest them less deeply"
    if problem := _name_problem(folder):
        return problem
    if folder.is_symlink():
        return f"{here} is a link to a folder; links to folders are not followed"
    return None


def _file_problem(file: Path, folder: Path) -> str | None:
    here = quoted(str(file))
    if file.is_symlink() and not file.exists():
        return f"{here} is not a file, but a link that leads nowhere"
    if file.is_symlink() and not may_follow(file, folder):
        return f"{here} is a link that leads out of {folder}"
    return None if file.is_file() else f"{here} is not a file"


def _name_problem(file: Path) -> str | None:
    here = quoted(str(file))
    if re.search("[\ud800-\udfff]", file.name):
        return f"{here} has a name that is not UTF-8 text; rename it"
    if has_control(file.name):
        return f"{here} has a control character in its name; rename it"
    if file.suffix != file.suffix.rstrip() and file.suffix.rstrip().lower() in SUFFIXES:
        return f"{here} has a space at the end of its name; rename it"
    return None


def is_ignored(name: str) -> bool:
    """Return whether a file or folder of this name is hidden or left by a program, not a person."""
    return name.startswith(".") or _IGNORED.match(name.lower()) is not None


def has_control(text: str) -> bool:
    """Return whether a text holds a control character (Unicode's Cc), such as a line end."""
    return not text.isprintable() and any(unicodedata.category(one) == "Cc" for one in text)


def _printable(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def may_follow(link: Path, folder: Path) -> bool:
    """Return whether a link stays in a folder or leads to DVC's cache (`cache.type = symlink`)."""
    # `Path.resolve` raises RuntimeError for a link to itself before Python 3.13.
    target = Path(os.path.realpath(link))
    return target.is_relative_to(os.path.realpath(folder)) or is_in_cache(target)


def no_image(folder: Path) -> UserError:
    """Return the error for a folder without an image."""
    return UserError(f"{folder} holds no image; {READABLE}")


def find_table(
    dataset: Dataset, key: Literal["labels", "corrections"], must_exist: bool = True
) -> Path:
    """Return the table that a card names: in the dataset's folder, or else in data/labels/.

    Raises:
        UserError: it is in both, in neither, or a link that leads out.
    """
    name = str(getattr(dataset.card, key))
    inside, beside = dataset.folder / name, dataset.tables / name
    if os.path.lexists(inside) and os.path.lexists(beside):
        raise dataset.error(key, f"{inside} and {beside} exist; remove one of them")
    table, folder = (
        (beside, dataset.tables) if os.path.lexists(beside) else (inside, dataset.folder)
    )
    if not table.exists():
        if must_exist:
            raise dataset.error(key, f"{inside} does not exist, nor does {beside}")
    elif not may_follow(table, folder):
        raise dataset.error(key, f"{table} is a link that leads out of {folder}")
    return table
