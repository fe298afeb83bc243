"""The images below a folder, without what file systems, editors and archives leave there."""

import os
import re
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from stages.base.errors import UserError, refuse, warn
from stages.base.files import is_in_cache
from stages.base.parameters import quoted
from stages.dataset.card import Dataset
from stages.images.archives import SUFFIX as ARCHIVE
from stages.images.archives import archives_in, is_archive, is_ignored, members_at
from stages.images.opening import SUFFIXES

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
        refuse(dict.fromkeys(self.problems[path] for path in sorted(self.problems)))


def list_images(folder: Path) -> Listing:
    """List what is below a folder, also the images in ZIP archives, as if these were unpacked.

    Links to files are followed inside the folder and to DVC's cache.

    Raises:
        OSError: a folder cannot be read; its content must not be missing silently.
    """

    def stop(error: OSError) -> None:
        raise error

    found = Listing(folder, [], [], [], {})
    with_archives: set[PurePosixPath] = set()
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
            if is_archive(name):
                with_archives.add(inside)
            if is_ignored(name):
                found.ignored.append(_printable(path))
            elif problem := _name_problem(name):
                found.problems[path] = f"{quoted(str(file))} {problem}"
            elif file.suffix.lower() not in SUFFIXES and not is_archive(name):
                found.others.append(path)
            elif problem := _file_problem(file, folder):
                found.problems[path] = problem
            elif not is_archive(name):
                found.images.append(path)
    if with_archives:
        _list_members(found, with_archives)
    for paths in (found.images, found.others, found.ignored):
        paths.sort()
    return found


def _list_members(found: Listing, folders: Iterable[PurePosixPath]) -> None:
    """Add what the archives in `folders` hold to a listing; a path twice is a problem."""
    # The archive of each path, "" of a file; one object per archive, for a million crops.
    taken = dict.fromkeys(found.images, "")
    refused: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for inside in sorted(folders):
        start = "" if inside == PurePosixPath() else f"{inside}/"
        for archive, member, problem in archives_in(found.folder / inside).listed():
            here, path, parts = f"{start}{archive}", f"{start}{member}", member.split("/")
            unpacked = here[: -len(ARCHIVE)]
            problem = problem or _name_problem(member) or ""
            if not member:
                found.problems.setdefault(here, f"{quoted(str(found.folder / here))} {problem}")
                continue
            if any(is_ignored(part) for part in parts if part not in (".", "..")):
                found.ignored.append(f"{here}/{_printable(member)}")
                continue
            if is_archive(parts[-1]):
                problem = "is an archive in an archive; unpack it"
            elif os.path.splitext(member)[1].rstrip().lower() not in SUFFIXES:
                found.others.append(f"{here}/{_printable(member)}")
                continue
            elif here in found.problems:
                # The archive is a link that leads out of the folder, but `locate` would read it.
                problem = "is in an archive that is not read"
            elif path in taken:
                problem = f"is also in {found.folder / taken[path]}; remove one"
            elif taken.get(f"{unpacked}/{member}") == "":
                problem = f"is also in {found.folder / unpacked}; remove one"
            elif path.count("/") > DEEPEST_FOLDER:
                problem = f"is in {DEEPEST_FOLDER} folders; nest them less deeply"
            if problem:
                refused[start, archive, problem].append(member)
            else:
                found.images.append(path)
                taken[path] = sys.intern(here)
    for (start, archive, problem), members in refused.items():
        first = quoted(f"{found.folder / start / archive}/{members[0][-200:]}")
        more = f" ({len(members) - 1} more in this archive)" if len(members) > 1 else ""
        line = f"{first} {problem}{more}"
        found.problems.update((start + member, line) for member in members)
    found.images[:] = [path for path in found.images if path not in found.problems]


def _folder_problem(folder: Path, depth: int) -> str | None:
    here = quoted(str(folder))
    if depth >= DEEPEST_FOLDER:
        return f"{here} is in {DEEPEST_FOLDER} folders; nest them less deeply"
    if problem := _name_problem(folder.name):
        return f"{here} {problem}"
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


def _name_problem(name: str) -> str | None:
    if re.search("[\ud800-\udfff]", name):
        return "has a name that is not UTF-8 text; rename it"
    if has_control(name):
        return "has a control character in its name; rename it"
    suffix = os.path.splitext(name)[1]
    if suffix != suffix.rstrip() and suffix.rstrip().lower() in SUFFIXES:
        return "has a space at the end of its name; rename it"
    return None


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


def list_crops(folder: Path) -> Listing:
    """List what is below a folder of crops, and print one line that counts the ignored files.

    Raises:
        UserError: something below the folder cannot be read, or it holds no image.
    """
    listing = list_images(folder)
    listing.refuse_problems()
    if ignored := listing.ignored:
        shown = ", ".join(map(quoted, ignored[:5])) + ", ..." * (len(ignored) > 5)
        warn(
            f"{folder}: ignored {len(ignored)} hidden files or folders, or leftovers of file "
            f"systems, editors or archives ({shown})"
        )
    if not listing.images:
        raise no_image(folder)
    return listing


def no_image(folder: Path) -> UserError:
    """Return the error for a folder without an image."""
    return UserError(f"{folder} holds no image; {READABLE}")


def find_table(
    dataset: Dataset, key: Literal["labels", "corrections"], must_exist: bool = True
) -> Path:
    """Return the table that a card names: in the dataset's folder, or else in `dataset.tables`.

    Raises:
        UserError: it is in both, in neither, hidden, or a link that leads out.
    """
    name = str(getattr(dataset.card, key))
    # `crops` notes no digest of what it ignores, so that a changed label would rerun nothing.
    if any(map(is_ignored, PurePosixPath(name).parts)):
        raise dataset.error(key, "its name is that of a hidden file or a leftover; rename it")
    inside, beside = dataset.folder / name, dataset.tables / name
    if os.path.lexists(inside) and os.path.lexists(beside):
        raise dataset.error(key, f"{inside} and {beside} exist; remove one of them")
    table, folder = (
        (beside, dataset.tables) if os.path.lexists(beside) else (inside, dataset.folder)
    )
    if not table.exists():
        if member := next(members_at(dataset.folder, name), None):
            raise dataset.error(key, f"{member}: tables in archives are not read; unpack it")
        if must_exist:
            raise dataset.error(key, f"{inside} does not exist, nor does {beside}")
    elif not may_follow(table, folder):
        raise dataset.error(key, f"{table} is a link that leads out of {folder}")
    return table
