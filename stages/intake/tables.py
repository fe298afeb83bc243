"""Tables that a laboratory brings: CSV as spreadsheets write it, or .xlsx; the one reader of them
all.
"""

import csv
import io
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from stages.base.errors import UserError, refuse
from stages.base.parameters import quoted
from stages.dataset.slides import nfc
from stages.intake.kinds import kind_of
from stages.intake.listing import has_control
from stages.intake.spreadsheets import Doubtful

SEPARATORS = ",;\t"
# In bytes, and in characters of a line: what is larger is no table of crops.
LARGEST, LONGEST_LINE = 2**28, 2**20


class Row(NamedTuple):
    """The wanted fields of a row, by column, as written; `line` is that of the file, from 1."""

    line: int
    fields: dict[str, str]


class Table(NamedTuple):
    """A table as it was read: its file, its columns, and of the rows that are not empty the wanted
    fields, and all values.
    """

    path: Path
    header: list[str]
    rows: list[Row]
    values: list[list[str]]


def read_rows(table: Path, wanted: Sequence[str]) -> list[Row]:
    """Return the rows of a table that are not empty, with the `wanted` columns. See `read_table`."""
    return read_table(table, wanted).rows


def read_table(table: Path, wanted: Sequence[str]) -> Table:
    """Return a table that has the `wanted` columns.

    CSV in UTF-8 or, with its mark, in UTF-16; comma, semicolon or tab between the columns,
    whichever gives the wanted ones, or what a first line `sep=;` says; or the sheet of an .xlsx
    workbook that has the wanted columns. A column may be written in another case; empty fields at
    the end of a row may be missing.

    Raises:
        UserError: with the line, where the table cannot be read whole and without a doubt.
        MissingColumn: a wanted column is not there.
        FileNotFoundError: there is no such file.
    """
    if table.exists() and not table.is_file():
        kind = "a folder" if table.is_dir() else "a pipe or a device"
        raise UserError(f"{table} is {kind}; a table is asked for")
    hidden: set[int] = set()
    if kind_of(table) == "a workbook":
        # openpyxl takes as long to import as all else here.
        from stages.intake.workbooks import read_workbook

        header, rows, hidden = read_workbook(table, lambda header: not missing(header, wanted))
    else:
        header, rows = _read_csv(table, wanted)
    if lacking := missing(header, wanted):
        raise MissingColumn(table, lacking, header)
    places = {name: _place(header, name, table) for name in wanted}
    refuse(
        [
            f"{table}: the column {quoted(name)} is hidden; unhide it if it is the right one"
            for name, place in places.items()
            if place in hidden
        ]
        + [
            f"{table}: the heading {quoted(name)} is of several columns, merged; give each column its own"
            for name, place in places.items()
            if isinstance(header[min(place + 1, len(header) - 1)], Doubtful)
        ]
    )
    _refuse_ragged(table, rows, len(header))
    if not rows:
        raise UserError(f"{table} has a header and no row")
    found, values, problems = [], [], []
    columns = {loosely(name) for name in header if name.strip()}
    for line, row in rows:
        filled = row + [""] * (len(header) - len(row))
        values.append([value if isinstance(value, Doubtful) else value.strip() for value in filled])
        fields = {name: filled[place] for name, place in places.items()}
        if all(loosely(field) in columns for field in fields.values()):
            problems.append(
                f"{table}, line {line}: the header again; are these two tables, one behind the other?"
            )
        problems += [
            f"{table}, line {line}: {name} is {f'{quoted(str(value))}, ' if value else ''}{value.reason}"
            for name, value in fields.items()
            if isinstance(value, Doubtful)
        ]
        problems += [
            f"{table}, line {line}: {quoted(value.strip())} has a control character; is a quotation mark missing?"
            for value in fields.values()
            if has_control(value.strip())
        ]
        found.append(Row(line, fields))
    refuse(problems)
    long = [line for line, row in rows if any("\n" in field or "\r" in field for field in row)]
    if long:
        more = f", and in {len(long) - 1} more" if len(long) > 1 else ""
        print(
            f"warning: {table}, line {long[0]}: a field of several lines{more}; are its quotation marks right?",
            file=sys.stderr,
        )
    return Table(table, header, found, values)


class MissingColumn(UserError):
    """A table lacks a column; `column` is its name, `header` has those that are there, `there` says
    so.
    """

    def __init__(self, table: Path, column: str, header: Sequence[str]):
        self.column, self.header = column, header
        self.there = f"it has {', '.join(map(quoted, header))}" if any(header) else "it is empty"
        super().__init__(f"{table} has no column {quoted(column)}; {self.there}")


def missing(header: Sequence[str], names: Sequence[str]) -> str | None:
    """Return the first of `names` that is not a column, in whatever case."""
    known = {loosely(name) for name in header}
    return next((name for name in names if loosely(name) not in known), None)


def loosely(name: str) -> str:
    """Return the name of a column as columns are compared: case, spaces and the form of accents
    aside.
    """
    return " ".join(nfc(name).split()).casefold()


def _place(header: Sequence[str], name: str, table: Path) -> int:
    """Return where the column `name` stands: that one, or the only one that is called so in another
    case.
    """
    exact = [
        place for place, column in enumerate(header) if nfc(column).strip() == nfc(name).strip()
    ]
    loose = [place for place, column in enumerate(header) if loosely(column) == loosely(name)]
    places = exact or loose
    if len(places) > 1:
        raise UserError(
            f"{table} has the column {quoted(name)} {len(places)} times, and nobody knows which is meant: "
            + ", ".join(quoted(header[place]) for place in places)
        )
    others = [quoted(header[place]) for place in loose if place not in places]
    if others or not exact:
        instead = f", not {' or '.join(others)}" if others else ""
        print(
            f"warning: {table}: the column {quoted(header[places[0]])} is taken for {quoted(name)}{instead}",
            file=sys.stderr,
        )
    return places[0]


def _refuse_ragged(table: Path, rows: Sequence[tuple[int, list[str]]], width: int) -> None:
    refuse(
        [
            f"{table}, line {line}: {len(row)} fields where the header has {width}"
            for line, row in rows
            if any(field.strip() for field in row[width:])
        ]
    )


def _read_csv(table: Path, wanted: Sequence[str]) -> tuple[list[str], list[tuple[int, list[str]]]]:
    text = _decoded(table)
    separators, skipped = SEPARATORS, 0
    first = re.match(r"[^\r\n]*(\r\n|\r|\n|$)", text)
    assert first
    if said := re.fullmatch(r'"?sep=(.)"?', first[0].rstrip("\r\n"), re.IGNORECASE):
        # For Excel alone: what stands between the columns.
        separators, skipped, text = said[1], 1, text[first.end() :]
    try:
        headers = {separator: _header(text, separator) for separator in separators}
        fits = [separator for separator in separators if not missing(headers[separator], wanted)]
        separator = fits[0] if fits else max(separators, key=lambda one: len(headers[one]))
        return headers[separator], _rows(text, separator, skipped)
    except csv.Error as error:
        raise UserError(f"{table} is not a table that can be read: {error}") from None


def _header(text: str, separator: str) -> list[str]:
    rows = csv.reader(_lines(text), delimiter=separator)
    return next((row for row in rows if any(field.strip() for field in row)), [])


def _rows(text: str, separator: str, skipped: int) -> list[tuple[int, list[str]]]:
    """Return the rows below the header that are not empty, each with the line that it begins in."""
    # Strictly: a quotation that does not end, or ends within a field, would swallow rows without a
    # word.
    lines = csv.reader(_lines(text), delimiter=separator, strict=True)
    rows, line = [], 1 + skipped
    try:
        for row in lines:
            if any(field.strip() for field in row):
                rows.append((line, row))
            line = lines.line_num + 1 + skipped
    except csv.Error as error:
        raise csv.Error(
            f"line {line}: {error}; is a quotation mark missing, or one too many?"
        ) from None
    return rows[1:]


def _lines(text: str) -> Iterator[str]:
    for line in io.StringIO(text, newline=""):
        if len(line) > LONGEST_LINE:
            raise csv.Error(f"a line of {len(line):,} characters")
        yield line


def _decoded(table: Path) -> str:
    if (size := table.stat().st_size) > LARGEST:
        raise UserError(f"{table} has {size:,} bytes; tables of at most {LARGEST:,} are read")
    if kind := kind_of(table):
        ordinary = ", without a password" if "password" in kind else ""
        raise UserError(
            f"{table} is {kind}, not a table; save the table as CSV UTF-8 or as .xlsx{ordinary}"
        )
    content = table.read_bytes()
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8"
    try:
        text = content.decode(encoding).lstrip("\ufeff")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(
            f"{table}, line {line}: not UTF-8 text; save the table as CSV UTF-8 (in Excel a format of its own)"
        ) from None
    # Zeros stand in UTF-16 and UTF-32 without its mark; a mark within is that of a second file.
    if mark := re.search("\0|[\r\n]\ufeff", text):
        line = len(re.findall(r"\r\n|\r|\n", text[: mark.end()])) + 1
        reason = (
            "a zero byte, which no text has" if mark[0] == "\0" else "a second table begins here"
        )
        raise UserError(f"{table}, line {line}: {reason}; save one table as CSV UTF-8")
    return text
