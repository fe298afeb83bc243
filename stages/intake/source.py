"""The crops that are to be judged: those below a folder, those that a table names, or one."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from stages.base.errors import UserError, refuse, warn
from stages.base.files import from_cell
from stages.images.opening import SUFFIXES
from stages.intake.listing import list_images, no_image
from stages.intake.names import Names
from stages.intake.tables import read_all, read_rows

# As the manifest of a dataset says it.
LEFT_OUT = "left out, not images by their name"


def find_crops(source: Path, labels: Path | None = None) -> tuple[Path, list[str]]:
    """Return the folder of the crops and their paths in it, sorted: all images below `source`, those that a table names in
    its column `name` and that are beside it, or `source` itself, an image. Warns of what is left out, but for the table `labels`.

    Raises:
        UserError: there is no such folder or table, no image in it, or a name in the table fits no file or several.
    """
    if source.is_dir():
        listing = list_images(source)
        listing.refuse_problems()
        listing.warn_of_left_behind()
        warn(LEFT_OUT, [path for path in listing.others if labels is None or source / path != labels])
        if not listing.images:
            raise no_image(source)
        return source, listing.images
    if not source.is_file():
        raise UserError(f"{source} is neither a folder nor a file")
    if source.suffix.lower() in SUFFIXES:
        return source.parent, [source.name]
    rows = read_rows(source, ("name",))
    listing = list_images(source.parent)
    names = Names(listing.images, source.parent)
    # What a name means that is there and cannot be read; of what no row asks for nothing is said.
    unread = Names(listing.problems, source.parent)
    found, problems = {}, []
    for line, row in rows:
        name = row["name"]
        if len(paths := names.find(name)) == 1:
            found[paths[0]] = line
        else:
            why = [listing.problems[path] for path in unread.find(name)]
            problems.append(f"{source}, line {line}: {why[0] if why else names.problem(name)}")
    refuse(problems)
    return source.parent, sorted(found)


def is_table(source: Path) -> bool:
    """Return whether a source is a table that names crops, as `find_crops` takes it."""
    return source.is_file() and source.suffix.lower() not in SUFFIXES


class Columns(NamedTuple):
    """All columns of a table that names crops, and of each of some crops, by its path, the values of its row."""

    names: list[str]
    rows: dict[str, list[str]]

    def of(self, column: str) -> dict[str, str]:
        """Return the values of one column, which must be there, by crop."""
        place = self.names.index(column)
        return {crop: row[place] for crop, row in self.rows.items()}


def read_columns(table: Path, crops: Sequence[str]) -> Columns:
    """Return what a table with a column `name` says of some crops, of which each row fits at most one. See `read_rows`."""
    header, lines = read_all(table, ("name",))
    known, found = Names(crops, table.parent), {}
    for line, row in read_rows(table, ("name",)):
        for path in known.find(row["name"]):
            found[path] = [from_cell(value) for value in lines[line]]
    return Columns(header, found)
