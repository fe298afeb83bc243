"""Reading TIFF, as scanners, ImageJ and Photoshop write it, with tifffile and imagecodecs.

Pillow reads 16-bit planes as if they had 8 bits (python-pillow/Pillow#4621), and supports neither
12 bits nor most compressions.
"""

import io
import logging
import math
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, cast
from xml.etree import ElementTree

from PIL import Image

from stages.base import arithmetic
from stages.images.colors import CHANNELS, CMYK, GRAYS, JPEG_COMPRESSIONS, LAB, PALETTE, as_rgb
from stages.images.damage import NotReadError, refuse_damaged_jpeg

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

if not arithmetic.hosted:
    # tifffile logs what is odd in irrelevant tags; what it cannot read it raises.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)

# Compressions whose strips or tiles are pictures that state their own size.
PICTURES = (*JPEG_COMPRESSIONS, 33003, 33004, 33005, 34712, 50001)
COMPRESSIONS = (1, 2, 3, 4, 5, 8, 32773, 32946, 34925, 50000, *PICTURES)
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Tags that say how to read pixels: sizes, bits, colors, compression, strips and tiles, predictor,
# palette, inks, extra channels, number format, YCbCr.
TAGS = {
    *(254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284),
    *(317, 320, 322, 323, 324, 325, 338, 339, 530, 532),
}
FLOATING = {3: "floating-point ", 5: "complex ", 6: "complex "}  # By sample format.
MOST_CHANNELS = 999
MOST_PAGES = 16  # that are inspected to say what else a file holds


class Decoded(NamedTuple):
    """A picture as 8-bit RGB or RGBA, the bits per channel of its file, and lines on its doubts."""

    image: Image.Image
    bits: int
    doubts: list[str]


def is_tiff(start: bytes) -> bool:
    """Return whether a file that begins with these four bytes is a TIFF, of 32 or of 64 bits."""
    return start in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_tiff(data: bytes, check_size: Callable[[int, int], None]) -> Decoded:
    """Return the first picture of a TIFF, upright.

    Gray, palette, RGB, CMYK and YCbCr are read with 1 to 16 bits per channel, in strips, tiles or
    planes. Depths over 8 bits keep the upper 8 of the range that the file states. Pillow reads Lab.

    Args:
        check_size: called with width and height before any pixel is decoded; it may raise.

    Raises:
        NotReadError: the picture is of an unsupported kind, cut short, or perhaps part of another.
        Exception: of many kinds, if the file is damaged.
    """
    # It takes a tenth of a second to import, which crops in other formats do not need.
    from tifffile import TiffFile, TiffPage

    # Other files that an OME-TIFF names are never opened.
    with TiffFile(io.BytesIO(data), is_ome=False, _multifile=False) as file:
        page = file.pages[0]
        assert isinstance(page, TiffPage)
        check_size(page.imagewidth, page.imagelength)
        _check_tags(file, page)
        _refuse_ome_channels(page)
        doubts = _check_further_pages(file, page)
        extra = _check_page(page)
        _check_segments(page, file.filehandle.size)
        _check_pictures(page, check_size, doubts)
        image = as_rgb(data, page, extra, doubts)
        orientation = page.tags.valueof(274)
    turn = TURNS.get(orientation) if isinstance(orientation, int) else None
    upright = image.transpose(turn) if turn is not None else image
    return Decoded(upright, int(page.bitspersample), doubts)


def _check_tags(file: "TiffFile", page: "TiffPage") -> None:
    """Refuse a page with a damaged tag on how to read its pixels: tifffile would use a default."""
    file.filehandle.seek(page.offset)
    (count,) = struct.unpack(file.tiff.tagnoformat, file.filehandle.read(file.tiff.tagnosize))
    entries = file.filehandle.read(count * file.tiff.tagsize)
    for place in range(0, len(entries), file.tiff.tagsize):
        (code,) = struct.unpack_from(f"{file.byteorder}H", entries, place)
        if code in TAGS and code not in page.tags:
            raise NotReadError(f"it is damaged: its tag {code} cannot be read")


def ome_channels(description: str | None) -> list[str] | None:
    """Return the names of the channels of an OME-TIFF's first image, such as ["DAPI", "FITC"].

    A name is empty if none is stated. RGB is one channel of three samples, or three channels in a
    page that is RGB.

    Args:
        description: the first page's ImageDescription.

    Returns:
        None if that is not OME-XML.
    """
    if not description or "<OME" not in description[:1000] + description[-1000:]:
        return None
    try:
        pixels = ElementTree.fromstring(description.strip().strip("\0")).find("{*}Image/{*}Pixels")
        if pixels is None:
            return None
        channels = pixels.findall("{*}Channel")
        samples = sum(int(channel.get("SamplesPerPixel") or 1) for channel in channels)
        missing = int(pixels.get("SizeC") or 1) - samples
    except (ElementTree.ParseError, ValueError):
        return None
    return [channel.get("Name") or "" for channel in channels] + [""] * min(missing, MOST_CHANNELS)


def _refuse_ome_channels(page: "TiffPage") -> None:
    """Refuse an OME-TIFF of several channels, such as fluorescence."""
    channels = ome_channels(page.description) or []
    is_color = page.photometric not in GRAYS and page.samplesperpixel == 3
    if len(channels) < 2 or is_color:
        return
    names = ", ".join(name for name in channels if name)
    said = f" ({names})" if names else ""
    raise NotReadError(f"it is an OME-TIFF of {len(channels)} channels{said}; save it as RGB")


def _check_further_pages(file: "TiffFile", first: "TiffPage") -> list[str]:
    """Return a doubt if a file holds several pictures, besides smaller copies of the first."""
    pages = [first]
    for number in range(1, MOST_PAGES):
        try:
            page = cast("TiffPage", file.pages[number])
        except IndexError:
            break
        if not page.is_mask:
            pages.append(page)
    whole = [page for page in pages if not page.is_reduced]
    if first.is_reduced and whole:
        raise NotReadError(
            "its first picture is a reduced copy of a later one; save only the right one"
        )
    if len(whole) < 2:
        return []
    several = f"{len(whole)} pictures" if len(pages) < MOST_PAGES else "many pictures"
    if all(
        page.photometric in GRAYS and page.samplesperpixel == 1 and page.shape == first.shape
        for page in whole
    ):
        raise NotReadError(
            f"it holds {several} in gray of one size: color channels, focal planes or stains; "
            "save one as RGB"
        )
    return [f"it holds {several}; the first is read"]


def _check_page(page: "TiffPage") -> int:
    """Refuse an unsupported page; return the number of channels besides the colors."""
    colors = CHANNELS.get(int(page.photometric))
    if colors is None:
        raise NotReadError(
            f"its photometric interpretation is {int(page.photometric)}; save it as RGB"
        )
    if page.compression not in COMPRESSIONS:
        raise NotReadError(
            f"its compression {int(page.compression)} is not supported; save it uncompressed"
        )
    bits = page.bitspersample
    if not isinstance(bits, int) or isinstance(page.sampleformat, tuple):
        raise NotReadError("its channels differ in depth; save it with 8 bits per channel")
    if bits > 16 or page.sampleformat in FLOATING:
        kind = FLOATING.get(page.sampleformat, "")
        raise NotReadError(
            f"it has {bits}-bit {kind}pixels, whose white is undefined; save it as whole numbers "
            "of 8 or 16 bits"
        )
    if page.sampleformat != 1:
        raise NotReadError(
            "its numbers are signed, and their white is undefined; save it with unsigned ones"
        )
    is_gray = page.photometric in GRAYS
    if not is_gray and (258 not in page.tags or (277 not in page.tags and colors > 1)):
        raise NotReadError("it is damaged: it does not state its number of channels and bits")
    if int(page.planarconfig or 1) not in (1, 2):
        raise NotReadError(f"it is damaged: its planar configuration is {int(page.planarconfig)}")
    if page.imagedepth != 1 or 0 in page.shaped:
        raise NotReadError("it is not a flat picture; save it as RGB")
    if page.photometric in (PALETTE, LAB) and bits > 8:
        raise NotReadError(f"it has {bits} bits of palette or Lab; save it as RGB")
    if page.photometric == CMYK and page.tags.valueof(332, 1) != 1:
        raise NotReadError("its inks are not cyan, magenta, yellow and black; save it as RGB")
    extra = page.samplesperpixel - colors
    unknown = is_gray and extra and not {1, 2} & set(page.extrasamples)
    if extra not in (0, 1) or unknown:
        kind = "gray" if colors == 1 else "color"
        raise NotReadError(
            f"it has {page.samplesperpixel} channels of {kind}, and does not state which are red, "
            "green and blue; save it as RGB"
        )
    return extra


def _check_segments(page: "TiffPage", size: int) -> None:
    """Refuse a file that lacks some of its strips or tiles, which would be black."""
    if page.is_tiled:
        across = math.ceil(page.imagewidth / page.tilewidth)
        down = math.ceil(page.imagelength / page.tilelength)
    else:
        across, down = 1, math.ceil(page.imagelength / min(page.rowsperstrip, page.imagelength))
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    expected = across * down * planes
    offsets, counts = page.dataoffsets, page.databytecounts
    # tifffile counts contiguous segments as one.
    in_one_piece = len(offsets) == 1 and page.is_contiguous
    if len(offsets) < expected and not in_one_piece:
        raise NotReadError(f"it is damaged: it has {len(offsets)} of {expected} strips or tiles")
    # Uncompressed pixels take rows of whole bytes, and whole tiles.
    width, height = page.imagewidth, page.imagelength
    if page.is_tiled:
        width, height = page.tilewidth, page.tilelength * across * down
    row_bits = width * (page.samplesperpixel // planes) * int(page.bitspersample)
    needed, stated = planes * height * math.ceil(row_bits / 8), sum(counts)
    if page.compression == 1 and stated != needed:
        raise NotReadError(
            f"it is damaged: its strips or tiles have {stated:,} bytes; its pixels need {needed:,}"
        )
    if any(
        offset <= 0 or count <= 0 or offset + count > size for offset, count in zip(offsets, counts)
    ):
        raise NotReadError("it is cut short: some of its strips or tiles are missing")


def _check_pictures(
    page: "TiffPage", check_size: Callable[[int, int], None], doubts: list[str]
) -> None:
    """Refuse strips or tiles that are damaged JPEG, or pictures far larger than their place."""
    if page.is_tiled:
        check_size(page.tilewidth, page.tilelength)
    if page.compression not in PICTURES:
        return
    width, height = (page.tilewidth, page.tilelength) if page.is_tiled else (page.imagewidth, 1)
    width, height = min(page.imagewidth, width), min(page.imagelength, height)
    tables = page.jpegtables if page.compression in JPEG_COMPRESSIONS else None
    for offset, count in zip(page.dataoffsets, page.databytecounts):
        page.parent.filehandle.seek(offset)
        data = page.parent.filehandle.read(count)
        with Image.open(io.BytesIO(data), formats=("JPEG", "JPEG2000", "WEBP")) as inner:
            check_size(*inner.size)
            if inner.width < width or inner.height < height:
                raise NotReadError("it is damaged: a strip or tile is smaller than its place")
            if inner.format == "JPEG":
                # The tables of all strips are stored once, as a JPEG file without a picture.
                complete = tables[:-2] + data[2:] if tables else data
                refuse_damaged_jpeg(complete, inner.mode, doubts)
