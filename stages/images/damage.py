"""Damage that decoders pass over: what is missing would be gray or black, what is wrong a picture
of something else.
"""

import re
import struct
import zlib
from collections.abc import Iterator

import imagecodecs
import numpy as np
import simplejpeg
from PIL import Image, ImageFile
from PIL.GifImagePlugin import GifImageFile


class NotRead(Exception):
    """Why a picture is not read, in words that go behind the file's name."""


PNG = b"\x89PNG\r\n\x1a\n"
CRITICAL = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}


def refuse_damaged_png(data: bytes) -> None:
    """Refuse a PNG file that is cut short, or of which a check sum is wrong: decoders pass over
    both.

    Also one with a critical chunk that is not of the standard: its pixels may mean anything.
    """
    for name, place, length in png_chunks(data):
        end = place + 8 + length
        if zlib.crc32(data[place + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise NotRead("it is damaged: a check sum is wrong")
        if name == b"CgBI":
            raise NotRead(
                "it is a PNG that Xcode rewrote for iPhones, with swapped channels; save it as plain PNG"
            )
        if not name[0] & 0x20 and name not in CRITICAL:
            raise NotRead(
                f"it has the critical chunk {name.decode('latin-1')!r}, which PNG does not know; save it as plain PNG"
            )
        if name == b"IEND":
            return
    raise NotRead("it is cut short")


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name of each chunk of a PNG file, where it begins and how many bytes its content
    has.
    """
    place = 8
    while place + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, place)
        yield name, place, length
        place += length + 12


def refuse_half_read(image: Image.Image, data: bytes) -> None:
    """Refuse what Pillow has made a picture of although pixels are missing, in those formats in
    which it does.
    """
    if image.format == "PNG":
        imagecodecs.png_decode(data)  # It raises where there are too few pixels.
    elif image.format == "JPEG2000":
        imagecodecs.jpeg2k_decode(data)
    elif image.format == "BMP":
        _refuse_damaged_bmp(image, data)
    elif isinstance(image, GifImageFile):
        _confirm_gif(image, data)
    elif image.format == "WEBP":
        _refuse_damaged_webp(data)


# What is odd in a JPEG file, but leaves its pixels as they are, or a few bytes that belong to none.
# The last is of libjpeg-turbo's own interface, which then checks nothing.
HARMLESS_JPEG = re.compile(
    "Unknown Adobe|bad ICC|Invalid SOS parameters|Could not determine subsampling"
)
EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
MOST_EXTRANEOUS = 16


def decode_jpeg(image: ImageFile.ImageFile, data: bytes, doubts: list[str]) -> Image.Image:
    """Return a JPEG picture with the pixels that Pillow gives, in its mode, if the file is whole.

    Pillow passes over libjpeg's warnings: of missing data it makes gray, of wrong data a picture of
    something else. With simplejpeg they are errors.

    Raises:
        NotRead: its data are damaged or cut short.
    """
    pixels = refuse_damaged_jpeg(data, image.mode, doubts)
    if pixels is None:
        image.load()
        return image
    # Adobe's CMYK has its inks inverted.
    decoded = (
        Image.fromarray(255 - pixels, "CMYK") if image.mode == "CMYK" else Image.fromarray(pixels)
    )
    decoded.info = image.info
    return decoded


def refuse_damaged_jpeg(data: bytes, mode: str, doubts: list[str]) -> np.ndarray | None:
    """Return the pixels of a JPEG file as uint8 (height, width) or (height, width, channels), if it
    is whole.

    Args:
        mode: `L`, `RGB` or `CMYK`.
        doubts: to which is added what is doubtful; None is returned then.

    Raises:
        NotRead: libjpeg has an error or a warning that is not harmless.
    """
    try:
        pixels = _decode_strictly(data, mode)
    except ValueError as error:
        # What is odd before the first scan would hide what is damaged after it: only one warning is
        # said.
        try:
            _decode_strictly(_without_oddities(data), mode)
        except (ValueError, IndexError) as further:
            said = str(further).removeprefix("tjDecompressHeader3(): ")
            few = EXTRANEOUS.search(said)
            if not (HARMLESS_JPEG.search(said) or (few and int(few[1]) <= MOST_EXTRANEOUS)):
                raise NotRead(f"it is damaged: {said}") from None
        doubts.append(f"it may be damaged: {str(error).removeprefix('tjDecompressHeader3(): ')}")
        return None
    return pixels[..., 0] if mode == "L" else pixels


def _decode_strictly(data: bytes, mode: str) -> np.ndarray:
    return simplejpeg.decode_jpeg(data, colorspace="gray" if mode == "L" else mode, strict=True)


def _without_oddities(data: bytes) -> bytes:
    """Return a JPEG file without comments, application data, and bytes between the segments before
    its first scan.
    """
    kept, place = [data[:2]], 2
    while True:
        place = data.index(b"\xff", place)
        while data[place] == 0xFF:
            place += 1
        if data[place] == 0xDA:
            return b"".join([*kept, b"\xff", data[place:]])
        end = place + 1 + int.from_bytes(data[place + 1 : place + 3], "big")
        if not (0xE0 <= data[place] <= 0xEF or data[place] == 0xFE):
            kept.append(b"\xff" + data[place:end])
        place = max(end, place + 3)


# Bytes of which the end of a picture's data may consist and not be needed; libwebp writes up to 3.
MOST_UNUSED = 8


def _refuse_damaged_webp(data: bytes) -> None:
    """Refuse a WebP file whose first picture does not need the end of its data.

    libwebp tells of data that end too early, but not of damage in them: nearly always another
    number of bytes is used up then. So the picture must not be readable without its last bytes.
    """
    place = 12
    while place + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, place)
        if name in (b"VP8 ", b"VP8L"):
            cut = data[place + 8 : place + 8 + length - MOST_UNUSED]
            cut += bytes(len(cut) % 2)
            alone = (
                struct.pack(
                    "<4sI4s4sI", b"RIFF", 12 + len(cut), b"WEBP", name, length - MOST_UNUSED
                )
                + cut
            )
            try:
                imagecodecs.webp_decode(alone)
            except imagecodecs.WebpError:
                return
            raise NotRead("it is damaged: a part of its data belongs to no pixel")
        # A frame of an animation holds such parts.
        place += 24 if name == b"ANMF" else 8 + length + length % 2


def _refuse_damaged_bmp(image: Image.Image, data: bytes) -> None:
    stated, offset, header, bits, colors = (
        int.from_bytes(data[place : place + size], "little")
        for place, size in ((2, 4), (10, 4), (14, 4), (28, 2), (46, 4))
    )
    if stated not in (0, len(data)):
        raise NotRead(f"it is damaged: it says that it has {stated:,} bytes, and has {len(data):,}")
    if header >= 40 and bits <= 8 and offset < 14 + header + 4 * (colors or 2**bits):
        raise NotRead("it is damaged: its palette has another length than it says")
    if image.mode == "P" and colors and (highest := int(np.asarray(image).max())) >= colors:
        raise NotRead(f"it is damaged: a pixel has color {highest} of a palette of {colors}")


def _confirm_gif(image: GifImageFile, data: bytes) -> None:
    # Around a first frame that is smaller than its canvas each library has another color.
    box = image.dispose_extent or (0, 0, *image.size)
    ours = np.asarray(image.convert("RGBA").crop(box))
    theirs = imagecodecs.gif_decode(data, index=0)[box[1] : box[3], box[0] : box[2], :3]
    opaque = ours[..., 3] == 255
    if ours.shape[:2] != theirs.shape[:2] or not np.array_equal(
        ours[opaque][:, :3], theirs[opaque]
    ):
        raise NotRead("it is damaged: two libraries read it differently")


def ends_with_pixels(data: bytes) -> bool:
    """Return whether nothing but pixels follows a PNG file's first pixels; it may say there which
    way is up.
    """
    names = [name for name, _, _ in png_chunks(data)]
    return b"IDAT" in names and set(names[names.index(b"IDAT") :]) == {b"IDAT", b"IEND"}
