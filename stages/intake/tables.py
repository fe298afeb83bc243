"""Reading the tables that a laboratory brings: CSV as spreadsheets write it, or .xlsx.

`stages.base.files.read_table` reads the tables that the pipeline itself wrote.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, assert_never

from stages.base.errors import UserError, refuse, warn
from stages.base.parameters import quoted
from stages.dataset.card import as_key
from stages.dataset.slides import nfc
from stages.intake.kinds import table_kind
from stages.intake.listing import has_control
from stages.intake.spreadsheets import Doubtful

SEPARATORS = ",;\t"
# Bytes of a file and characters of a line; anything larger is not a table of crops.
LARGEST_TABLE, LONGEST_LINE = 2**28, 2**20
# A column that a table must have, or several of which it must have at least one.
Wanted = str | tuple[str, ...]


class Row(NamedTuple):
    """The wanted fields of a row, by column, as written, and its line in the file, from 1."""

    line: int
    fields: dict[str, str]


class Table(NamedTuple):
    """A table: its file, its header, and the wanted fields and all values of its rows."""

    path: Path
    header: list[str]
    rows: list[Row]
    values: list[list[str]]


def read_laboratory_table(
    table: Path, wanted: Sequence[Wanted], optional: Sequence[str] = ()
) -> Table:
    """Return a table that has the `wanted` columns, perhaps `optional` ones, without empty rows.

    CSV is read in UTF-8, or in UTF-16 with a byte-order mark. The separator is a comma, semicolon
    or tab, whichever gives the wanted columns, or what a first line `sep=;` says. A workbook's
    sheet with the wanted columns is read. A column may be written in another case; empty fields
    at the end of a row may be missing.

    Raises:
        UserError: the table cannot be read as a whole and unambiguously; names the line.
        MissingColumn: a wanted column is missing.
        FileNotFoundError: the table does not exist.
    """
    if table.exists() and not table.is_file():
        kind = "a folder" if table.is_dir() else "a pipe or a device"
        raise UserError(f"{table}: {kind}; it must be a table")
    hidden: set[int] = set()
    match table_kind(table):
        case "workbook":
            # openpyxl takes as long to import as everything else here.
            from stages.intake.workbooks import read_workbook

            header, rows, hidden = read_workbook(table, lambda header: not missing(header, wanted))
        case "text":
            header, rows = _read_csv(table, wanted)
        case other:
            assert_never(other)
    if lacking := missing(header, wanted):
        raise MissingColumn(table, lacking, header)
    present = [name for one in (*wanted, *optional) for name in _present(header, one)]
    places = {name: _place(header, name, table) for name in present}
    for name, place in places.items():
        if place in hidden:
            raise UserError(f"{table}: the column {quoted(name)} is hidden; unhide or rename it")
        if isinstance(header[min(place + 1, len(header) - 1)], Doubtful):
            raise UserError(
                f"{table}: the heading {quoted(name)} is merged over several columns; "
                "give each column its own"
            )
    width = len(header)
    refuse(
        f"{table}, line {line}: {len(row)} fields; the header has {width}"
        for line, row in rows
        if any(field.strip() for field in row[width:])
    )
    if not rows:
        raise UserError(f"{table}: a header without rows; add a row for each file")
    filled = [(line, row + [""] * (width - len(row))) for line, row in rows]
    found = [Row(line, {name: row[at] for name, at in places.items()}) for line, row in filled]
    columns = {as_key(name) for name in header if name.strip()}
    refuse(f"{table}, line {row.line}: {one}" for row in found for one in _faults(row, columns))
    long = [line for line, row in rows if any("\n" in field or "\r" in field for field in row)]
    if long:
        more = f", and in {len(long) - 1} more" if len(long) > 1 else ""
        said = f"a field of several lines{more}; are its quotation marks right?"
        warn(f"{table}, line {long[0]}: {said}")
    values = [
        [one if isinstance(one, Doubtful) else one.strip() for one in row] for _, row in filled
    ]
    return Table(table, header, found, values)


def _faults(row: Row, columns: set[str]) -> Iterator[str]:
    """Yield what is wrong with the wanted fields of a row of a table with `columns`."""
    if all(as_key(field) in columns for field in row.fields.values()):
        yield "the header again; is this two tables in one file?"
    for name, value in row.fields.items():
        if isinstance(value, Doubtful):
            yield f"{name} is {f'{quoted(str(value))}, ' if value else ''}{value.reason}"
    for value in map(str.strip, row.fields.values()):
        if has_control(value):
            yield f"{quoted(value)} has a control character; is a quotation mark missing?"


class MissingColumn(UserError):
    """A table lacks a wanted column.

    Attributes:
        wanted: the column, or several of which one suffices.
        columns: a clause on the columns that the table has.
    """

    def __init__(self, table: Path, wanted: Wanted, header: Sequence[str]):
        self.wanted = wanted
        self.columns = f"it has {', '.join(map(quoted, header))}" if any(header) else "it is empty"
        names = " or ".join(map(quoted, _alternatives(wanted)))
        super().__init__(f"{table}: no column {names}; {self.columns}")


def _alternatives(wanted: Wanted) -> tuple[str, ...]:
    return (wanted,) if isinstance(wanted, str) else wanted


def missing(header: Sequence[str], wanted: Sequence[Wanted]) -> Wanted | None:
    """Return the first of the `wanted` columns that is missing, or None."""
    return next((one for one in wanted if not _present(header, one)), None)


def _present(header: Sequence[str], wanted: Wanted) -> list[str]:
    known = set(map(as_key, header))
    return [name for name in _alternatives(wanted) if as_key(name) in known]


def _place(header: Sequence[str], name: str, table: Path) -> int:
    """Return where a column is: the one of exactly this name, or the only one in another case."""
    loose = [place for place, column in enumerate(header) if as_key(column) == as_key(name)]
    exact = [place for place in loose if nfc(header[place]).strip() == nfc(name).strip()]
    places = exact or loose
    if len(places) > 1:
        raise UserError(
            f"{table}: the column {quoted(name)} appears {len(places)} times "
            f"({', '.join(quoted(header[place]) for place in places)}); keep one"
        )
    others = [quoted(header[place]) for place in loose if place not in places]
    if others or not exact:
        instead = f", not {' or '.join(others)}" if others else ""
        column = quoted(header[places[0]])
        warn(f"{table}: the column {column} is read as {quoted(name)}{instead}")
    return places[0]


def _read_csv(
    table: Path, wanted: Sequence[Wanted]
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    text = _decoded(table)
    separators, skipped = SEPARATORS, 0
    first = re.match(r"[^\r\n]*(\r\n|\r|\n|$)", text)
    assert first
    # A line for Excel that states the separator.
    if stated := re.fullmatch(r'"?sep=(.)"?', first[0].rstrip("\r\n"), re.IGNORECASE):
        separators, skipped, text = stated[1], 1, text[first.end() :]
    try:
        headers = {separator: _header(text, separator) for separator in separators}
        fits = [separator for separator in separators if not missing(headers[separator], wanted)]
        separator = fits[0] if fits else max(separators, key=lambda one: len(headers[one]))
        return headers[separator], _rows(text, separator, skipped)
    except csv.Error as error:
        raise UserError(f"{table}: not a valid CSV table: {error}") from None


def _header(text: str, separator: str) -> list[str]:
    rows = csv.reader(_lines(text), delimiter=separator)
    return next((row for row in rows if any(field.strip() for field in row)), [])


def _rows(text: str, separator: str, skipped: int) -> list[tuple[int, list[str]]]:
    """Return the rows below the header that are not empty, each with the line it begins in."""
    # Strict: a quotation that does not end, or ends within a field, would silently swallow rows.
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
    if (size := table.stat().st_size) > LARGEST_TABLE:
        raise UserError(f"{table}: {size:,} bytes; a table has at most {LARGEST_TABLE:,}")
    content = table.read_bytes()
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8"
    try:
        text = content.decode(encoding).lstrip("\ufeff")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(
            f"{table}, line {line}: not UTF-8 text; save the table as CSV UTF-8 "
            "(in Excel a separate format)"
        ) from None
    # UTF-16 and UTF-32 without a byte-order mark hold zero bytes; a mark further down begins a
    # second file.
    if mark := re.search("\0|[\r\n]\ufeff", text):
        line = len(re.findall(r"\r\n|\r|\n", text[: mark.end()])) + 1
        reason = (
            "a zero byte, which no text has" if mark[0] == "\0" else "a second table begins here"
        )
        raise UserError(f"{table}, line {line}: {reason}; save one table as CSV UTF-8")
    return text
