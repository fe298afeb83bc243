"""Tables that a laboratory brings: reading them, and finding the files that they name."""

import csv
import io
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from stages.base.errors import UserError, refuse
from stages.base.parameters import quoted
from stages.images.opening import SUFFIXES
from stages.intake.listing import list_images


def composed(name: str) -> str:
    # A disk may hold an accented letter as two characters where the table, written elsewhere, holds it as one.
    return unicodedata.normalize("NFC", name)


def read_rows(table: Path, wanted: Sequence[str]) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return the header of a table, and of each row that is not empty its line and its fields by column, without spaces around.

    Comma, semicolon or tab stand between the columns: whichever gives the `wanted` ones, which are not asked for here.

    Raises:
        UserError: the table cannot be read, a column stands there twice, or rows are shorter or longer than the header.
        FileNotFoundError: there is no such file.
    """
    try:
        text = table.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{table} is not UTF-8 text; save it as CSV UTF-8") from None
    try:
        for separator in ",;\t,":
            lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
            header = next(lines, [])
            if set(wanted) <= set(header):
                break
        rows = [(lines.line_num, row) for row in lines if any(field.strip() for field in row)]
    except csv.Error as error:
        raise UserError(f"{table} is not a table that can be read: {error}") from None
    # Of two columns of one name nobody knows which is meant.
    refuse([f"{table} has the column {quoted(name)} {header.count(name)} times" for name in wanted if header.count(name) > 1])
    refuse(
        [
            f"{table}, line {line}: {len(row)} fields where the header has {len(header)}"
            for line, row in rows
            if len(row) != len(header)
        ]
    )
    return header, [(line, dict(zip(header, (field.strip() for field in row)))) for line, row in rows]


def read_columns(table: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Return the rows of a table as `read_rows` does, and refuse one that is not there or lacks one of the `columns`."""
    try:
        header, rows = read_rows(table, columns)
    except FileNotFoundError:
        raise UserError(f"there is no file {table}") from None
    refuse([f"{table} has no column {name}; it has {', '.join(header)}" for name in columns if name not in header])
    return rows


def by_name(paths: Iterable[str]) -> dict[str, list[str]]:
    """Return the paths that a name in a table may mean, by their composed whole path and by their composed last part."""
    known = defaultdict(list)
    for path in paths:
        for name in {composed(path), composed(PurePosixPath(path).name)}:
            known[name].append(path)
    return known


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
    found = _find(read_columns(source, ("name",)), list_images(source.parent)[0], source)
    return source.parent, sorted(set(found))


def read_labels(table: Path, name_column: str, label_column: str, names: Sequence[str]) -> dict[str, int]:
    """Return the labels of `names`, from a table that may hold more.

    Raises:
        UserError: the table or a column is missing, a label is neither 0 nor 1, a row fits several crops, or a crop has no
            label or two.
    """
    labels: dict[str, int] = {}
    problems = []
    known = by_name(names)
    for line, row in read_columns(table, (name_column, label_column)):
        name, label = row[name_column], row[label_column]
        fits = known.get(composed(name), [])
        if len(fits) > 1:
            problems.append(f"{table}, line {line}: {name!r} fits {len(fits)} crops: {', '.join(fits[:3])}")
        elif fits and label not in ("0", "1"):
            problems.append(f"{table}, line {line}: the label of {name} is {label!r}; it must be 0 or 1")
        elif fits and labels.setdefault(fits[0], int(label)) != int(label):
            problems.append(f"{table}, line {line}: {name} has both labels")
    refuse(problems)
    refuse([f"{table} has no label of {name}" for name in names if name not in labels])
    return labels


def _find(rows: Sequence[tuple[int, dict[str, str]]], paths: Sequence[str], table: Path) -> list[str]:
    # Names are looked up in the listing and never joined to a path: no row reaches outside the folder.
    known = by_name(paths)
    found, problems = [], []
    for line, row in rows:
        fits = known.get(composed(row["name"]), [])
        found += fits[:1]
        if len(fits) != 1:
            what = f"fits {len(fits)} files" if fits else f"is not in {table.parent}"
            problems.append(f"{table}, line {line}: {row['name']!r} {what}")
    refuse(problems)
    return found
