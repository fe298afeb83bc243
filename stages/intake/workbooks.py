"""Tables in workbooks of Excel (.xlsx), read with openpyxl."""

import sys
import zipfile
from collections.abc import Callable, Sequence
from datetime import date, time, timedelta
from pathlib import Path
from typing import Any

from stages.base.errors import UserError

# A workbook is a compressed archive; a table of a million rows takes less than this in it.
LARGEST = 2**29


class DateCell(str):
    """The text of a cell that holds a date or a time: Excel makes one of a name such as 1-2."""


def is_workbook(path: Path) -> bool:
    """Return whether a file is a workbook of Excel, by what it holds."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "xl/workbook.xml" in archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return False


def read_workbook(path: Path, fits: Callable[[Sequence[str]], bool]) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header and the rows, each with its line, of the one sheet whose header `fits`, or else of the first that is
    not empty.

    Numbers and truth values become the text that Excel shows for them: 1, TRUE; dates become `DateCell`s.

    Raises:
        UserError: the workbook is damaged, or several sheets fit.
    """
    import openpyxl

    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > LARGEST:
            raise UserError(f"{path} holds {size:,} bytes when it is unpacked; at most {LARGEST:,} are read")
        # Opened here, as openpyxl refuses a file of another suffix.
        with path.open("rb") as file:
            book = openpyxl.load_workbook(file, data_only=True)
        sheets = {sheet.title: _rows(sheet) for sheet in book.worksheets}
        hidden = {
            sheet.title: sum(1 for line, _ in sheets[sheet.title] if sheet.row_dimensions[line].hidden)
            for sheet in book.worksheets
        }
    except UserError:
        raise
    except Exception as error:  # openpyxl raises many kinds on damaged files.
        raise UserError(f"{path} does not open as a workbook of Excel: {' '.join(str(error).split())[:200]}") from None
    filled = {title: rows for title, rows in sheets.items() if rows}
    chosen = [title for title, rows in filled.items() if fits([_text(cell) for cell in rows[0][1]])]
    if len(chosen) > 1:
        raise UserError(
            f"{path} has {len(chosen)} sheets with these columns: {', '.join(chosen)}; save the one that is meant alone"
        )
    title = (chosen or [*filled] or [None])[0]
    if title is None:
        return [], []
    (_, header), *rows = filled[title]
    if hidden[title]:
        print(f"warning: {path}: {hidden[title]} rows of the sheet {title} are hidden, and are read as well", file=sys.stderr)
    return [_text(cell) for cell in header], [(line, [_text(cell) for cell in row]) for line, row in rows]


def _rows(sheet: Any) -> list[tuple[int, list[Any]]]:
    rows = enumerate(sheet.iter_rows(values_only=True), start=sheet.min_row)
    return [(line, list(row)) for line, row in rows if any(_text(cell).strip() for cell in row)]


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return str(cell).upper()
    if isinstance(cell, (date, time, timedelta)):
        return DateCell(cell)
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell)
