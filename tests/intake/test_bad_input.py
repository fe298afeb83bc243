"""What laboratories' folders really hold, each through the real stage.

Each kind ends in the right result, or in one line that names the culprit, a non-zero exit and
nothing half-written.
"""

import contextlib
import csv
import io
import json
import os
import re
import resource
import socket
import struct
import sys
import zipfile
import zlib
from datetime import date, time
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np
import openpyxl
import openpyxl.styles
import pytest
import tifffile
from PIL import Image

import stages.base.errors
from stages.base.errors import UserError
from stages.evaluation.classifier import read_classifier
from tests.conftest import make_classes, make_table, save_crop, set_params
from tests.evaluation.classifiers import write_beside
from tests.images.pictures import bmp, png_chunk

FORMATS = {
    "png": "PNG",
    "jpg": "JPEG",
    "tif": "TIFF",
    "bmp": "BMP",
    "webp": "WEBP",
    "gif": "GIF",
    "jp2": "JPEG2000",
}
ROWS = "name,truth\na1.png,1\na2.png,0\nb1.png,0\n"
NAMES = ["a1.png", "a2.png", "sub/b1.png"]
CARD = "title: small\nclasses: [nonGS, GS]\ngroup: '(?P<slide>s\\d+)-'\n"


class Done(NamedTuple):
    returncode: int
    stderr: str


def run_stage(*names, memory=None):
    """Run stages as `python -m` does, until one fails, but in this process, which may take `memory`
    more bytes than it has.
    """
    limits = resource.getrlimit(resource.RLIMIT_AS)
    if memory and sys.platform == "linux":
        has = int(re.search(r"VmSize:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
        resource.setrlimit(resource.RLIMIT_AS, (has + memory, limits[1]))
    screen = io.StringIO()
    try:
        with contextlib.redirect_stderr(screen), contextlib.redirect_stdout(io.StringIO()):
            for name in names:
                stages.base.errors.run_program(import_module(f"stages.{name}").main)
    except SystemExit as stopped:
        assert isinstance(stopped.code, str), stopped.code
        return Done(1, screen.getvalue() + stopped.code + "\n")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    return Done(0, screen.getvalue())


def picture(suffix="png", size=(40, 30), seed=5, mode="RGB", **options):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(content, format=FORMATS[suffix], **options)
    return content.getvalue()


def claimed_png(width, height):
    """A PNG of a hundred bytes that says it has width x height pixels."""

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + png_chunk(b"IEND", b"")
    )


def frames(suffix):
    content = io.BytesIO()
    first, second = Image.new("RGB", (9, 9), "red"), Image.new("RGB", (9, 9), "blue")
    first.save(content, format=FORMATS[suffix], save_all=True, append_images=[second])
    return content.getvalue()


def array(values, suffix="tif"):
    content = io.BytesIO()
    Image.fromarray(values).save(content, format=FORMATS[suffix])
    return content.getvalue()


def tiff(values, **options):
    content = io.BytesIO()
    tifffile.imwrite(content, values, **({"photometric": "minisblack"} | options))
    return content.getvalue()


def workbook(rows):
    book, content = openpyxl.Workbook(), io.BytesIO()
    for row in rows:
        book.active.append(row)
    book.save(content)
    return content.getvalue()


def altered(change, rows=None, merged=None):
    """A workbook of labels after `change(book, sheet)`, with merged cells."""
    book, content = openpyxl.Workbook(), io.BytesIO()
    for row in rows or [["name", "truth"], ["a1.png", 1], ["a2.png", 0], ["b1.png", 0]]:
        book.active.append(row)
    change(book, book.active)
    if merged:
        book.active.merge_cells(merged)
    book.save(content)
    return content.getvalue()


def repacked(change, content=None):
    """A workbook of labels whose parts are those that `change(name, content)` returns."""
    old, new = io.BytesIO(content or altered(put())), io.BytesIO()
    with zipfile.ZipFile(old) as source, zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, change(name, source.read(name)))
    return new.getvalue()


def with_cells(xml):
    """A workbook of labels with more cells, in its sheet."""
    return repacked(
        lambda name, part: (
            part.replace(b"</sheetData>", xml + b"</sheetData>") if "sheet1" in name else part
        )
    )


def archive(**parts):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as target:
        for name, part in parts.items():
            target.writestr(name, part)
    return content.getvalue()


def compound(stream):
    """The beginning of an OLE file, with the name of a stream."""
    return (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + stream.encode("utf-16-le") + bytes(600)
    )


def strict(name, part):
    return (
        part.replace(
            b"http://schemas.openxmlformats.org/spreadsheetml/2006/main",
            b"http://purl.oclc.org/ooxml/spreadsheetml/main",
        )
        .replace(
            b"http://schemas.openxmlformats.org/officeDocument/2006/",
            b"http://purl.oclc.org/ooxml/officeDocument/",
        )
        .replace(b"<workbook ", b'<workbook conformance="strict" ')
    )


def with_prefixes(name, part):
    return (
        re.sub(rb"<(/?)(\w)", rb"<\1x:\2", part).replace(b"xmlns=", b"xmlns:x=")
        if "sheet1" in name
        else part
    )


def hide(state):
    def change(book, sheet):
        sheet.title, sheet.sheet_state = "old", state
        book.create_sheet("new").append(["name", "label"])

    return change


def hide_column(letter):
    return lambda book, sheet: setattr(sheet.column_dimensions[letter], "hidden", True)


def with_hidden_copy(book, sheet):
    book.copy_worksheet(sheet).sheet_state = "hidden"


def put(**cells):
    def change(book, sheet):
        for name, value in cells.items():
            sheet[name] = value

    return change


def colored(cell):
    return lambda book, sheet: setattr(
        sheet[cell], "fill", openpyxl.styles.PatternFill("solid", fgColor="FFFF00")
    )


def as_xlsxwriter(name, part):
    """Formulas as XlsxWriter writes them: never computed, with a 0."""
    return (
        part.replace(b"<v></v>", b"<v>0</v>")
        .replace(b"<v />", b"<v>0</v>")
        .replace(b"<v/>", b"<v>0</v>")
    )


def transparent():
    content = io.BytesIO()
    Image.new("RGBA", (9, 9), (9, 99, 199, 0)).save(content, format="PNG")
    return content.getvalue()


def rotated():
    exif = Image.Exif()
    exif[0x0112] = 8
    return picture("jpg", exif=exif)


def transparent_palette():
    content = io.BytesIO()
    Image.new("P", (9, 9)).save(content, format="PNG", transparency=0)
    return content.getvalue()


def spoiled(suffix, damage, **options):
    """A file that decoders make a picture of, although its data are damaged."""
    content = picture(suffix, size=(120, 110), **options)
    half, quarter = len(content) // 2, len(content) // 4
    return {
        "zeros": content[:half] + bytes(len(content) - half),
        "cut": content[:half] + b"\xff\xd9",
        "hole": content[:half] + bytes(quarter) + content[half + quarter :],
        "other": content[:half]
        + np.random.default_rng(3).bytes(quarter)
        + content[half + quarter :],
        "lost": content[:half] + content[half + quarter :],
    }[damage]


def png(*chunks, depth=8, kind=2, rows=b"\0" + b"\x66" * 27):
    """A PNG of 9 x 9 pixels with more chunks before its pixels."""

    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, depth, kind, 0, 0, 0))
    more = b"".join(png_chunk(*one) for one in chunks)
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + more
        + png_chunk(b"IDAT", zlib.compress(rows * 9))
        + png_chunk(b"IEND", b"")
    )


def ome(values, **metadata):
    content = io.BytesIO()
    tifffile.imwrite(
        content,
        values,
        ome=True,
        metadata=metadata,
        **({"photometric": "minisblack"} if values.ndim < 4 else {}),
    )
    return content.getvalue()


def small_gif():
    """A GIF whose frame fills a part of its canvas."""
    content = bytearray(picture("gif", size=(20, 16), mode="L"))
    content[6:10] = struct.pack("<HH", 40, 32)
    return bytes(content)


GRAY_16 = {"depth": 16, "kind": 0, "rows": b"\0" + b"\xee\x60" * 9}


# Kind: (name of the file among the images of label 0, its content, None if it is right or else what
# is said of it).
IMAGES = {
    **{
        f"truncated {s}": (
            f"s1-77.{s}",
            picture(s)[: len(picture(s)) // 2],
            "does not open as an image",
        )
        for s in FORMATS
    },
    **{f"empty {s}": (f"s1-77.{s}", b"", "does not open as an image") for s in FORMATS},
    "the extension of another format": ("s1-77.jpg", picture("tif"), None),
    "an extension in capitals": ("s1-77.PNG", picture(), None),
    "text with an image's extension": (
        "s1-77.png",
        b"name,label\n",
        "its content is in none of the formats PNG, JPEG",
    ),
    "PostScript with an image's extension": (
        "s1-77.png",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        "its content is in none of the formats",
    ),
    "SVG with an image's extension": (
        "s1-77.png",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "its content is in none",
    ),
    "a decompression bomb": (
        "s1-77.png",
        claimed_png(50_000, 50_000),
        "has 50000 x 50000 pixels; at most 100,000,000 are read",
    ),
    "20,000 pixels square": (
        "s1-77.png",
        claimed_png(20_000, 20_000),
        "has 20000 x 20000 pixels; at most 100,000,000",
    ),
    "20,000 pixels wide": ("s1-77.png", picture(size=(20_000, 30)), None),
    "1 x N": ("s1-77.png", picture(size=(1, 500)), None),
    "N x 1": ("s1-77.png", picture(size=(500, 1)), None),
    "1 x 1": ("s1-77.png", picture(size=(1, 1)), None),
    "16-bit gray": ("s1-77.tif", array(np.full((9, 9), 40_000, dtype=np.uint16)), None),
    "32-bit floating point": (
        "s1-77.tif",
        array(np.ones((9, 9), dtype=np.float32)),
        "it has 32-bit floating-point pixels, whose white is undefined; save it as whole numbers",
    ),
    **{
        f"a {damage} JPEG, {kind}": (
            "s1-77.jpg",
            spoiled("jpg", damage, quality=90, **options),
            "does not open as an image",
        )
        for damage in ("zeros", "cut", "hole", "other", "lost")
        for kind, options in (
            ("baseline", {}),
            ("progressive", {"progressive": True}),
            ("gray", {"mode": "L"}),
        )
    },
    **{
        f"a {damage} WebP": ("s1-77.webp", spoiled("webp", damage), "does not open as an image")
        for damage in ("zeros", "hole", "other", "lost")
    },
    "a JPEG of many parts": ("s1-77.jpg", picture("jpg", restart_marker_blocks=1), None),
    "a JPEG with something behind its end": ("s1-77.jpg", picture("jpg") + b"appended" * 99, None),
    "a JPEG with padding before its end": (
        "s1-77.jpg",
        picture("jpg")[:-2] + b"\0\0\xff\xd9",
        None,
    ),
    "a PNG of Xcode": (
        "s1-77.png",
        png((b"CgBI", b"\x50\0\x20\2")),
        "it is a PNG rewritten by Xcode",
    ),
    "a critical chunk": (
        "s1-77.png",
        png((b"JDAT", b"x")),
        "it has the unknown critical chunk 'JDAT'",
    ),
    "a chunk that is not critical": ("s1-77.png", png((b"vpAg", b"x" * 9)), None),
    "a transparent gray of 16 bits": ("s1-77.png", png((b"tRNS", b"\0\0"), **GRAY_16), None),
    "all of a transparent gray of 16 bits": (
        "s1-77.png",
        png((b"tRNS", b"\xee\x60"), **GRAY_16),
        "is fully transparent",
    ),
    "a damaged profile": (
        "s1-77.png",
        png((b"iCCP", b"x\0\0" + zlib.compress(b"no profile"))),
        None,
    ),
    "a profile of 3 MiB": (
        "s1-77.png",
        png((b"iCCP", b"x\0\0" + zlib.compress(bytes(3 * 2**20)))),
        None,
    ),
    "a linear gamma": ("s1-77.png", png((b"gAMA", struct.pack(">I", 100_000))), None),
    "a GIF that fills a part of its canvas": ("s1-77.gif", small_gif(), None),
    "a BMP with a gap": ("s1-77.bmp", bmp(4, 4), None),
    "a BMP with colors beyond its palette": (
        "s1-77.bmp",
        bmp(3),
        "a pixel has color 3 of a palette of 3",
    ),
    "CMYK TIFF": ("s1-77.tif", picture("tif", mode="CMYK"), None),
    "half floats": (
        "s1-77.tif",
        tiff(np.full((9, 9, 3), 0.5, np.float16), photometric="rgb"),
        "it has 16-bit floating-point pixels, whose white is undefined",
    ),
    "64-bit floats": (
        "s1-77.tif",
        tiff(np.full((9, 9), 0.5)),
        "it has 64-bit floating-point pixels",
    ),
    "OME-TIFF of channels": (
        "s1-77.tif",
        ome(np.full((2, 9, 9), 60000, np.uint16), axes="CYX", Channel={"Name": ["DAPI", "FITC"]}),
        "it is an OME-TIFF of 2 channels (DAPI, FITC); save it as RGB",
    ),
    "OME-TIFF of a Z stack": (
        "s1-77.tif",
        ome(np.full((3, 9, 9), 99, np.uint8), axes="ZYX"),
        "it holds 3 pictures in gray",
    ),
    "OME-TIFF of a time series": (
        "s1-77.tif",
        ome(np.full((2, 9, 9), 99, np.uint8), axes="TYX"),
        "it holds 2 pictures in gray",
    ),
    "two channels of gray": (
        "s1-77.tif",
        tiff(np.full((9, 9, 2), 99, np.uint8), planarconfig="contig"),
        "it has 2 channels of gray, and does not state which are red, green",
    ),
    "a palette that is fully transparent": (
        "s1-77.png",
        transparent_palette(),
        "is fully transparent",
    ),
    "CMYK JPEG": ("s1-77.jpg", picture("jpg", mode="CMYK"), None),
    "EXIF-rotated": ("s1-77.jpg", rotated(), None),
    "an animation": ("s1-77.gif", frames("gif"), None),
    "a TIFF of two pages": ("s1-77.tif", frames("tif"), None),
    "a space in the name": ("s1-77 copy.png", picture(), None),
    "quotes in the name": ("s1-7'7\".png", picture(), None),
    "a comma in the name": ("s1-7,7.png", picture(), None),
    "a newline in the name": ("s1-7\n7.png", picture(), "has a control character in its name"),
    "a name that turns the writing direction": ("s1-\u202e77.png", picture(), None),
    "bytes in the name that are not UTF-8": (
        b"s1-\xff.png",
        picture(),
        "has a name that is not UTF-8 text",
    ),
    "an accent as one character": ("s1-7\u00e9.png", picture(), None),
    "an accent as two characters": ("s1-7e\u0301.png", picture(), None),
    "a leading dash": ("-s1-77.png", picture(), "it does not match nonGS/-s1-77.png"),
    "a name of 240 characters": (f"s1-{'7' * 233}.png", picture(), None),
    "HTML in the name": ("s1-<script>alert(1)<.png", picture(), None),
    "a formula for a name": ("s1-=HYPERLINK(1).png", picture(), None),
    "an emoji in the name": ("s1-\U0001f600.png", picture(), None),
    "a space that does not break": ("s1-7\u00a07.png", picture(), None),
    "a space before the name": (" s1-77.png", picture(), "it does not match nonGS/ s1-77.png"),
    "a space behind the name": (
        "s1-77.png ",
        picture(),
        "'data/small/nonGS/s1-77.png ' has a space at the end of its name",
    ),
    "a tab in the name": ("s1-7\t7.png", picture(), "has a control character in its name"),
    "an escape sequence in the name": (
        "s1-\x1b[31m.png",
        picture(),
        "has a control character in its name",
    ),
    "12 bits in 16": (
        "s1-77.tif",
        array(np.full((9, 9), 4095, dtype=np.uint16)),
        "its brightest value is 15 of 255",
    ),
    "8 bits in 16, PNG": (
        "s1-77.png",
        array(np.full((9, 9), 255, dtype=np.uint16), "png"),
        "its brightest value is 0 of 255",
    ),
    "16-bit PGM": ("s1-77.pgm", b"P5 2 2 65535\n" + b"\xff\x00" * 4, None),
    "PGM that is cut short": ("s1-77.pgm", b"P5 2 2 255\n\0\0\0", "does not open as an image"),
    "signed 16-bit TIFF": (
        "s1-77.tif",
        tiff(np.full((9, 9), 9999, dtype=np.int16)),
        "its numbers are signed",
    ),
    "32-bit integers": (
        "s1-77.tif",
        tiff(np.full((9, 9), 9, dtype=np.uint32)),
        "it has 32-bit pixels, whose white is undefined",
    ),
    "planes of 16 bits": (
        "s1-77.tif",
        tiff(np.full((3, 9, 9), 60000, np.uint16), photometric="rgb", planarconfig="separate"),
        None,
    ),
    "pages of R, G and B": (
        "s1-77.tif",
        tiff(np.full((3, 9, 9), 99, np.uint8)),
        "it holds 3 pictures in gray of one size",
    ),
    "a stack of ImageJ": (
        "s1-77.tif",
        tiff(np.full((3, 9, 9), 99, np.uint8), imagej=True),
        "it holds 3 pictures in gray",
    ),
    "seven channels": (
        "s1-77.tif",
        tiff(np.full((9, 9, 7), 99, np.uint8), planarconfig="contig"),
        "it has 7 channels of gray",
    ),
    "transparent all over": ("s1-77.png", transparent(), "is fully transparent"),
    "a wrong check sum": (
        "s1-77.png",
        picture()[:-20] + b"xxxx" + picture()[-16:],
        "it is damaged: a checksum is wrong",
    ),
    "PNG without its end": ("s1-77.png", picture()[:-12], "it is cut short"),
    "BMP of another length": (
        "s1-77.bmp",
        picture("bmp") + b"xxxx",
        "it is damaged: it states ",
    ),
    "a JPEG of the web that is a page": (
        "s1-77.jpg",
        b"<!doctype html><title>404</title>",
        "its content is in none of the formats",
    ),
    "a pointer of Git LFS": (
        "s1-77.png",
        b"version https://git-lfs.github.com/spec/v1\noid",
        "its content is in none of the formats",
    ),
    "nothing but zeros": ("s1-77.png", bytes(5000), "its content is in none of the formats"),
    "HEIC by another name": (
        "s1-77.jpg",
        b"\0\0\0\x18ftypheic\0\0\0\0",
        "its content is in none of the formats",
    ),
    "DICOM by another name": (
        "s1-77.png",
        bytes(128) + b"DICM",
        "its content is in none of the formats",
    ),
    "a ZIP by another name": (
        "s1-77.png",
        b"PK\x03\x04" + bytes(50),
        "its content is in none of the formats",
    ),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_reads_or_refuses_each_kind_of_image(workplace, kind):
    name, content, said = IMAGES[kind]
    folder = make_classes(slides=3) / "nonGS"
    Path("data/small.yaml").write_text(CARD)
    target = os.path.join(os.fsencode(folder), name) if isinstance(name, bytes) else folder / name
    with open(target, "wb") as file:
        file.write(content)
    done = run_stage("crops", "manifest", memory=2**31)
    check(
        done,
        said,
        images=13,
        culprit="" if isinstance(name, bytes) or not name.isprintable() else name,
    )


def check(done, said, images=3, culprit=""):
    assert "Traceback" not in done.stderr
    assert not list(Path(".").rglob("*.part"))
    if said is None:
        assert done.returncode == 0, done.stderr
        with open("data/manifest.csv", newline="") as file:
            assert len(list(csv.DictReader(file))) == images
    else:
        assert done.returncode == 1
        errors = done.stderr[done.stderr.rindex("error: ") :].strip().splitlines()
        assert len(errors) == 1, errors
        assert said in errors[0]
        assert culprit in errors[0]
        assert not Path("data/manifest.csv").exists()


# Kind: (the table, None if it is right or else what is said of it).
TABLES = {
    "a byte-order mark": ("\ufeff" + ROWS, None),
    "CRLF": (ROWS.replace("\n", "\r\n"), None),
    "semicolons": (ROWS.replace(",", ";"), None),
    "quoted names": (ROWS.replace("a1.png", '"a1.png"'), None),
    "a column with quoted commas": ("note," + ROWS.replace("\n", '\n"x, ""y""",', 3), None),
    "a duplicate row": (ROWS + "a1.png,1\n", "labels.csv, line 5: a1.png appears twice"),
    "conflicting labels": (
        ROWS + "a1.png,0\n",
        "line 5: a1.png appears twice, under both labels",
    ),
    "a missing label": (
        ROWS.replace("a1.png,1", "a1.png,"),
        "line 2: the label of a1.png is ''; it must be 0 or 1",
    ),
    "a missing name": (ROWS + ",1\n", "line 5: '' is not in the folder"),
    "a label of 2": (
        ROWS.replace("a1.png,1", "a1.png,2"),
        "line 2: the label of a1.png is '2'; it must be 0 or 1",
    ),
    "a path out of the folder": (
        ROWS + "../../params.yaml,1\n",
        "line 5: '../../params.yaml' is not in the folder",
    ),
    "an absolute path": (
        ROWS + "/etc/hostname,1\n",
        "line 5: '/etc/hostname' is not in the folder",
    ),
    "a row without a file": (ROWS + "c1.png,1\n", "line 5: 'c1.png' is not in the folder"),
    "a file without a row": (
        ROWS.replace("a2.png,0\n", ""),
        "data/table/a2.png has no row in data/table/labels.csv",
    ),
    "a row that is too short": (
        ROWS.replace("a1.png,1", "a1.png"),
        "line 2: the label of a1.png is ''; it must be 0 or 1",
    ),
    "another header": (
        ROWS.replace("truth", "verdict"),
        "data/table.yaml, line 3: `columns: {name: name, label: truth}`",
    ),
    "nothing": ("", "has no such column"),
    "a quotation that does not end": (
        ROWS + '"c1.png,1\n',
        "labels.csv: not a valid CSV table: line 5: unexpected end",
    ),
    "a header of 200,000 characters": (
        "n" * 200_000 + ",truth\n",
        "labels.csv: not a valid CSV table: field larger",
    ),
    "sep= of Excel": ("sep=;\n" + ROWS.replace(",", ";"), None),
    "spaces and capitals in the header": (ROWS.replace("name,truth", " Name , TRUTH "), None),
    "empty columns at the end": (ROWS.replace("\n", ",,\n"), None),
    "empty fields at the end dropped": (ROWS.replace("truth", "truth,note"), None),
    "labels as numbers with a point": (ROWS.replace(",1", ",1.0").replace(",0", ",0.0"), None),
    "labels as TRUE and FALSE": (ROWS.replace(",1", ",TRUE").replace(",0", ",FALSE"), None),
    "labels as yes and no": (ROWS.replace(",1", ",yes").replace(",0", ",no"), None),
    "lines that end as on an old Mac": (ROWS.replace("\n", "\r"), None),
    "names with ./ before them": (ROWS.replace("a1", "./a1"), None),
    "a column twice": (
        ROWS.replace("\n", ",0\n").replace("truth,0", "truth,truth"),
        "the column 'truth' appears 2 times",
    ),
    "a column twice, by its case": (
        ROWS.replace("\n", ",0\n").replace("truth,0", "Truth,TRUTH"),
        "the column 'truth' appears 2 times",
    ),
    "only a header": ("name,truth\n", "data/table/labels.csv: a header without rows"),
    "a label between 0 and 1": (
        ROWS.replace("a1.png,1", "a1.png,0.9"),
        "the label of a1.png is '0.9'; it must be 0 or 1",
    ),
    "a label in words": (
        ROWS.replace("a1.png,1", "a1.png,sclerotic"),
        "the label of a1.png is 'sclerotic'; it must be 0 or 1",
    ),
    "a label of -1": (
        ROWS.replace("a2.png,0", "a2.png,-1"),
        "line 3: the label of a2.png is '-1'; it must be 0 or 1",
    ),
    "a full path of Windows": (
        ROWS.replace("a1.png", r"C:\x\a1.png"),
        "is not in the folder; did you mean 'a1.png'?",
    ),
    "a name in another case": (
        ROWS.replace("a1.png", "A1.PNG"),
        "line 2: 'A1.PNG' is not in the folder; did you mean 'a1.png'?",
    ),
    "a name without its suffix": (
        ROWS.replace("a1.png", "a1"),
        "line 2: 'a1' is not in the folder; did you mean 'a1.png'?",
    ),
    "a name of another format": (
        ROWS.replace("a1.png", "a1.tif"),
        "line 2: 'a1.tif' is not in the folder; did you mean 'a1.png'?",
    ),
    "a field too many": (
        ROWS.replace("a1.png,1", "a1.png,1,x"),
        "line 2: 3 fields; the header has 2",
    ),
    "a quotation within a field": (
        ROWS.replace("a1.png", '"a1".png'),
        "line 2: ',' expected after",
    ),
    "a quotation over two rows": (
        ROWS.replace("a1.png", '"a1.png').replace("a2.png", 'a2.png"'),
        "line 2: 'a1.png,1\\na2.png' has a control",
    ),
    "no separator that is known": (
        ROWS.replace(",", "|"),
        "has no such column; it has 'name|truth'",
    ),
    "a line break in a name": (
        ROWS.replace("a1.png", '"a1\n.png"'),
        "line 2: 'a1\\n.png' has a control character",
    ),
    "the header again": (
        ROWS + "name,truth\n",
        "labels.csv, line 5: the header again; is this two tables in one file?",
    ),
    "a mark in the middle": (
        ROWS + "\ufeffc1.png,1\n",
        "labels.csv, line 5: a second table begins here; save one table as CSV UTF-8",
    ),
    "a first column that is called PK": (
        "PK,name,truth\n1,a1.png,1\n2,a2.png,0\n3,b1.png,0\n",
        None,
    ),
    "a first column that is called Par1": (
        "Par1,name,truth\n1,a1.png,1\n2,a2.png,0\n3,b1.png,0\n",
        None,
    ),
    "two marks": ("\ufeff\ufeff" + ROWS, None),
    "a line of two million characters": (
        "name,truth\n" + "," * 2_000_000,
        "labels.csv: not a valid CSV table: line 2: a line of 2,000,000 characters",
    ),
    "a header of two million columns": (
        "," * 2_000_000,
        "labels.csv: not a valid CSV table: a line of 2,000,000 characters",
    ),
    "line ends of three kinds": (
        ROWS.replace("\n", "\r\n", 1).replace("a2.png,0\n", "a2.png,0\r"),
        None,
    ),
    "a comment before the header": (
        "# made by hand\n" + ROWS,
        "has no such column; it has '# made by hand'",
    ),
    "a comment behind the rows": (
        ROWS + "# the end\n",
        "labels.csv, line 5: '# the end' is not in the folder",
    ),
    "an error for a name": (
        ROWS + "#NAME?,1\n",
        "labels.csv, line 5: '#NAME?' is not in the folder",
    ),
    "an error for a label": (
        ROWS.replace("a1.png,1", "a1.png,#N/A"),
        "the label of a1.png is '#N/A'; it must be 0 or 1",
    ),
    "a row in UTF-7": (
        ROWS + "+AOQ-.png,1\n",
        "labels.csv, line 5: '+AOQ-.png' is not in the folder",
    ),
    "decimal commas": (
        ROWS.replace(",1", ";1,0").replace(",", ";", 1).replace("png,", "png;"),
        None,
    ),
    "spaces around names": (ROWS.replace("a1.png", " a1.png\t"), None),
    "a NUL": (
        ROWS + "c\0,1\n",
        "labels.csv, line 5: a zero byte, which no text has; save one table as CSV UTF-8",
    ),
    "a format that is not read": (
        ROWS + "c1.heic,1\n",
        "line 5: 'c1.heic' is in data/table, but its format is not read",
    ),
    "a slide scanner's file": (
        ROWS + "sub/c1.SVS,1\n",
        "line 5: 'sub/c1.SVS' is in data/table, but its format is not read",
    ),
    "a hidden file": (ROWS + ".c1.png,1\n", "line 5: '.c1.png' is ignored in data/table"),
    "what a Mac left behind": (
        ROWS + "sub/._b1.png,1\n",
        "line 5: 'sub/._b1.png' is ignored in data/table",
    ),
}


@pytest.mark.parametrize("kind", TABLES)
def test_reads_or_refuses_each_kind_of_csv_table(workplace, kind):
    rows, said = TABLES[kind]
    folder = make_table(rows, NAMES)
    for name in ("c1.heic", "sub/c1.SVS", ".c1.png", "sub/._b1.png"):
        (folder / name).write_bytes(b"\0\0\0\x18ftypheic")
    check(run_stage("crops", "manifest"), said)


# What tables hold in the column of slides or sites if it is unknown.
NO_NAMES = (
    "NA nan NaN NULL None nil N/A n/a n.a. <NA> ? ?? - -- \u2013 ... unknown UNKNOWN unbekannt "
    "k.A. missing "
    "TBD NaT (null) undefined not\u00a0available \uff2e\uff21"
).split(" ")


@pytest.mark.parametrize("text", NO_NAMES)
@pytest.mark.parametrize("kind", ["slide", "site"])
def test_refuses_unknown_slides_and_sites(workplace, kind, text):
    rows = [("a1.png", 1, "A"), ("a2.png", 0, "A"), ("b1.png", 0, text), ("b2.png", 1, text)]
    lines = [f"{name},{label},{one if kind == 'slide' else 'A'},{one}" for name, label, one in rows]
    columns = "{name: name, label: truth, slide: slide, site: site}"
    card = f"title: t\nlabels: labels.csv\ncolumns: {columns}\n"
    make_table(
        "name,truth,slide,site\n" + "\n".join(lines),
        [name for name, *_ in rows],
        card=card.replace(", slide: slide", "") if kind == "site" else card,
    )
    if kind == "site":
        with open("data/table.yaml", "a") as file:
            file.write("group: '(?P<slide>.)'\n")
    check(
        run_stage("crops", "manifest"),
        f"the {kind} of 2 of 4 crops is {text!r}, such as of b1.png, which means unknown",
    )


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "7",
        "NA1",
        "Nan",
        "A-1",
        "1-2",
        "ND",
        "REF",
        "unknown2",
        "\u5317",
        "KA",
        "Naomi",
        "N",
        "x",
    ],
)
def test_accepts_short_names_of_slides(workplace, text):
    card = "title: t\nlabels: labels.csv\ncolumns: {name: name, label: truth, slide: slide}\n"
    make_table(
        f"name,truth,slide\na1.png,1,A\na2.png,0,{text}\nb1.png,0,{text}\n", NAMES, card=card
    )
    if text == "Nan":
        check(run_stage("crops", "manifest"), "the slide of 2 of 3 crops is 'Nan'")
    else:
        check(run_stage("crops", "manifest"), None)


CONTENTS = {
    "Latin-1": (
        "name,truth\na1.png,1\nä.png,1\n".encode("latin-1"),
        "data/table/labels.csv, line 3: not UTF-8 text",
    ),
    "UTF-16 with its mark": (ROWS.replace(",", "\t").encode("utf-16"), None),
    "UTF-16 without": (
        ROWS.encode("utf-16-le"),
        "data/table/labels.csv, line 1: a zero byte, which no text has",
    ),
    "a real picture": (picture(), "data/table/labels.csv: an image, not a table"),
    "a workbook of an older Excel": (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        ": a workbook in an older Excel format, not a table",
    ),
    "a spreadsheet of another program": (
        b"PK\x03\x04" + bytes(40),
        ": an archive or a spreadsheet of another program, not a table",
    ),
    "a workbook of Excel": (
        workbook([["name", "truth"], ["a1.png", 1], ["a2.png", 0], ["b1.png", False]]),
        None,
    ),
    "a workbook whose name is a date": (
        workbook([["name", "truth"], [date(2024, 1, 2), 1]]),
        "line 2: name is '2024-01-02 00:00:00', a date",
    ),
    "a hidden sheet": (
        altered(hide("hidden")),
        "data/table/labels.csv: only a hidden sheet has these columns: 'old'; unhide the sheet "
        "if it is the right one",
    ),
    "a sheet that only a program can show": (
        altered(hide("veryHidden")),
        "data/table/labels.csv: only a hidden sheet has these columns: 'old'; unhide the sheet "
        "if it is the right one",
    ),
    "a sheet and its hidden copy": (altered(with_hidden_copy), None),
    "a hidden column of labels": (
        altered(hide_column("B")),
        "data/table/labels.csv: the column 'truth' is hidden; unhide or rename it",
    ),
    "a hidden column of names": (
        altered(hide_column("A")),
        "data/table/labels.csv: the column 'name' is hidden; unhide or rename it",
    ),
    "a hidden column beside another of the name": (
        altered(
            hide_column("B"),
            [["name", "truth", "Truth"], ["a1.png", 1, 0], ["a2.png", 0, 1], ["b1.png", 1, 1]],
        ),
        "data/table/labels.csv: the column 'truth' is hidden; unhide or rename it",
    ),
    "a column of no width": (
        repacked(
            lambda name, part: part.replace(
                b"<sheetData>", b'<cols><col min="2" max="9" width="0"/></cols><sheetData>'
            )
        ),
        "data/table/labels.csv: the column 'truth' is hidden; unhide or rename it",
    ),
    "a hidden column that nobody asks for": (altered(hide_column("C")), None),
    "labels of two rows, merged": (
        altered(put(), merged="B2:B3"),
        "data/table/labels.csv, line 3: truth is part of merged cells; unmerge them and fill "
        "in each one",
    ),
    "names of two rows, merged": (
        altered(put(), merged="A3:A4"),
        "data/table/labels.csv, line 4: name is part of merged cells; unmerge them and fill in "
        "each one",
    ),
    "a heading of two columns, merged": (
        altered(put(C4=1), merged="B1:C1"),
        "data/table/labels.csv: the heading 'truth' is merged over several columns; give each "
        "column its own",
    ),
    "a label by a formula": (
        altered(put(B2="=1+0")),
        "data/table/labels.csv, line 2: truth is a formula that was never computed; open the "
        "workbook in a spreadsheet",
    ),
    "a name by a formula": (
        altered(put(A3='=CONCAT("a2",".png")')),
        "data/table/labels.csv, line 3: name is a formula that was never computed; open the "
        "workbook in a spreadsheet",
    ),
    "a label by a formula of XlsxWriter": (
        repacked(as_xlsxwriter, altered(put(B2="=1+0"))),
        "data/table/labels.csv, line 2: truth is a formula that was never computed; open the "
        "workbook in a spreadsheet",
    ),
    "a label by a formula that Excel computed as 0": (
        repacked(
            lambda name, part: as_xlsxwriter(name, part).replace(b'fullCalcOnLoad="1"', b""),
            altered(put(B3="=1-1")),
        ),
        None,
    ),
    "a label by a formula that Excel computed, of a program without calculation": (
        repacked(
            lambda name, part: re.sub(b"<calcPr[^>]*>", b"", as_xlsxwriter(name, part)),
            altered(put(B3="=1-1")),
        ),
        None,
    ),
    "a line twice in a workbook": (
        with_cells(b'<row r="3"><c r="A3" t="str"><v>c.png</v></c></row>'),
        "data/table/labels.csv: not a valid Excel workbook: line 3 appears twice",
    ),
    "a cell twice in a workbook": (
        with_cells(b'<row r="5"><c r="A5"><v>1</v></c><c r="A5"><v>2</v></c></row>'),
        "data/table/labels.csv: not a valid Excel workbook: a cell of line 5 appears twice",
    ),
    "an error in a workbook": (
        altered(put(B2="#REF!")),
        "data/table/labels.csv, line 2: the label of a1.png is '#REF!'; it must be 0 or 1",
    ),
    "a time in a workbook": (
        altered(put(A2=time(10, 30))),
        "data/table/labels.csv, line 2: name is '10:30:00', a date, which Excel makes from "
        "names such as 1-2; format the column",
    ),
    "a strict workbook": (repacked(strict), None),
    "a colored cell in the last row": (altered(colored("J1048576")), None),
    "a colored cell in the last column": (altered(colored("XFD2")), None),
    "a hundred thousand empty cells": (
        with_cells(b'<row r="9">' + b'<c s="1"/>' * 10**5 + b"</row>"),
        None,
    ),
    "five million empty cells": (
        with_cells(b'<row r="9">' + b"<c/>" * 5_000_000 + b"</row>"),
        "data/table/labels.csv: too many cells, counting empty formatted ones; delete the "
        "empty rows",
    ),
    "a hundred thousand formats too many": (
        repacked(
            lambda name, part: part.replace(b"</cellXfs>", b"<xf/>" * 600_000 + b"</cellXfs>")
        ),
        "data/table/labels.csv: too many cells, counting empty formatted ones; delete the "
        "empty rows",
    ),
    "elements nested deeply": (
        with_cells(b"<a>" * 10**5 + b"</a>" * 10**5),
        "data/table/labels.csv: not a valid Excel workbook: its elements are nested too deeply",
    ),
    "more than a hundred million bytes": (
        with_cells(b"<!--" + bytes(2**27).replace(b"\0", b" ") + b"-->"),
        "data/table/labels.csv: more than 134,217,728 bytes when unpacked; save only the "
        "table, as CSV",
    ),
    "a workbook with macros": (
        repacked(
            lambda name, part: part.replace(
                b"openxmlformats-officedocument.spreadsheetml.sheet.main",
                b"ms-excel.sheet.macroEnabled.main",
            )
        ),
        None,
    ),
    "a sheet in UTF-16": (
        repacked(lambda name, part: part.decode().encode("utf-16") if "sheet1" in name else part),
        None,
    ),
    "a sheet with prefixes": (
        repacked(with_prefixes),
        None,
    ),
    "cells without their places": (
        repacked(lambda name, part: re.sub(rb' r="\w+"', b"", part) if "sheet1" in name else part),
        None,
    ),
    "a strict workbook with a date": (
        repacked(
            lambda name, part: strict(
                name, re.sub(rb'<c r="A2".*?</c>', b'<c r="A2" t="d"><v>2024-01-02</v></c>', part)
            )
        ),
        "line 2: name is '2024-01-02', a date, which Excel makes from names such as 1-2; "
        "format the column as text",
    ),
    "columns that are folded away": (
        altered(lambda book, sheet: sheet.column_dimensions.group("B", "C", hidden=True)),
        "data/table/labels.csv: the column 'truth' is hidden; unhide or rename it",
    ),
    "a size that is not true": (
        repacked(lambda name, part: re.sub(rb'ref="[^"]+"', b'ref="A1:XFD1048576"', part)),
        None,
    ),
    "entities in a workbook": (
        repacked(
            lambda name, part: (
                b'<!DOCTYPE x [<!ENTITY a "aaaa">]>' + part if "sheet1" in name else part
            )
        ),
        "data/table/labels.csv: xl/worksheets/sheet1.xml declares a document type, which no "
        "workbook does",
    ),
    "a password": (
        compound("EncryptedPackage"),
        "data/table/labels.csv: a password-protected workbook, not a table; save the table as "
        "CSV UTF-8 or as .xlsx, w",
    ),
    "a document of an older Word": (
        compound("WordDocument"),
        "data/table/labels.csv: a Word document, not a table",
    ),
    "a document of Word": (
        archive(**{"word/document.xml": "x"}),
        "data/table/labels.csv: a Word document, not a table",
    ),
    "a binary workbook": (
        archive(**{"xl/workbook.bin": "x"}),
        "data/table/labels.csv: a binary Excel workbook (.xlsb), not a table; save the table "
        "as CSV UTF-8 or as .xlsx",
    ),
    "a spreadsheet of LibreOffice": (
        archive(mimetype="application/vnd.oasis.opendocument.spreadsheet"),
        "data/table/labels.csv: a LibreOffice spreadsheet (.ods), not a table; save the table "
        "as CSV UTF-8 or as .xlsx",
    ),
    "a spreadsheet of Numbers": (
        archive(**{"Index/Document.iwa": "x"}),
        "data/table/labels.csv: an Apple Numbers spreadsheet, not a table; save the table as "
        "CSV UTF-8 or as .xlsx",
    ),
    "a file of Parquet": (
        b"PAR1\x15\x04\x15",
        "data/table/labels.csv: a Parquet file, not a table",
    ),
    "a page of the web": (
        b"<!DOCTYPE html>\n<title>Sign in</title>",
        "data/table/labels.csv: a web page, not a table",
    ),
    "a table of Excel 2003 in XML": (
        b'\xef\xbb\xbf<?xml version="1.0"?><Workbook/>',
        "data/table/labels.csv: XML, not a table",
    ),
    "UTF-32 with its mark": (
        ROWS.encode("utf-32"),
        "data/table/labels.csv, line 1: a zero byte, which no text has",
    ),
    "a workbook that is cut short": (
        workbook([["name", "truth"], ["a1.png", 1]])[:900],
        ": an archive or a spreadsheet of",
    ),
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_reads_or_refuses_each_kind_of_table_file(workplace, kind):
    content, said = CONTENTS[kind]
    (make_table("", NAMES) / "labels.csv").write_bytes(content)
    check(run_stage("crops", "manifest"), said)


DATE = (
    "; Excel turns names such as 1-2 into dates: write the names again, in a column formatted as "
    "text"
)
ROUNDED = "a number without its last digits; write the names again, in a column formatted as text"
# Kind: (the slide of a1.png, next to 1-2 and 3-40; None if it is right, or else what is said).
SLIDES = {
    **{
        f"a slide that became {text}": (
            text,
            f"labels.csv, line 2: slide is '{text}', a date, but '1-2' is not{DATE}",
        )
        for text in (
            *(
                "02-Jan",
                "2-Jan",
                "Jan-02",
                "1-Mar",
                "02. Jan",
                "1. Mär",
                "02-janv",
                "02-janv.",
                "02-ene",
                "02.янв",
                "1月2日",
            ),
            *(
                "01.02.2024",
                "02/01/2024",
                "1/2/24",
                "2024-01-02",
                "2024-01-02 00:00:00",
                "02-Jan-24",
                "10:30:00",
            ),
        )
    },
    **{
        f"a slide that became {text}": (text, f"labels.csv, line 2: slide is '{text}', {ROUNDED}")
        for text in ("2.02312E+14", "2,02312E+14", "2.02312e+14", "1E+05")
    },
    **{
        f"{text} for a slide": (
            text,
            f"labels.csv, line 2: slide is '{text}', a spreadsheet error; write the name",
        )
        for text in (
            "#REF!",
            "#VALUE!",
            "#NAME?",
            "#DIV/0!",
            "#BEZUG!",
            "#¿NOMBRE?",
            "#####",
            "Err:502",
        )
    },
    "a slide that lost a letter": (
        "M\ufffdller",
        "labels.csv, line 2: slide is 'M\ufffdller', in which a letter was lost; save the "
        "table again, as CSV UTF-8",
    ),
    "a slide with a day within": ("2024-01-02_A", None),
    "a slide by letters of a month": ("MAR-1", None),
    "a slide by a plate's place": ("3E12", None),
    "a slide with a number sign": ("#12", None),
}


@pytest.mark.parametrize("kind", SLIDES)
def test_accepts_or_refuses_each_name_of_a_slide(workplace, kind):
    slide, said = SLIDES[kind]
    card = "title: t\nlabels: labels.csv\ncolumns: {name: name, label: truth, slide: slide}\n"
    make_table(
        f'name,truth,slide\na1.png,1,"{slide}"\na2.png,0,1-2\nb1.png,0,3-40\n', NAMES, card=card
    )
    check(run_stage("crops", "manifest"), said)


# Kind: (the card's lines, None if it is right or else what is said of it); the dataset has slides
# s0 to s2 in nonGS and GS.
CARDS = {
    "the same folder twice": ("classes: [GS, GS]", "must differ"),
    "the same folder, written in two ways": ("classes: [GS, GS/.]", "must differ"),
    "a missing folder": (
        "classes: [GS, sclerotic]",
        "data/small/sclerotic does not exist; the folders are GS, nonGS",
    ),
    "a folder by another case": (
        "classes: [nongs, GS]",
        "data/small/nongs does not exist; the folders are GS, nonGS",
    ),
    "a folder out of the dataset": (
        "classes: [../other, GS]",
        "it must be a name inside the dataset's folder",
    ),
    "one class": ("classes: [GS]", "classes is ['GS']"),
    "three classes": ("classes: [GS, nonGS, x]", "classes is ['GS', 'nonGS', 'x']"),
    "classes that are truth values": ("classes: [true, GS]", "classes.0 is True"),
    "a class folder that is passed over": (
        "classes: [., .GS]",
        ".GS is ignored, as all hidden and system files are",
    ),
    "everything and a part of it": ("classes: [., GS]", None),
    "classes as Keras numbers them": (
        "classes: [GS, nonGS]",
        "which makes 'GS' label 0, not sclerotic, and 'nonGS' label 1",
    ),
    "a part of the sclerotic ones that are not": (
        "classes: [GS, GS/non]",
        "write [GS/non, GS], or which folder is the",
    ),
    "the sclerotic ones and everything": ("classes: [GS, .]", "which makes 'GS' label 0"),
    "numbers, the larger one first": ("classes: [1, 0]", "which makes '1' label 0, not sclerotic"),
    "numbers that are text, the larger one first": (
        "classes: ['class2', 'class1']",
        "which makes 'class2' label 0",
    ),
    "sclerotic and healthy": (
        "classes: [sclerotic, healthy]",
        "write [healthy, sclerotic], or which folder is the sclerotic",
    ),
    "German names, inverted": ("classes: [sklerotisch, gesund]", "write [gesund, sklerotisch]"),
    "classes within each patient's folder, inverted": (
        "classes: ['*/GS', '*/nonGS']",
        "write [*/nonGS, */GS]",
    ),
    "a positive class that is neither of the two": (
        "classes: [nonGS, GS]\npositive: gs",
        "positive is 'gs'; it must be 'nonGS' or",
    ),
    "a positive class that is a truth value": (
        "classes: [nonGS, GS]\npositive: true",
        "positive is True",
    ),
    "the positive class first, which the card says": ("classes: [GS, nonGS]\npositive: GS", None),
    "the positive class second, which the card says": ("classes: [nonGS, GS]\npositive: GS", None),
    "a column of those that are not sclerotic": (
        "labels: l.csv\ncolumns: {name: n, label: non_sclerotic}",
        "columns.label is 'non_sclerotic', whose 1 seems to be for glomeruli that are not "
        "sclerotic",
    ),
    "a column of the healthy ones": (
        "labels: l.csv\ncolumns: {name: n, label: healthy}",
        "`positive: 0`, or `positive: 1`",
    ),
    "a positive value that is no label": (
        "labels: l.csv\ncolumns: {name: n, label: y}\npositive: GS",
        "it must be '0' or '1'",
    ),
    "a pattern that takes the whole name": (
        "classes: [nonGS, GS]\ngroup: '(?P<slide>.+)\\.png'",
        "each of the 12 crops is a separate slide, such as 's0-0' of GS/s0-0.png",
    ),
    "a pattern that takes the crop's number": (
        "classes: [nonGS, GS]\ngroup: '(?P<slide>s\\d-\\d)'",
        "write `group: none` if no two crops are of one patient",
    ),
    "each crop of another patient, which the card says": (
        "classes: [nonGS, GS]\ngroup: none",
        None,
    ),
    "a slide that is a sign": (
        "classes: [nonGS, GS]\ngroup: 's\\d(?P<slide>-)'",
        "the slide of 12 of 12 crops is '-', such as of",
    ),
    "a site that is a sign": (
        "classes: [nonGS, GS]\ngroup: '(?P<slide>s\\d)(?P<site>-)'",
        "the site of 12 of 12 crops is '-', such as of GS/s0-0.png, which means unknown; name "
        "the site of each",
    ),
    "corrections of another dataset": (
        "classes: [nonGS, GS]\ncorrections: other.csv",
        "line 2: 'x9-1.png' is not in data/small",
    ),
    "corrections that were once right": (
        "classes: [nonGS, GS]\ncorrections: stale.csv",
        "line 3: 'GS/s9-0.png' is not in data/small",
    ),
    "corrections behind a link that leads out": (
        "classes: [nonGS, GS]\ncorrections: out.csv",
        "out.csv is a link that leads out of",
    ),
    "a table behind a link that leads out": (
        "labels: out.csv\ncolumns: {name: path, label: label}",
        "data/small/out.csv is a link that leads out of data/small",
    ),
    "a pattern without a slide": (
        "classes: [nonGS, GS]\ngroup: '(.+)-'",
        "it must have the named group (?P<slide>...)",
    ),
    "an invalid pattern": (
        "classes: [nonGS, GS]\ngroup: '(?P<slide>'",
        "not a regular expression",
    ),
    "a pattern that fits nothing": (
        "classes: [nonGS, GS]\ngroup: '(?P<slide>case)'",
        "it does not match GS/s0-0.png (12 of 12 names",
    ),
    "a pattern that fits with nothing": (
        "classes: [nonGS, GS]\ngroup: '(?P<slide>x?)'",
        "it does not match GS/s0-0.png",
    ),
    "a pattern of the path": ("classes: [nonGS, GS]\ngroup: '[^/]+/(?P<slide>s.)'", None),
    "no pattern": ("classes: [nonGS, GS]\ngroup:", "`group:` is missing"),
    "words of a table that seem to be the other way round": (
        "classes: [sklerosiert, nicht]\nlabels: l.csv\ncolumns: {name: n, label: y}",
        "which makes 'sklerosiert' label 0",
    ),
    "a table without columns": ("labels: l.csv", "`columns:` (name and label"),
    "a missing table": (
        "labels: l.csv\ncolumns: {name: n, label: y}",
        "data/small/l.csv does not exist",
    ),
    "a table that is a folder": (
        "labels: GS\ncolumns: {name: n, label: y}",
        "data/small/GS: a folder; it must be a table",
    ),
    "a table out of the dataset": (
        "labels: /etc/passwd\ncolumns: {name: n, label: y}",
        "it must be a name inside the dataset's folder",
    ),
    "one column for two": (
        "labels: l.csv\ncolumns: {name: n, label: n}",
        "label is 'n', as another column is",
    ),
    "missing corrections": (
        "classes: [nonGS, GS]\ncorrections: c.csv",
        "data/small/c.csv does not exist",
    ),
    "a misspelt key": ("classes: [nonGS, GS]\nlicence: none", "licence is not a parameter here"),
    "a title that is a number": ("classes: [nonGS, GS]\ntitle: 7", "title is 7"),
}


@pytest.mark.parametrize("kind", CARDS)
def test_accepts_or_refuses_each_card(workplace, kind):
    lines, said = CARDS[kind]
    make_classes(slides=3)
    defaults = {"title": "title: t", "group": "group: '(?P<slide>s\\d)'"}
    added = [
        line for key, line in defaults.items() if not re.search(f"^{key}:", lines, re.MULTILINE)
    ]
    Path("data/small.yaml").write_text("\n".join([lines, *added, ""]))
    Path("elsewhere.csv").write_text("path,label\nGS/s0-0.png,1\n")
    Path("data/small/out.csv").symlink_to(Path("elsewhere.csv").resolve())
    Path("data/small/other.csv").write_text("path,label\nx9-1.png,1\n")
    Path("data/small/stale.csv").write_text("path,label\nGS/s0-0.png,0\nGS/s9-0.png,0\n")
    check(run_stage("crops", "manifest"), said, images=12)


def test_matches_names_in_different_unicode_forms(workplace):
    make_table(
        "name,truth\na\u00e9.png,1\na2.png,0\nb.png,0\n", ["ae\u0301.png", "a2.png", "b.png"]
    )
    check(run_stage("crops", "manifest"), None, images=3)


def link_out(folder):
    (folder / "GS/s9-0.png").symlink_to(save_crop(Path("elsewhere.png").resolve(), 9))


def link_folder(folder):
    (folder / "GS/more").symlink_to("/etc")


def dangling(folder):
    (folder / "GS/s9-0.png").symlink_to("nothing.png")


def link_to_itself(folder):
    (folder / "GS/s9-0.png").symlink_to("s9-0.png")


def links_in_a_circle(folder):
    (folder / "GS/s9-0.png").symlink_to("s9-1")
    (folder / "GS/s9-1").symlink_to("../GS/s9-0.png")


def link_to_its_parent(folder):
    (folder / "GS/more").symlink_to("..")


def link_to_a_device(folder):
    (folder / "GS/s9-0.png").symlink_to("/dev/zero")


def socket_of_a_program(folder):
    with contextlib.chdir(folder / "GS"), socket.socket(socket.AF_UNIX) as server:
        server.bind("s9-0.png")


def deep_folders(folder):
    with contextlib.chdir(folder):
        for _ in range(150):
            os.mkdir("a")
            os.chdir("a")


def table_that_is_a_pipe(folder):
    os.mkfifo(folder / "labels.csv")
    Path("data/small.yaml").write_text(
        "title: t\nlabels: labels.csv\ncolumns: {name: n, label: y}\ngroup: '(?P<slide>s.)'\n"
    )


def card_that_is_a_pipe(folder):
    Path("data/small.yaml").unlink()
    os.mkfifo("data/small.yaml")


def params_that_are_a_pipe(folder):
    Path("params.yaml").unlink()
    os.mkfifo("params.yaml")


def fifo(folder):
    os.mkfifo(folder / "GS/s9-0.png")


def directory(folder):
    (folder / "GS/s9-0.png").mkdir()


def unreadable(folder):
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    (folder / "GS/s0-0.png").chmod(0)


def empty(folder):
    for file in folder.rglob("*.png"):
        file.unlink()


def same_bytes(folder):
    (folder / "GS/s1-77.png").write_bytes((folder / "nonGS/s1-1.png").read_bytes())


FOLDERS = {
    link_out: "'data/small/GS/s9-0.png' is a link that leads out of data/small",
    link_folder: "'data/small/GS/more' is a link to a folder",
    dangling: "'data/small/GS/s9-0.png' is not a file",
    link_to_itself: "'data/small/GS/s9-0.png' is not a file, but a link that leads nowhere",
    links_in_a_circle: "'data/small/GS/s9-0.png' is not a file, but a link that leads nowhere",
    link_to_its_parent: (
        "'data/small/GS/more' is a link to a folder; links to folders are not followed"
    ),
    link_to_a_device: "'data/small/GS/s9-0.png' is a link that leads out of data/small",
    socket_of_a_program: "'data/small/GS/s9-0.png' is not a file",
    deep_folders: "is in 100 folders; nest them less deeply",
    table_that_is_a_pipe: "data/small/labels.csv: a pipe or a device; it must be a table",
    card_that_is_a_pipe: "data/small.yaml does not exist",
    params_that_are_a_pipe: "params.yaml is not a file",
    fifo: "'data/small/GS/s9-0.png' is not a file",
    directory: None,
    unreadable: "data/small/GS/s0-0.png does not open as an image: Permission denied",
    empty: "data/small holds no image",
    same_bytes: "GS/s1-77.png and nonGS/s1-1.png: the same image under both labels",
}


@pytest.mark.parametrize("change", FOLDERS, ids=lambda change: change.__name__)
def test_accepts_or_refuses_each_folder(workplace, change):
    change(make_classes(slides=3))
    check(run_stage("crops", "manifest"), FOLDERS[change], images=12)


# A billion values in nine lines.
ALIASES = b"a: &a [{x: 1}]\n" + b"".join(
    b"%c: &%c [%s]\n" % (n, n, b",".join([b"*%c" % (n - 1)] * 9)) for n in range(98, 107)
)


@pytest.mark.parametrize("name", ["params.yaml", "data/small.yaml"])
@pytest.mark.parametrize(
    "content",
    [
        *(
            b"",
            b"[1, 2]",
            b"just text",
            b"\xff\xfe\x00",
            b"a: [",
            b"a: 1\na: 2",
            b"!!python/object:os.system {}",
        ),
        *(
            b"a: !!int ''",
            b"a: !!bool x",
            b"a: *b",
            b"a: &a [*a]",
            b"<<: 1",
            b"a: " + b"[" * 900,
            b"a: " + b"[" * 10**6,
        ),
        *(
            b"- " * 90_000,
            b"a: " + b"x" * 10**6,
            ALIASES,
            ALIASES.replace(b"[", b"{<<: [").replace(b"]", b"]}"),
        ),
    ],
    ids=lambda content: repr(content[:20]),
)
def test_refuses_nonsense_in_yaml(workplace, name, content):
    make_classes(slides=3)
    Path(name).write_bytes(content)
    check(run_stage("crops", "manifest"), name)


# Kind: (stage, what is damaged, how, what is said of it).
def cut(path, share=0.5):
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: int(share * len(content))])


DAMAGES = [
    (
        "split",
        "data/manifest.csv",
        lambda path: Path(path).write_text("x\n"),
        "data/manifest.csv is not as its stage wrote it",
    ),
    (
        "evaluate",
        "data/padded/images.npy",
        cut,
        "data/padded/images.npy is not as its stage wrote it",
    ),
    (
        "evaluate",
        "data/split.csv",
        cut,
        "data/split.csv: it is not the file that models/model.json was trained with",
    ),
    (
        "evaluate",
        "models/calibration.json",
        cut,
        "models/calibration.json is not as its stage wrote it",
    ),
    (
        "evaluate",
        "models/model.keras",
        cut,
        "models/model.keras: it is not the file that models/model.json was written with",
    ),
    (
        "calibrate",
        "models/validation.csv",
        cut,
        "models/validation.csv: it is not the file that models/model.json was written with",
    ),
]


@pytest.mark.slow
def test_damaged_results_of_earlier_stages(workplace):
    make_classes(slides=10)
    set_params({"pad.size": 8, "train.epochs": 1, "model.step": "logistic"})
    for stage in ("crops", "manifest", "split", "pad", "features", "train", "calibrate"):
        assert run_stage(stage).returncode == 0
    for stage, path, damage, said in DAMAGES:
        intact = Path(path).read_bytes()
        damage(path)
        done = run_stage(stage)
        error = done.stderr[done.stderr.rindex("error: ") :].splitlines()[-1]
        assert done.returncode == 1 and said in error
        assert not Path("metrics/test.json").exists()
        Path(path).write_bytes(intact)
    assert run_stage("evaluate").returncode == 0


def changed(**changes):
    """Change values of a JSON file, given as text: what it holds need not be what JSON allows."""

    def change(path):
        content = json.loads(path.read_text())
        marks = {}
        for name, text in changes.items():
            *parents, last = name.split("__")
            node = content
            for parent in parents:
                node = node.setdefault(parent, {})
            marks[f"<{name}>"] = text
            node[last] = f"<{name}>"
        written = json.dumps(content)
        for mark, text in marks.items():
            written = written.replace(f'"{mark}"', text)
        path.write_text(written)

    return change


def another_array(**arrays):
    def change(path):
        with np.load(path) as held:
            content = dict(held) | arrays
        np.savez(path, **content)

    return change


NOT_THIS_TRAINING = "it is not the file that folder/model.json was written with"
ANOTHER_MODEL = "it was made for another model than folder/model."
# Kind: (file in the folder of a model, what is done to it, what is said).
MODEL_FOLDERS = {
    "another network": (
        "model.keras",
        lambda path: path.write_bytes(b"another"),
        NOT_THIS_TRAINING,
    ),
    "other validation predictions": (
        "validation.csv",
        lambda path: path.write_text("path\n"),
        NOT_THIS_TRAINING,
    ),
    "a threshold of another training": (
        "calibration.json",
        changed(model_sha256=f'"{64 * "1"}"'),
        ANOTHER_MODEL,
    ),
    "a novelty reference of another manifest": (
        "novelty.npz",
        another_array(made_from=np.array(["1", "2", "3"])),
        ANOTHER_MODEL,
    ),
    "a novelty reference of other features": (
        "novelty.npz",
        another_array(made_from=np.array([64 * "0", 64 * "0", "1"])),
        ANOTHER_MODEL,
    ),
    "a card of another network": (
        "model.json",
        changed(**{"files_sha256__model.keras": f'"{64 * "1"}"'}),
        NOT_THIS_TRAINING,
    ),
    "a later format": (
        "model.json",
        changed(format_version="4"),
        "model.json: format_version is 4, but this code reads 3; use the code that the model was",
    ),
    "a card without digests": ("model.json", changed(files_sha256="{}"), NOT_THIS_TRAINING),
    "a card of another split": (
        "model.json",
        changed(dataset__split_sha256=f'"{64 * "1"}"'),
        "novelty.npz: it was made for",
    ),
    "an invalid digest": (
        "model.json",
        changed(dataset__split_sha256='"abc"'),
        "dataset.split_sha256: String should match",
    ),
    "an invalid size": (
        "model.json",
        changed(size="-1"),
        "model.json is not as its stage wrote it (size: ",
    ),
    "a size of text": (
        "model.json",
        changed(size='"16"'),
        "model.json is not as its stage wrote it (size: ",
    ),
    "an unknown padding": (
        "model.json",
        changed(padding='"blue"'),
        "model.json is not as its stage wrote it (padding: ",
    ),
    "one class": (
        "model.json",
        changed(classes='["a"]'),
        "model.json is not as its stage wrote it (classes: ",
    ),
    "another padding mode": ("model.json", changed(padding='"zero"'), ANOTHER_MODEL),
    "a recalibrated card": ("model.json", changed(recalibrated='{"method":"m"}'), ANOTHER_MODEL),
    "a threshold of 7": (
        "calibration.json",
        changed(threshold="7"),
        "threshold: Input should be less than or equal to 1",
    ),
    "a threshold below 0": (
        "calibration.json",
        changed(threshold="-0.1"),
        "threshold: Input should be greater than or equal to 0",
    ),
    "a threshold of NaN": (
        "calibration.json",
        changed(threshold="NaN"),
        "NaN is not a finite number",
    ),
    "a threshold of infinity": (
        "calibration.json",
        changed(threshold="Infinity"),
        "Infinity is not a finite number",
    ),
    "a threshold that overflows": (
        "calibration.json",
        changed(threshold="1e999"),
        "1e999 is not a finite number",
    ),
    "a threshold of text": (
        "calibration.json",
        changed(threshold='"0.5"'),
        "threshold: Input should be a valid number",
    ),
    "a threshold that is true": (
        "calibration.json",
        changed(threshold="true"),
        "threshold: Input should be a valid number",
    ),
    "no threshold": (
        "calibration.json",
        changed(threshold="null"),
        "threshold: Input should be a valid number",
    ),
    "a threshold that stands twice": (
        "calibration.json",
        lambda path: path.write_text(path.read_text().replace("{", '{"threshold": 0.1,', 1)),
        "the key 'threshold' appears twice",
    ),
    "a band above 1": (
        "calibration.json",
        changed(uncertain__high="1.5"),
        "uncertain.high: Input should be less than",
    ),
    "a band below 0": (
        "calibration.json",
        changed(uncertain__low="-0.5"),
        "uncertain.low: Input should be greater than",
    ),
    "half a band": (
        "calibration.json",
        changed(uncertain__low="null"),
        "low and high must both be null",
    ),
    "a band upside down": (
        "calibration.json",
        changed(uncertain__low="0.9"),
        "low must not be above high",
    ),
    "a band elsewhere": (
        "calibration.json",
        changed(uncertain__low="0.7", uncertain__high="0.8"),
        "the uncertain band, 0.7 to 0.8, does not contain the threshold 0.5",
    ),
    "an unknown rule": (
        "calibration.json",
        changed(threshold_rule='"best"'),
        "threshold_rule: Input should be 'fixed', 'youden'",
    ),
    "a target above 1": (
        "calibration.json",
        changed(threshold_rule='"sensitivity"', target_sensitivity="1.5"),
        "target_sensitivity: Input should be less than",
    ),
    "a target without its rule": (
        "calibration.json",
        changed(target_sensitivity="0.9"),
        "target_sensitivity must be a number if threshold_rule is about sensitivity",
    ),
    "a rule without its target": (
        "calibration.json",
        changed(threshold_rule='"sensitivity"'),
        "target_sensitivity must be a number if",
    ),
    "an unknown calibration": (
        "calibration.json",
        changed(calibration__method='"beta"'),
        "calibration.method: Input should be",
    ),
    "a slope without its method": (
        "calibration.json",
        changed(calibration__members='[{"slope":2.0}]'),
        "those of a calibration by none",
    ),
    "a slope that falls": (
        "calibration.json",
        changed(calibration='{"method":"sigmoid","members":[{"slope":-1.0}]}'),
        "calibration.members.0.slope: Input should be greater than or equal to 0",
    ),
    "a slope that is not finite": (
        "calibration.json",
        changed(calibration='{"method":"sigmoid","members":[{"slope":-Infinity}]}'),
        "not a finite",
    ),
    "points that fall": (
        "calibration.json",
        changed(calibration='{"method":"isotonic","members":[{"points":[[0.1,0.5],[0.9,0.4]]}]}'),
        "those of a calibration by isotonic, or do not rise",
    ),
    "points out of order": (
        "calibration.json",
        changed(calibration='{"method":"isotonic","members":[{"points":[[0.9,0.1],[0.1,0.4]]}]}'),
        "those of a calibration by isotonic, or do not rise",
    ),
    "no points": (
        "calibration.json",
        changed(calibration='{"method":"isotonic","members":[{}]}'),
        "those of a calibration by isotonic",
    ),
    "points beyond 1": (
        "calibration.json",
        changed(calibration='{"method":"isotonic","members":[{"points":[[0.1,0.5],[0.9,1.4]]}]}'),
        "calibration.members.0.points.1.1: Input should be less than",
    ),
    "a key that is not known": (
        "calibration.json",
        changed(treshold="0.1"),
        "treshold: Extra inputs are not permitted",
    ),
    "a list": (
        "calibration.json",
        lambda path: path.write_text("[]"),
        "calibration.json is not as its stage wrote it",
    ),
    "an empty file": (
        "calibration.json",
        lambda path: path.write_text(""),
        "calibration.json is not as its stage wrote it",
    ),
    "a nest of lists": (
        "calibration.json",
        lambda path: path.write_text(100_000 * "["),
        "it is nested too deeply",
    ),
    "other training crops": (
        "crops.csv",
        lambda path: path.write_text("pixels_sha256,split\n0,train\n"),
        NOT_THIS_TRAINING,
    ),
    "no training crops": (
        "crops.csv",
        Path.unlink,
        "crops.csv does not exist; the folder of a model holds",
    ),
    "no novelty reference": (
        "novelty.npz",
        Path.unlink,
        "novelty.npz does not exist; the folder of a model holds",
    ),
    "distances that are no numbers": (
        "novelty.npz",
        another_array(distances=np.array([np.nan])),
        "distances holds a number that is not finite",
    ),
    "distances out of order": (
        "novelty.npz",
        another_array(distances=np.array([2.0, 1.0])),
        "its arrays do not fit together",
    ),
    "fewer features": (
        "novelty.npz",
        another_array(mean=np.zeros(3)),
        "its arrays do not fit together",
    ),
    "halved numbers": (
        "novelty.npz",
        another_array(mean=np.zeros(0, np.float32)),
        "mean must hold 64-bit numbers",
    ),
    "half an archive": ("novelty.npz", cut, "novelty.npz is damaged"),
}


@pytest.mark.parametrize("kind", MODEL_FOLDERS)
def test_refuses_a_damaged_model_folder(workplace, kind):
    folder = Path("folder")
    folder.mkdir()
    (folder / "model.keras").write_bytes(b"a network")
    write_beside(folder)
    name, damage, said = MODEL_FOLDERS[kind]
    damage(folder / name)
    with pytest.raises(UserError) as error:
        read_classifier(folder)
    assert said in str(error.value) and all(
        line.startswith("folder/") for line in str(error.value).splitlines()
    )
