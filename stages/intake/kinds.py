"""What a file given as a table is, by its content."""

import re
import zipfile
import zlib
from pathlib import Path
from typing import Literal

from stages.base.errors import UserError

# Bytes of an OLE compound file that are searched; the names of its streams may be anywhere in it.
MOST_READ = 2**28
MAGIC = {
    b"\x1f\x8b": "a compressed file",
    b"%PDF": "a PDF",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"II*\0": "an image",
    b"MM\0*": "an image",
    b"PAR1\x15": "a Parquet file",
    b"<?xml": "XML",
    b"<!doctype": "a web page",
    b"<html": "a web page",
    b"{\\rtf": "a document",
}
UNKNOWN_ARCHIVE = "an archive or a spreadsheet of another program"


def table_kind(table: Path) -> Literal["text", "workbook"]:
    """Return whether a table is text or an Excel workbook (.xlsx, .xlsm).

    Raises:
        UserError: the file is of a kind that is often mistaken for a table.
    """
    with table.open("rb") as file:
        start = file.read(16)
        ole = file.read(MOST_READ) if start.startswith(b"\xd0\xcf\x11\xe0") else None
    without_mark = start.removeprefix(b"\xef\xbb\xbf")
    if without_mark.startswith(b"<"):
        start = without_mark.lower()
    kind: str | None
    if ole is not None:
        kind = _ole_kind(ole)
    elif start.startswith(b"PK\3\4"):
        kind = _archive_kind(table)
        if kind is None:
            return "workbook"
    else:
        kind = next((name for magic, name in MAGIC.items() if start.startswith(magic)), None)
    if kind is None:
        return "text"
    without_password = ", without a password" if "password" in kind else ""
    raise UserError(
        f"{table}: {kind}, not a table; save the table as CSV UTF-8 or as .xlsx{without_password}"
    )


def _ole_kind(content: bytes) -> str:
    """Return what an OLE compound file is, by the names of its streams."""
    if "EncryptedPackage".encode("utf-16-le") in content:
        return "a password-protected workbook"
    if "WordDocument".encode("utf-16-le") in content:
        return "a Word document"
    return "a workbook in an older Excel format"


def _archive_kind(table: Path) -> str | None:
    """Return what a ZIP archive is, or None for an Excel workbook."""
    try:
        with zipfile.ZipFile(table) as archive:
            names = archive.namelist()
            mimetype = archive.open("mimetype").read(80) if "mimetype" in names else b""
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError, zlib.error):
        return UNKNOWN_ARCHIVE
    if any(re.fullmatch(r"xl/workbook\d*\.xml", name) for name in names):
        return None
    if "xl/workbook.bin" in names:
        return "a binary Excel workbook (.xlsb)"
    if b"opendocument" in mimetype:
        return "a LibreOffice spreadsheet (.ods)"
    if any(name.endswith(".iwa") or name == "Index.zip" for name in names):
        return "an Apple Numbers spreadsheet"
    return "a Word document" if "word/document.xml" in names else UNKNOWN_ARCHIVE
