"""The crops that are to be judged: those below a folder, those that a table names, or one."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from stages.base.errors import UserError, refuse, warn
from stages.base.files import from_cell
from stages.images.opening import SUFFIXES
from stages.intake.listing import list_images, no_image
from stages.intake.names import Names
from stages.intake.spreadsheets import Doubtful, check_names
from stages.intake.tables import Table, loosely, read_table

# As the manifest of a dataset says it.
LEFT_OUT = "left out, not images by their name"


class Columns(NamedTuple):
    """All columns of a table that names crops, and of each crop, by its path, the values of its
    row.
    """

    table: Path
    names: list[str]
    rows: dict[str, list[str]]

    def of(self, column: str) -> dict[str, str] | None:
        """Return the values of a column, in whatever case, by crop; None where it is not there.

        Raises:
            UserError: it is there several times, or a spreadsheet has changed what stands in it.
        """
        places = [
            place for place, name in enumerate(self.names) if loosely(name) == loosely(column)
        ]
        if len(places) > 1:
            raise UserError(
                f"{self.table} has the column {column!r} {len(places)} times, and nobody knows which is meant"
            )
        values = {crop: row[places[0]] for crop, row in self.rows.items()} if places else {}
        where = {crop: f"{self.table}: {crop}" for crop in values}
        refuse(
            [
                f"{where[crop]}: {column} is {value.reason}"
                for crop, value in values.items()
                if isinstance(value, Doubtful)
            ]
        )
        if column in ("slide", "site"):
            check_names(column, ((value, where[crop]) for crop, value in values.items()))
        return values if places else None


class Found(NamedTuple):
    """Crops that were found: their folder, their paths in it, sorted, and the columns of the table
    that names them, if any.
    """

    folder: Path
    names: list[str]
    columns: Columns | None


def find_crops(source: Path, labels: Path | None = None) -> Found:
    """Return the crops of a source: all images below `source`, those that a table names in its
    column `name` and that are beside it, or `source` itself, an image. Warns of what is left out,
    but for the table `labels`.

    Raises:
        UserError: there is no such folder or table, no image in it, or a name in the table fits no
            file or several.
    """
    if source.is_dir():
        listing = list_images(source)
        listing.refuse_problems()
        listing.warn_of_left_behind()
        warn(
            LEFT_OUT, [path for path in listing.others if labels is None or source / path != labels]
        )
        if not listing.images:
            raise no_image(source)
        return Found(source, listing.images, None)
    if not source.is_file():
        raise UserError(f"{source} is neither a folder nor a file")
    if source.suffix.lower() in SUFFIXES:
        return Found(source.parent, [source.name], None)
    table = read_table(source, ("name",))
    listing = list_images(source.parent)
    names = Names(listing.images, source.parent, unread=listing.unread)
    found, problems = [], []
    for number, (line, row) in enumerate(table.rows):
        name = row["name"]
        if len(paths := names.find(name)) == 1:
            found.append((paths[0], number))
        else:
            problems.append(f"{source}, line {line}: {names.problem(name)}")
    refuse(problems)
    columns = _columns(table, found)
    return Found(source.parent, sorted(columns.rows), columns)


def read_columns(table: Path, crops: Sequence[str]) -> Columns:
    """Return what a table with a column `name` says of some crops, among others. See `find_crops`,
    which names them by it.
    """
    read, known = read_table(table, ("name",)), Names(crops, table.parent)
    return _columns(
        read,
        [
            (path, number)
            for number, row in enumerate(read.rows)
            for path in known.find(row.fields["name"])
        ],
    )


def _columns(table: Table, found: Sequence[tuple[str, int]]) -> Columns:
    """Return the columns of crops that were found in rows of a table. Raises `UserError` where two
    rows of a crop differ.
    """
    places = [place for place, name in enumerate(table.header) if name.strip()]
    rows: dict[str, list[str]] = {}
    problems = []
    for path, number in found:
        row = [table.values[number][place] for place in places]
        values = [value if isinstance(value, Doubtful) else from_cell(value) for value in row]
        if rows.setdefault(path, values) != values:
            problems.append(
                f"{table.path}, line {table.rows[number].line}: {path} stands there twice, with other values"
            )
    refuse(problems)
    return Columns(table.path, [from_cell(table.header[place].strip()) for place in places], rows)
