"""Reading tables in Excel workbooks (.xlsx, .xlsm) with openpyxl."""

import io
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, time, timedelta
from pathlib import Path
from typing import IO, Any, NamedTuple
from xml.etree.ElementTree import Element, iterparse

from openpyxl import load_workbook
from openpyxl.utils import range_boundaries
from openpyxl.worksheet._reader import (
    CELL_TAG,
    COL_TAG,
    FORMULA_TAG,
    MERGE_TAG,
    ROW_TAG,
    WorkSheetParser,
)

from stages.base.errors import UserError, one_line, warn
from stages.base.parameters import quoted
from stages.intake.spreadsheets import Doubtful

# A workbook is a compressed archive. A table of 10^5 rows and 20 columns of numbers needs less.
MOST_UNPACKED, MOST_ELEMENTS, MOST_COLUMNS, DEEPEST_ELEMENT = 2**27, 5 * 10**6, 2**14, 100
# `MERGE_TAG` is the list of these.
MERGED_TAG = MERGE_TAG.removesuffix("s")
# The namespaces of a "Strict" Office Open XML workbook; openpyxl knows only the others.
STRICT = re.compile(rb"http://purl\.oclc\.org/ooxml/(\w+)/(\w+)")
TRANSITIONAL = rb"http://schemas.openxmlformats.org/\1/2006/\2"
# In UTF-8 and in UTF-16.
DOCUMENT_TYPES = b"<!DOCTYPE", "<!DOCTYP".encode("utf-16-le")
TRUE = "1", "true"
NEVER_COMPUTED = (
    "a formula that was never computed; open the workbook in a spreadsheet program and save it"
)
MERGED = "part of merged cells; unmerge them and fill in each one"
DATE = "a date, which Excel makes from names such as 1-2; format the column as text"


class Sheet(NamedTuple):
    """A sheet of a workbook."""

    header: list[str]  # its first row that is not empty
    rows: list[tuple[int, list[str]]]  # its other rows that are not empty, each with its line
    hidden: set[int]  # its hidden columns, from 0


def read_workbook(path: Path, fits: Callable[[Sequence[str]], bool]) -> Sheet:
    """Return the only visible sheet whose header `fits`, or else the first that is not empty.

    Numbers and truth values become the text that Excel shows for them: 1, TRUE. Dates, formulas
    that were never computed and the empty part of merged cells become `Doubtful`.

    Raises:
        UserError: the workbook is damaged or too large, or several visible sheets fit, or only
            hidden ones.
    """
    try:
        with warnings.catch_warnings(), _opened(path) as (file, computed):
            warnings.simplefilter("ignore")  # On what openpyxl would lose if it wrote the file.
            book = load_workbook(file, read_only=True, data_only=True, keep_links=False)
            first = {
                sheet: next(_Parser(sheet, computed).rows(), None) for sheet in book.worksheets
            }
            headers = {sheet: _filled(row[1]) for sheet, row in first.items() if row}
            chosen = _choose(path, {sheet: fits(header) for sheet, header in headers.items()})
            return _read_sheet(path, chosen, computed) if chosen else Sheet([], [], set())
    except UserError:
        raise
    except Exception as error:  # openpyxl raises many kinds on damaged files.
        raise UserError(f"{path}: not a valid Excel workbook: {one_line(error)}") from None


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], bool]]:
    """Open a workbook of limited size, a "Strict" one as a copy with namespaces openpyxl reads.

    Yields the file, and whether a spreadsheet program has computed its formulas.
    """
    size = elements = 0
    strict, computed = False, True
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.lower().endswith((".xml", ".rels"))]
        for name in names:
            size += archive.getinfo(name).file_size
            if size > MOST_UNPACKED:
                raise UserError(
                    f"{path}: more than {MOST_UNPACKED:,} bytes when unpacked; "
                    "save only the table, as CSV"
                )
            part = archive.read(name)
            # openpyxl takes several times as long for a text or a format as for a cell.
            weight = {"sharedStrings.xml": 3, "styles.xml": 10}.get(name.rpartition("/")[2], 1)
            elements += weight * (part.count(b"<") - part.count(b"</"))
            if elements > MOST_ELEMENTS:
                raise UserError(
                    f"{path}: too many cells, counting empty formatted ones; "
                    "delete the empty rows and columns, or save the table as CSV"
                )
            if any(mark in part for mark in DOCUMENT_TYPES):
                raise UserError(
                    f"{path}: {name} declares a document type, which no workbook does; "
                    "save the table as CSV"
                )
            # Programs that cannot compute request it with this mark, which a spreadsheet program
            # removes. openpyxl reads it as set even if it is missing.
            computed = computed and re.search(rb'fullCalcOnLoad="(1|true)"', part) is None
            strict = strict or STRICT.search(part) is not None
        if not strict:
            # Opened here, as openpyxl refuses a file name with another suffix.
            with path.open("rb") as file:
                yield file, computed
            return
        copy = io.BytesIO()
        with zipfile.ZipFile(copy, "w") as translated:
            for name in names:
                translated.writestr(name, STRICT.sub(TRANSITIONAL, archive.read(name)))
    yield copy, computed


class _Parser(WorkSheetParser):
    """openpyxl's parser in one pass over a sheet, without empty cells, which may be millions."""

    def __init__(self, sheet: Any, computed: bool):
        book = sheet.parent
        super().__init__(
            book._archive.open(sheet._worksheet_path),
            sheet._shared_strings,
            data_only=True,
            epoch=book.epoch,
            date_formats=book._date_formats,
            timedelta_formats=book._timedelta_formats,
        )
        self.computed = computed
        self.row_counter: int = 0
        self.hidden_columns: set[int] = set()
        self.hidden_rows: set[int] = set()
        self.merged: list[str] = []

    def rows(self) -> Iterator[tuple[int, dict[int, str]]]:
        """Yield (line, texts by column, from 0) of each row that is not empty."""
        around: list[Element] = []
        row: dict[int, str] = {}
        within_cell = False
        for event, element in iterparse(self.source, ("start", "end")):
            if event == "start":
                around.append(element)
                if len(around) > DEEPEST_ELEMENT:
                    raise ValueError("its elements are nested too deeply")
                if element.tag == ROW_TAG:
                    row, self.col_counter = {}, 0
                    self.row_counter = int(float(element.get("r", self.row_counter + 1)))
                    if element.get("hidden") in TRUE:
                        self.hidden_rows.add(self.row_counter)
                within_cell = within_cell or element.tag == CELL_TAG
                continue
            around.pop()
            if element.tag == CELL_TAG:
                within_cell = False
                text = _text(self.parse_cell(element)["value"])
                if _is_filled(text) and row.setdefault(self.col_counter - 1, text) is not text:
                    raise ValueError(f"a cell of line {self.row_counter} appears twice")
            elif element.tag == ROW_TAG and row:
                yield self.row_counter, row
            elif element.tag == COL_TAG and (
                element.get("hidden") in TRUE or float(element.get("width", 1)) == 0
            ):
                first, last = int(element.get("min")), int(element.get("max"))
                self.hidden_columns.update(range(first - 1, min(last, MOST_COLUMNS)))
            elif element.tag == MERGED_TAG:
                self.merged.append(element.get("ref"))
            if around and not within_cell:
                around[-1].clear()  # Free what has been read.

    def parse_cell(self, element: Element) -> dict[str, Any]:
        cell = super().parse_cell(element)
        if cell["row"] != self.row_counter:
            raise ValueError(f"cell {element.get('r')} is in line {self.row_counter}")
        if element.find(FORMULA_TAG) is not None:
            # A computed formula may give the empty text; it is then marked as text. XlsxWriter
            # writes 0 for all formulas.
            empty = cell["value"] is None and element.get("t") != "str"
            if empty or (not self.computed and cell["value"] in (None, 0)):
                cell["value"] = Doubtful("", NEVER_COMPUTED)
        return cell


def _filled(row: dict[int, str]) -> list[str]:
    return [row.get(column, "") for column in range(max(row) + 1)]


def _choose(path: Path, fitting: dict[Any, bool]) -> Any:
    """Return the sheet to read, of those that are not empty; None if all are."""
    visible = [one for one, fits in fitting.items() if fits and one.sheet_state == "visible"]
    if len(visible) > 1:
        raise UserError(
            f"{path}: {len(visible)} sheets have these columns: "
            f"{', '.join(sheet.title for sheet in visible)}; save only the right one"
        )
    others = [one for one, fits in fitting.items() if fits and one not in visible]
    hidden = ", ".join(quoted(sheet.title) for sheet in others)
    if hidden and not visible:
        raise UserError(
            f"{path}: only a hidden sheet has these columns: {hidden}; "
            "unhide the sheet if it is the right one"
        )
    if hidden:
        warn(f"{path}: not read: the hidden sheet {hidden}, which has these columns, too")
    by_state = sorted(fitting, key=lambda sheet: sheet.sheet_state != "visible")
    return next(iter(visible or by_state), None)


def _read_sheet(path: Path, sheet: Any, computed: bool) -> Sheet:
    parser = _Parser(sheet, computed)
    rows: dict[int, list[str]] = {}
    size = 0
    for line, texts in parser.rows():
        if line in rows:
            raise ValueError(f"line {line} appears twice")
        rows[line] = row = _filled(texts)
        size += len(row) + sum(map(len, row))
        if size > MOST_UNPACKED:
            raise UserError(
                f"{path}: the sheet {quoted(sheet.title)} holds more than {MOST_UNPACKED:,} "
                "characters; save only the table, as CSV"
            )
    _mark_merged(parser.merged, rows)
    (_, header), *others = rows.items()
    if hidden := sorted(parser.hidden_rows & {line for line, _ in others}):
        read = f"hidden, but read, such as line {hidden[0]}"
        warn(f"{path}: {len(hidden)} rows of the sheet {sheet.title} are {read}")
    return Sheet(header, others, parser.hidden_columns)


def _mark_merged(ranges: Sequence[str], rows: dict[int, list[str]]) -> None:
    """Make the cells that merging left empty `Doubtful`."""
    width = max(map(len, rows.values()))
    seen: set[tuple[int, int]] = set()
    for one in ranges:
        left, top, right, bottom = range_boundaries(one)
        few = bottom - top < len(rows)
        lines = range(top, bottom + 1) if few else [line for line in rows if top <= line <= bottom]
        for line in lines:
            for column in range(left - 1, min(right, width)):
                if (line, column) in seen:
                    raise ValueError(f"merged cells overlap at {one}")
                seen.add((line, column))
                if line in rows and (line, column) != (top, left - 1):
                    row = rows[line]
                    row += [""] * (column + 1 - len(row))
                    row[column] = row[column] or Doubtful("", MERGED)


def _is_filled(text: str) -> bool:
    return bool(text.strip()) or isinstance(text, Doubtful)


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, Doubtful):
        return cell
    if isinstance(cell, bool):
        return str(cell).upper()
    if isinstance(cell, (date, time, timedelta)):
        return Doubtful(str(cell), DATE)
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    # Excel writes a line end in this form.
    return cell.replace("_x000D_", "\r") if isinstance(cell, str) else str(cell)
