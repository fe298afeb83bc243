"""What a file is that is given as a table, by its content: a workbook, or what is often taken for a
table.
"""

import re
import zipfile
import zlib
from pathlib import Path

# Of a compound file, in bytes: the names of its streams stand anywhere in it.
MOST_READ = 2**28


def kind_of(table: Path) -> str | None:
    """Return what a file is that is no text, by what it holds: `a workbook`, or what is often taken
    for a table.
    """
    with table.open("rb") as file:
        start = file.read(16)
        if start.startswith(b"\xd0\xcf\x11\xe0"):
            return _kind_of_compound(file.read(MOST_READ))
    if start.startswith(b"PK\3\4"):
        return _kind_of_archive(table)
    kinds = {
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
    if start.removeprefix(b"\xef\xbb\xbf").startswith(b"<"):
        start = start.removeprefix(b"\xef\xbb\xbf").lower()
    return next((kind for magic, kind in kinds.items() if start.startswith(magic)), None)


def _kind_of_compound(content: bytes) -> str:
    """Return what an OLE compound file is, by the names of its streams."""
    if "EncryptedPackage".encode("utf-16-le") in content:
        return "a workbook that a password protects"
    if "WordDocument".encode("utf-16-le") in content:
        return "a document of Word"
    return "a workbook of an older Excel"


def _kind_of_archive(table: Path) -> str:
    try:
        with zipfile.ZipFile(table) as archive:
            names = archive.namelist()
            kind = archive.open("mimetype").read(80) if "mimetype" in names else b""
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError, zlib.error):
        return "an archive, or a spreadsheet of another program"
    if any(re.fullmatch(r"xl/workbook\d*\.xml", name) for name in names):
        return "a workbook"
    if "xl/workbook.bin" in names:
        return "a binary workbook of Excel (.xlsb)"
    if b"opendocument" in kind:
        return "a spreadsheet of LibreOffice (.ods)"
    if any(name.endswith(".iwa") or name == "Index.zip" for name in names):
        return "a spreadsheet of Apple Numbers"
    return (
        "a document of Word"
        if "word/document.xml" in names
        else "an archive, or a spreadsheet of another program"
    )
