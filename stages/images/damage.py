"""Refusing damage that decoders ignore, which would leave gray, black or wrong pixels."""

import re
import struct
import zlib
from collections.abc import Iterator
from typing import Literal, assert_never, cast

import imagecodecs
import numpy as np
from PIL import Image, ImageFile
from PIL.GifImagePlugin import GifImageFile

# The formats that are read, by Pillow's names; MPO is a JPEG file of several pictures.
Format = Literal["PNG", "JPEG", "MPO", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000", "PPM"]
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
CRITICAL_CHUNKS = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}


class NotReadError(Exception):
    """Why a picture is not read, in words that follow the file's name."""


def format_of(image: Image.Image) -> Format:
    """Return the format of an image that Pillow opened as one of the formats that are read."""
    return cast(Format, image.format)


def refuse_damaged_png(data: bytes) -> None:
    """Refuse a PNG file that is cut short or has a wrong checksum, which decoders ignore.

    Also one with a critical chunk outside the standard: its pixels may mean anything.
    """
    for name, place, length in png_chunks(data):
        end = place + 8 + length
        if zlib.crc32(data[place + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise NotReadError("it is damaged: a checksum is wrong")
        if name == b"CgBI":
            raise NotReadError(
                "it is a PNG rewritten by Xcode, with swapped channels; save it as plain PNG"
            )
        if not name[0] & 0x20 and name not in CRITICAL_CHUNKS:
            chunk = name.decode("latin-1")
            raise NotReadError(f"it has the unknown critical chunk {chunk!r}; save it as plain PNG")
        if name == b"IEND":
            return
    raise NotReadError("it is cut short")


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name, the start and the length of the content of each chunk of a PNG file."""
    place = 8
    while place + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, place)
        yield name, place, length
        place += length + 12


def ends_with_pixels(data: bytes) -> bool:
    """Return whether only pixels follow a PNG file's first pixels; an orientation may follow."""
    names = [name for name, _, _ in png_chunks(data)]
    return b"IDAT" in names and set(names[names.index(b"IDAT") :]) == {b"IDAT", b"IEND"}


def refuse_half_read(image: Image.Image, data: bytes) -> None:
    """Refuse a picture that Pillow has decoded although pixels are missing."""
    match format_of(image):
        case "PNG":
            imagecodecs.png_decode(data)  # Raises if there are too few pixels.
        case "JPEG2000":
            imagecodecs.jpeg2k_decode(data)
        case "BMP":
            _refuse_damaged_bmp(image, data)
        case "GIF":
            _refuse_damaged_gif(cast(GifImageFile, image), data)
        case "WEBP":
            _refuse_damaged_webp(data)
        case "JPEG" | "MPO" | "TIFF" | "PPM":
            pass  # JPEG and TIFF are checked where they are decoded; Pillow checks PPM.
        case other:
            assert_never(other)


# What is odd in a JPEG file but leaves its pixels intact, or a few surplus bytes. The last is a
# message of libjpeg-turbo's own interface, which then checks nothing.
HARMLESS_JPEG = re.compile(
    "Unknown Adobe|bad ICC|Invalid SOS parameters|Could not determine subsampling"
)
EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
MOST_EXTRANEOUS = 16


def decode_jpeg(image: ImageFile.ImageFile, data: bytes, doubts: list[str]) -> Image.Image:
    """Return a JPEG picture with the pixels that Pillow gives, in its mode, if it is complete.

    Pillow ignores libjpeg's warnings: it makes missing data gray, and wrong data another picture.
    With simplejpeg they are errors.

    Raises:
        NotReadError: the data are damaged or cut short.
    """
    pixels = refuse_damaged_jpeg(data, image.mode, doubts)
    if pixels is None:
        image.load()
        return image
    # Adobe's CMYK has inverted inks.
    is_cmyk = image.mode == "CMYK"
    decoded = Image.fromarray(255 - pixels, "CMYK") if is_cmyk else Image.fromarray(pixels)
    decoded.info = image.info
    return decoded


def refuse_damaged_jpeg(data: bytes, mode: str, doubts: list[str]) -> np.ndarray | None:
    """Return the pixels of a JPEG file, uint8 (height, width[, channels]), if it is complete.

    Args:
        mode: `L`, `RGB` or `CMYK`.
        doubts: gets a line if the file is odd, and None is returned.

    Raises:
        NotReadError: libjpeg has an error or a warning that is not harmless.
    """
    try:
        pixels = _decode_strictly(data, mode)
    except ValueError as error:
        # Only one warning is reported: an oddity before the first scan would hide damage after it.
        try:
            _decode_strictly(_without_oddities(data), mode)
        except (ValueError, IndexError) as further:
            reason = _reason(further)
            few = EXTRANEOUS.search(reason)
            if not (HARMLESS_JPEG.search(reason) or (few and int(few[1]) <= MOST_EXTRANEOUS)):
                raise NotReadError(f"it is damaged: {reason}") from None
        doubts.append(f"it may be damaged: {_reason(error)}")
        return None
    return pixels[..., 0] if mode == "L" else pixels


def _decode_strictly(data: bytes, mode: str) -> np.ndarray:
    # Only JPEG needs it: the demo runs where it is not installed.
    import simplejpeg

    return simplejpeg.decode_jpeg(data, colorspace="gray" if mode == "L" else mode, strict=True)


def _reason(error: Exception) -> str:
    return str(error).removeprefix("tjDecompressHeader3(): ")


def _without_oddities(data: bytes) -> bytes:
    """Return a JPEG file without what may be odd before its first scan.

    That is: comments, application data, and bytes between segments.
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


# The last bytes of a picture's data may be unused; libwebp writes up to 3 such bytes.
MOST_UNUSED = 8


def _refuse_damaged_webp(data: bytes) -> None:
    """Refuse a WebP file whose first picture does not need the end of its data.

    libwebp reports data that end too early, but no other damage. Damage nearly always changes the
    number of bytes that are used, so an intact picture is unreadable without its last bytes.
    """
    place = 12
    while place + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, place)
        if name in (b"VP8 ", b"VP8L"):
            cut = data[place + 8 : place + 8 + length - MOST_UNUSED]
            cut += bytes(len(cut) % 2)
            sizes = 12 + len(cut), length - MOST_UNUSED
            header = struct.pack("<4sI4s4sI", b"RIFF", sizes[0], b"WEBP", name, sizes[1])
            try:
                imagecodecs.webp_decode(header + cut)
            except imagecodecs.WebpError:
                return
            raise NotReadError("it is damaged: some of its data belong to no pixel")
        # A frame of an animation contains such chunks.
        place += 24 if name == b"ANMF" else 8 + length + length % 2


def _refuse_damaged_bmp(image: Image.Image, data: bytes) -> None:
    stated, offset, header, bits, colors = (
        int.from_bytes(data[place : place + size], "little")
        for place, size in ((2, 4), (10, 4), (14, 4), (28, 2), (46, 4))
    )
    if stated not in (0, len(data)):
        raise NotReadError(f"it is damaged: it states {stated:,} bytes, and has {len(data):,}")
    if header >= 40 and bits <= 8 and offset < 14 + header + 4 * (colors or 2**bits):
        raise NotReadError("it is damaged: its palette is shorter than stated")
    if image.mode == "P" and colors and (highest := int(np.asarray(image).max())) >= colors:
        raise NotReadError(f"it is damaged: a pixel has color {highest} of a palette of {colors}")


def _refuse_damaged_gif(image: GifImageFile, data: bytes) -> None:
    # Libraries fill the canvas around a smaller first frame with different colors.
    box = image.dispose_extent or (0, 0, *image.size)
    ours = np.asarray(image.convert("RGBA").crop(box))
    theirs = imagecodecs.gif_decode(data, index=0)[box[1] : box[3], box[0] : box[2], :3]
    opaque = ours[..., 3] == 255
    same_shape = ours.shape[:2] == theirs.shape[:2]
    if not (same_shape and np.array_equal(ours[opaque][:, :3], theirs[opaque])):
        raise NotReadError("it is damaged: two libraries read different pixels")
