"""Reading TIFF, of which scanners, ImageJ and Photoshop write many kinds, with tifffile and
imagecodecs.

Pillow reads 16-bit planes as if they had 8 bits (python-pillow/Pillow#4621), and knows neither 12
bits nor most compressions.
"""

import io
import logging
import math
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, cast
from xml.etree import ElementTree

from PIL import Image

from stages.images.colors import CMYK, COLORS, GRAY, JPEG, LAB, PALETTE, as_rgb
from stages.images.damage import NotRead, refuse_damaged_jpeg

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

# It logs what it finds odd in tags that are of no concern here; what it cannot read it raises.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)

# Compressions that hold a picture of their own in each strip or tile, which says itself how large
# it is.
PICTURES = (*JPEG, 33003, 33004, 33005, 34712, 50001)
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
# Sizes, bits, colors, compression, strips and tiles, predictor, palette, inks, further channels,
# number format, YCbCr.
TAGS = {
    int(code)
    for code in "254 256 257 258 259 262 266 273 274 277 278 279 284 317 320 322 323 324 325 338 339 530 532".split()
}
FLOATING = {3: "floating-point ", 5: "complex ", 6: "complex "}  # By the number format.
MOST_CHANNELS = 999
MOST_PAGES = 16  # that are looked at, to say what else a file holds


class Decoded(NamedTuple):
    """The first picture of a TIFF as 8-bit RGB or RGBA; its bits a channel; and what is doubtful
    about it.
    """

    image: Image.Image
    bits: int
    doubts: list[str]


def is_tiff(start: bytes) -> bool:
    """Return whether a file that begins with these four bytes is a TIFF, of 32 or of 64 bits."""
    return start in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_tiff(data: bytes, check_size: Callable[[int, int], None]) -> Decoded:
    """Return the first picture of a TIFF, upright.

    Gray, palette, RGB, CMYK and YCbCr with 1 to 16 bits a channel, in strips, tiles or planes. More
    than 8 bits keep their upper 8, over the range that the file states. Lab is left to Pillow.

    Args:
        check_size: called with width and height before any pixel is decoded; it may raise.

    Raises:
        NotRead: the picture is of a kind that is not read, is cut short, or may be a part of one.
        Exception: of many kinds, where the file is damaged.
    """
    # It takes a tenth of a second to import, which crops in other formats need not wait for.
    from tifffile import TiffFile, TiffPage

    # Of OME-TIFF, other files that this one names are never opened.
    with TiffFile(io.BytesIO(data), is_ome=False, _multifile=False) as file:
        page = file.pages[0]
        assert isinstance(page, TiffPage)
        check_size(page.imagewidth, page.imagelength)
        _check_tags(file, page)
        _refuse_channels(file, page)
        doubts = _further_pages(file, page)
        extra = _check(page)
        _check_segments(page, file.filehandle.size)
        _check_pictures(page, check_size, doubts)
        image = as_rgb(data, page, extra, doubts)
        orientation = page.tags.valueof(274)
    turn = TURNS.get(orientation) if isinstance(orientation, int) else None
    return Decoded(
        image.transpose(turn) if turn is not None else image, int(page.bitspersample), doubts
    )


def _check_tags(file: "TiffFile", page: "TiffPage") -> None:
    """Refuse a page of whose tags one is damaged that says how its pixels are to be read: a default
    would take its place.
    """
    file.filehandle.seek(page.offset)
    (count,) = struct.unpack(file.tiff.tagnoformat, file.filehandle.read(file.tiff.tagnosize))
    entries = file.filehandle.read(count * file.tiff.tagsize)
    codes = (
        struct.unpack_from(f"{file.byteorder}H", entries, place)[0]
        for place in range(0, len(entries), file.tiff.tagsize)
    )
    if lost := [code for code in codes if code in TAGS and code not in page.tags]:
        raise NotRead(f"it is damaged: its tag {lost[0]} cannot be read")


def ome_channels(description: str | None) -> list[str] | None:
    """Return the names of the channels of an OME-TIFF's first image, such as ["DAPI", "FITC"]; [""]
    for RGB.

    A name is empty where none is stated. RGB is one channel, of three samples, or three in a page
    that is RGB.

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
        missing = int(pixels.get("SizeC") or 1) - sum(
            int(c.get("SamplesPerPixel") or 1) for c in channels
        )
    except (ElementTree.ParseError, ValueError):
        return None
    return [channel.get("Name") or "" for channel in channels] + [""] * min(missing, MOST_CHANNELS)


def _refuse_channels(file: "TiffFile", page: "TiffPage") -> None:
    """Refuse an OME-TIFF of several channels, as of fluorescence: the second would be taken for
    transparency.
    """
    channels = ome_channels(page.description)
    if (
        not channels
        or len(channels) < 2
        or (page.photometric not in GRAY and page.samplesperpixel == 3)
    ):
        return
    names = ", ".join(name for name in channels if name)
    raise NotRead(
        f"it is an OME-TIFF of {len(channels)} channels{f' ({names})' if names else ''}; save it as RGB"
    )


def _further_pages(file: "TiffFile", first: "TiffPage") -> list[str]:
    """Return what is doubtful where a file holds several pictures, besides smaller copies of the
    first.
    """
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
        raise NotRead(
            "its first picture is a reduced copy of a later one; save the one that is meant alone"
        )
    if len(whole) < 2:
        return []
    several = f"{len(whole)} pictures" if len(pages) < MOST_PAGES else "many pictures"
    if all(
        page.photometric in GRAY and page.samplesperpixel == 1 and page.shape == first.shape
        for page in whole
    ):
        raise NotRead(
            f"it holds {several} in gray of one size: colors one by one, focal planes or channels; save one in RGB"
        )
    return [f"it holds {several}; the first is read"]


def _check(page: "TiffPage") -> int:
    """Refuse what is not read; return how many channels there are besides the colors."""
    colors = COLORS.get(int(page.photometric))
    if colors is None:
        raise NotRead(f"its photometric interpretation is {int(page.photometric)}; save it as RGB")
    if page.compression not in COMPRESSIONS:
        raise NotRead(
            f"its compression is {int(page.compression)}, which is not read; save it without"
        )
    bits = page.bitspersample
    if not isinstance(bits, int) or isinstance(page.sampleformat, tuple):
        raise NotRead("its channels differ in their bits; save it with 8 bits a channel")
    if bits > 16 or page.sampleformat in FLOATING:
        kind = FLOATING.get(page.sampleformat, "")
        raise NotRead(
            f"it has {bits}-bit {kind}pixels, whose white is not defined; save it as whole numbers of 8 or 16 bits"
        )
    if page.sampleformat != 1:
        raise NotRead(
            "its numbers are signed, and their white is not defined; save it with unsigned ones"
        )
    if page.photometric not in GRAY and (
        258 not in page.tags or (277 not in page.tags and colors > 1)
    ):
        raise NotRead("it is damaged: how many channels and bits it has is not said")
    if int(page.planarconfig or 1) not in (1, 2):
        raise NotRead(f"it is damaged: its planar configuration is {int(page.planarconfig)}")
    if page.imagedepth != 1 or 0 in page.shaped:
        raise NotRead("it is no flat picture")
    if page.photometric in (PALETTE, LAB) and bits > 8:
        raise NotRead(f"it has {bits} bits of palette or Lab; save it as RGB")
    extra = page.samplesperpixel - colors
    unknown = page.photometric in GRAY and extra and not {1, 2} & set(page.extrasamples)
    if page.photometric == CMYK and page.tags.valueof(332, 1) != 1:
        raise NotRead("its inks are not cyan, magenta, yellow and black; save it as RGB")
    if extra < 0 or extra > 1 or unknown:
        kind = "gray" if colors == 1 else "color"
        raise NotRead(
            f"it has {page.samplesperpixel} channels of {kind}, and which are red, green and blue is not said; save it as RGB"
        )
    return extra


def _check_segments(page: "TiffPage", size: int) -> None:
    """Refuse a file that lacks some of its strips or tiles: those would be black."""
    if page.is_tiled:
        across, down = (
            math.ceil(page.imagewidth / page.tilewidth),
            math.ceil(page.imagelength / page.tilelength),
        )
    else:
        across, down = 1, math.ceil(page.imagelength / min(page.rowsperstrip, page.imagelength))
    expected = across * down * (page.samplesperpixel if page.planarconfig == 2 else 1)
    offsets, counts = page.dataoffsets, page.databytecounts
    # What lies in one piece tifffile counts as one.
    whole = len(offsets) == 1 and page.is_contiguous
    if len(offsets) < expected and not whole:
        raise NotRead(f"it is damaged: {len(offsets)} of {expected} strips or tiles are there")
    if page.compression == 1 and (stated := sum(counts)) != (needed := _bytes_of(page)):
        raise NotRead(
            f"it is damaged: its strips or tiles have {stated:,} bytes, and its pixels need {needed:,}"
        )
    if any(
        offset <= 0 or count <= 0 or offset + count > size for offset, count in zip(offsets, counts)
    ):
        raise NotRead("it is cut short: some of its strips or tiles are not in the file")


def _bytes_of(page: "TiffPage") -> int:
    """Return how many bytes the pixels of an uncompressed page take, in rows of whole bytes and in
    whole tiles.
    """
    width, height = page.imagewidth, page.imagelength
    if page.is_tiled:
        across, down = math.ceil(width / page.tilewidth), math.ceil(height / page.tilelength)
        width, height = page.tilewidth, page.tilelength * across * down
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    channels = page.samplesperpixel // planes
    return planes * height * math.ceil(width * channels * int(page.bitspersample) / 8)


def _check_pictures(
    page: "TiffPage", check_size: Callable[[int, int], None], doubts: list[str]
) -> None:
    """Refuse strips or tiles that are pictures far larger than their place, and would fill the
    memory; and damaged JPEG.
    """
    if page.is_tiled:
        check_size(page.tilewidth, page.tilelength)
    if page.compression not in PICTURES:
        return
    tables = page.jpegtables if page.compression in JPEG else None
    for offset, count in zip(page.dataoffsets, page.databytecounts):
        page.parent.filehandle.seek(offset)
        data = page.parent.filehandle.read(count)
        with Image.open(io.BytesIO(data), formats=("JPEG", "JPEG2000", "WEBP")) as inner:
            check_size(*inner.size)
            width, height = (
                (page.tilewidth, page.tilelength) if page.is_tiled else (page.imagewidth, 1)
            )
            if inner.width < min(page.imagewidth, width) or inner.height < min(
                page.imagelength, height
            ):
                raise NotRead("it is damaged: a strip or tile is smaller than its place")
            if inner.format == "JPEG":
                # The tables of all strips stand once, as a JPEG file without a picture, between its
                # mark and its end.
                refuse_damaged_jpeg(tables[:-2] + data[2:] if tables else data, inner.mode, doubts)
