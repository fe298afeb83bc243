"""Read and write tables (CSV) and JSON; a file gets its final name only when it is complete."""

import csv
import hashlib
import json
import os
import re
import stat
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any, TypeVar

from pydantic import BaseModel, Field, ValidationError

from stages.base.errors import UserError, refuse
from stages.base.strict_json import parse_json

Record = TypeVar("Record", bound=BaseModel)
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# What the folder of a model holds.
MODEL_FILES = ("model.keras", "model.json", "calibration.json", "novelty.npz", "crops.csv")
# The earliest date that a zip archive can hold.
FIXED_TIME = (1980, 1, 1, 0, 0, 0)
# The name of a file in DVC's cache: .../files/md5/ab/cdef... of DVC 3, .../ab/cdef... of DVC 2.
IN_CACHE = re.compile(r".*/(files/md5/../[^/]+|[0-9a-f]{2}/[0-9a-f]{30}(\.dir)?)", re.DOTALL)


def is_in_cache(path: str | Path) -> bool:
    """Return whether a path is named like a file in DVC's cache, to which only DVC writes."""
    return IN_CACHE.fullmatch(Path(path).as_posix()) is not None


@contextmanager
def replacing(path: str | Path, binary: bool = False) -> Iterator[IO]:
    """Open a file for writing that is named `path` only when the block ends without an error.

    Missing folders are made. Text is UTF-8 with plain line feeds on every system. A link is
    followed, unless it leads into DVC's cache. A device, such as /dev/stdout, is written into.

    Raises:
        UserError: `path` is a folder, a pipe, a socket or a disk.
    """
    path = writable(path)
    how: dict[str, Any] = (
        {"mode": "wb"} if binary else {"mode": "w", "encoding": "utf-8", "newline": ""}
    )
    if path.exists() and not path.is_file():
        with open(path, **how) as file:
            yield file
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with open(part, **how) as file:
            yield file
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def writable(path: str | Path) -> Path:
    """Return the file to write: `path`, or the end of a link that does not lead into DVC's cache.

    Raises:
        UserError: nothing can be written there.
    """
    if str(path) in ("", "."):
        raise UserError(f"{str(path)!r} is not the name of a file to write to")
    path, end = Path(path), Path(os.path.realpath(path))
    try:
        kind = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        place = end if path.is_symlink() else path
        blocking = next(parent for parent in place.parents if os.path.lexists(parent))
        if not (blocking.is_dir() and os.access(blocking, os.W_OK)):
            why = "may not be written to" if blocking.is_dir() else "is not a folder"
            raise UserError(f"{path} cannot be written: {blocking} {why}") from None
        return place
    except OSError as error:  # Such as a link to itself, or a name that is too long.
        raise UserError(f"{path} cannot be written: {error.strerror}") from None
    if stat.S_ISDIR(kind):
        raise UserError(f"{path} is a folder; it must be the name of a file to write to")
    if stat.S_ISREG(kind):
        return end if path.is_symlink() and not is_in_cache(end) else path
    # /dev/stdout is a device, or the unnamed pipe of a shell. A named pipe may have no reader.
    if stat.S_ISCHR(kind) or (stat.S_ISFIFO(kind) and not end.exists()):
        return path
    raise UserError(f"{path} is neither a file nor a device; nothing is written there")


def refuse_outputs(outputs: Mapping[str, Path], inputs: Iterable[Path] = ()) -> None:
    """Check before any work that its results can be written.

    Args:
        outputs: files to write, by their names in an error, such as `--output`.
        inputs: files that are read.

    Raises:
        UserError: one of the files cannot be written, two are the same, or one is an input.
    """
    problems = []
    taken: dict[Any, str] = {}
    for name, path in outputs.items():
        try:
            place = writable(path)
        except UserError as error:
            problems.append(f"{name}: {error}")
            continue
        if not place.exists() or place.is_file():
            same = taken.setdefault(identity(place), name)
            if same != name:
                problems.append(
                    f"{name} and {same} are the same file, {path}; give each another name"
                )
    read = {identity(path): path for path in inputs} if taken else {}
    problems += [
        f"{name} would write over {read[one]}, which is read"
        for one, name in taken.items()
        if one in read
    ]
    refuse(problems)


def identity(path: Path) -> Any:
    """Return what all names of a file share, also hard links, or other cases on some disks."""
    try:
        found = os.stat(path)
    except OSError:
        return os.path.realpath(path)
    return found.st_dev, found.st_ino


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as indented JSON. Raises `ValueError` for NaN and infinity."""
    with replacing(path) as file:
        json.dump(content, file, indent=2, ensure_ascii=False, allow_nan=False)
        file.write("\n")


def write_archive(path: str | Path, entries: Iterable[tuple[str, bytes]]) -> None:
    """Write an uncompressed zip archive whose bytes depend only on names and contents.

    The bytes of NumPy's `savez` depend on the version of Python: 3.11.2 and 3.11.7 mark entries
    that may exceed 4 GiB differently.
    """
    with replacing(path, binary=True) as file, zipfile.ZipFile(file, "w") as archive:
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name, FIXED_TIME), content)


def read_json(path: str | Path) -> Any:
    """Read a JSON file that an earlier stage wrote. Raises `UserError` if it is damaged."""
    try:
        return parse_json(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise damaged(path, error) from None


def read_record(path: str | Path, schema: type[Record]) -> Record:
    """Read a JSON file that an earlier stage wrote. Raises `UserError` if it is damaged."""
    return parse_record(Path(path).read_bytes(), schema, path)


def parse_record(content: str | bytes, schema: type[Record], where: object) -> Record:
    """Return the content of such a file like `read_record`; errors name it `where`."""
    try:
        return schema.model_validate(parse_json(content))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) + ": " * bool(first["loc"])
        raise damaged(where, f"{field}{first['msg'].removeprefix('Value error, ')}") from None
    except ValueError as error:
        raise damaged(where, error) from None


def read_json_as(path: str | Path, schema: type[Record]) -> Record:
    """Read a JSON file of a model. Raises `UserError` if it is missing or damaged."""
    try:
        return read_record(path, schema)
    except (FileNotFoundError, NotADirectoryError):
        raise missing_of_model(path) from None


# Where a spreadsheet may read a formula (OWASP, CSV injection): at the beginning of a text, and
# after a semicolon or line end, which a program set to semicolons takes for the end of a cell.
FORMULA = r"""(?:^|(?<=[;\r\n])){}(?=['" ]*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20])"""
# Marks what follows as text.
TEXT = "'"
_UNMARKED, _MARKED = (re.compile(FORMULA.format(mark)) for mark in ("", TEXT))


def as_cell(value: Any) -> Any:
    """Return a value for a table, with a ' before what a spreadsheet would run as a formula.

    >>> [as_cell(text) for text in ("=1+1.png", "'=1+1.png", "a;=1;b.png", "-0.5", "a.png")]
    ["'=1+1.png", "''=1+1.png", "a;'=1;b.png", '-0.5', 'a.png']
    """
    if not isinstance(value, str) or not _UNMARKED.search(value) or is_number(value):
        return value
    return _UNMARKED.sub(TEXT, value)


def from_cell(text: str) -> str:
    """Return the text that `as_cell` wrote.

    >>> from_cell("'=1+1.png"), from_cell("a;'=1;b.png"), from_cell("'a'")
    ('=1+1.png', 'a;=1;b.png', "'a'")
    """
    return _MARKED.sub("", text) if TEXT in text else text


def is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text) is not None


def write_table(path: str | Path, columns: Sequence[str], rows: Iterable[Sequence]) -> None:
    """Write a CSV file: a header of `columns`, then `rows`, each as long; see `as_cell`."""
    with replacing(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(map(as_cell, columns))
        writer.writerows([as_cell(value) for value in row] for row in rows)


def read_table(path: str | Path, columns: Sequence[str]) -> list[list[str]]:
    """Return the values of the named `columns`, as text, of a CSV file that a stage wrote.

    Raises:
        UserError: the file is damaged.
    """
    with open(path, encoding="utf-8", newline="") as file:
        return parse_table(file, columns, path)


def parse_table(lines: Iterable[str], columns: Sequence[str], where: object) -> list[list[str]]:
    """Return `columns` like `read_table` from the `lines` of a CSV file; errors name it `where`."""
    table: list[list[str]] = [[] for _ in columns]
    for row in _rows(lines, columns, where):
        for values, value in zip(table, row):
            values.append(value)
    return table


def iterate_table(path: str | Path, columns: Sequence[str]) -> Iterator[list[str]]:
    """Yield the rows of a table like `read_table`: it need not fit in memory."""
    with open(path, encoding="utf-8", newline="") as file:
        yield from _rows(file, columns, path)


def _rows(lines: Iterable[str], columns: Sequence[str], where: object) -> Iterator[list[str]]:
    try:
        reader = csv.reader(lines)
        header = next(reader, [])
        places = [header.index(name) for name in columns]
        for row in reader:
            yield [from_cell(row[place]) for place in places]
    except (ValueError, IndexError, csv.Error) as error:
        raise damaged(where, error) from None


def missing_of_model(path: object) -> UserError:
    """Return the error for a file that is missing in the folder of a model."""
    return UserError(f"{path} does not exist; the folder of a model holds {', '.join(MODEL_FILES)}")


def damaged(path: object, reason: object) -> UserError:
    """Return the error for a file that has changed since a stage wrote it."""
    return UserError(f"{path} is not as its stage wrote it ({reason}); `dvc repro` writes it anew")


def sha256(path: str | Path) -> str:
    """Return the SHA-256 digest of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
