"""Tables that a laboratory brings: reading them, and finding the files that they name."""

import csv
import io
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from stages.base.errors import UserError, refuse
from stages.images.opening import SUFFIXES
from stages.intake.listing import list_images


def composed(name: str) -> str:
    # A disk may hold an accented letter as two characters where the table, written elsewhere, holds it as one.
    return unicodedata.normalize("NFC", name)


def open_columns(text: str, wanted: tuple[str, ...]) -> tuple[Any, list[str]]:
    """Return a reader behind the header, and the header: by the separator that gives the wanted columns, or by comma."""
    for separator in ",;\t,":
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        header = next(lines, [])
        if set(wanted) <= set(header):
            break
    return lines, header


def list_crops(source: Path) -> tuple[Path, list[str]]:
    """Return the folder of the crops and their paths in it, sorted: all images below `source`, or those that a table names.

    Raises:
        UserError: there is no such folder or table, no image in it, or a name in the table fits no file or several.
    """
    if source.is_dir():
        names, _ = list_images(source)
        if not names:
            raise UserError(f"{source} holds no image; formats that are read end in {', '.join(sorted(SUFFIXES))}")
        return source, names
    if not source.is_file():
        raise UserError(f"{source} is neither a folder nor a file")
    rows = _read_columns(source, ("name",))
    found = _find([row[0] for row in rows], list_images(source.parent)[0], source)
    return source.parent, sorted(set(found))


def read_labels(table: Path, name_column: str, label_column: str, names: Sequence[str]) -> dict[str, int]:
    """Return the labels of `names`, from a table that may hold more.

    Raises:
        UserError: the table or a column is missing, a label is neither 0 nor 1, or a name has no label or two.
    """
    labels: dict[str, int] = {}
    problems = []
    known = _by_name(names)
    for name, label in _read_columns(table, (name_column, label_column)):
        for path in known.get(name, []):
            if label not in ("0", "1"):
                problems.append(f"{table}: the label of {name} is {label!r}; it must be 0 or 1")
            elif labels.setdefault(path, int(label)) != int(label):
                problems.append(f"{table}: {name} has both labels")
    refuse(problems)
    refuse([f"{table} has no label of {name}" for name in names if name not in labels])
    return labels


def _read_columns(table: Path, columns: tuple[str, ...]) -> list[tuple[str, ...]]:
    try:
        lines, header = open_columns(table.read_text(encoding="utf-8-sig"), columns)
        missing = [name for name in columns if name not in header]
        refuse([f"{table} has no column {name}; it has {', '.join(header)}" for name in missing])
        places = [header.index(name) for name in columns]
        return [tuple(row[place].strip() for place in places) for row in lines if any(row)]
    except (FileNotFoundError, UnicodeDecodeError, csv.Error, IndexError) as error:
        raise UserError(f"{table} is not a table that can be read: {error}") from None


def _by_name(paths: Sequence[str]) -> dict[str, list[str]]:
    known = defaultdict(list)
    for path in paths:
        for name in {path, PurePosixPath(path).name}:
            known[name].append(path)
    return known


def _find(names: Sequence[str], paths: Sequence[str], table: Path) -> list[str]:
    # Names are looked up in the listing and never joined to a path: no row reaches outside the folder.
    known = _by_name(paths)
    refuse(
        [
            f"{table}: {name!r} " + (f"fits {len(known[name])} files" if name in known else f"is not in {table.parent}")
            for name in names
            if len(known.get(name, [])) != 1
        ]
    )
    return [known[name][0] for name in names]
