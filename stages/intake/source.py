"""The crops to predict: all below a folder, those that a table names, or a single one."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from stages.base.errors import UserError, refuse, warn
from stages.base.files import from_cell
from stages.dataset.card import as_key
from stages.images.archives import is_archive
from stages.images.opening import SUFFIXES
from stages.intake.listing import list_crops, list_images
from stages.intake.names import Names
from stages.intake.spreadsheets import Doubtful, check_names
from stages.intake.tables import Table, read_laboratory_table

# The manifest of a dataset warns in the same words.
LEFT_OUT = "left out, not images by their name"


class CropTable(NamedTuple):
    """A table that names crops.

    Attributes:
        table: its file.
        names: its columns.
        rows: the values of a crop's row, by the crop's path.
    """

    table: Path
    names: list[str]
    rows: dict[str, list[str]]

    def of(self, column: str) -> dict[str, str] | None:
        """Return the values of a column, in any case, by crop; None if there is no such column.

        Raises:
            UserError: the column appears several times, or a spreadsheet has changed its values.
        """
        key = as_key(column)
        places = [place for place, name in enumerate(self.names) if as_key(name) == key]
        if not places:
            return None
        if len(places) > 1:
            raise UserError(
                f"{self.table}: the column {column!r} appears {len(places)} times; keep one"
            )
        values = {crop: row[places[0]] for crop, row in self.rows.items()}
        where = {crop: f"{self.table}: {crop}" for crop in values}
        refuse(
            f"{where[crop]}: {column} is {value.reason}"
            for crop, value in values.items()
            if isinstance(value, Doubtful)
        )
        if column in ("slide", "site"):
            check_names(column, ((value, where[crop]) for crop, value in values.items()))
        return values


class CropSource(NamedTuple):
    """Crops to predict: their folder, their sorted paths in it, and the table that names them."""

    folder: Path
    names: list[str]
    columns: CropTable | None


def find_crops(source: Path, labels: Path | None = None) -> CropSource:
    """Return the crops of a source, and warn of files that are left out.

    Args:
        source: a folder, whose images are all taken; a table with a column `name`, which may name
            images below its folder; or an image.
        labels: a table that is left out without a warning.

    Raises:
        UserError: there is no such folder or table, the folder holds no image, or a name in the
            table matches no file or several.
    """
    if source.is_dir():
        listing = list_crops(source)
        warn(LEFT_OUT, [path for path in listing.others if source / path != labels])
        return CropSource(source, listing.images, None)
    if not source.is_file():
        raise UserError(f"{source} is neither a folder nor a file")
    if source.suffix.lower() in SUFFIXES:
        return CropSource(source.parent, [source.name], None)
    if is_archive(source.name):
        raise UserError(f"{source} is an archive; give the folder that it is in, which is read")
    table = read_laboratory_table(source, ("name",))
    listing = list_images(source.parent)
    names = Names(listing.images, source.parent, unread=listing.unread)
    found, problems = [], []
    for number, (line, row) in enumerate(table.rows):
        if len(paths := names.find(row["name"])) == 1:
            found.append((paths[0], number))
        else:
            problems.append(f"{source}, line {line}: {names.problem(row['name'])}")
    refuse(problems)
    columns = _crop_table(table, found)
    return CropSource(source.parent, sorted(columns.rows), columns)


def read_columns(path: Path, crops: Sequence[str]) -> CropTable:
    """Return what a table with a column `name` says of `crops`; it may name others, too."""
    table, names = read_laboratory_table(path, ("name",)), Names(crops, path.parent)
    rows = enumerate(table.rows)
    return _crop_table(
        table, ((crop, number) for number, row in rows for crop in names.find(row.fields["name"]))
    )


def _crop_table(table: Table, found: Iterable[tuple[str, int]]) -> CropTable:
    """Return the columns for crops found in rows of a table; refuse two rows that differ."""
    places = [place for place, name in enumerate(table.header) if name.strip()]
    rows: dict[str, list[str]] = {}
    problems = []
    for crop, number in found:
        row = [table.values[number][place] for place in places]
        values = [value if isinstance(value, Doubtful) else from_cell(value) for value in row]
        if rows.setdefault(crop, values) != values:
            here = f"{table.path}, line {table.rows[number].line}"
            problems.append(f"{here}: {crop} appears twice, with other values; keep one row")
    refuse(problems)
    return CropTable(table.path, [from_cell(table.header[place].strip()) for place in places], rows)
