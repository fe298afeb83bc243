"""Damage that decoders pass over: what is missing would be grey or black, what is wrong a picture of something else."""

import struct
import zlib
from collections.abc import Iterator

import imagecodecs
import numpy as np
from PIL import Image


class NotRead(Exception):
    """Why a picture is not read, in words that go behind the file's name."""


def refuse_damaged_png(data: bytes) -> None:
    """Refuse a PNG file that is cut short, or of which a check sum is wrong: decoders pass over both."""
    for name, place, length in _png_chunks(data):
        end = place + 8 + length
        if zlib.crc32(data[place + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise NotRead("it is damaged: a check sum is wrong")
        if name == b"IEND":
            return
    raise NotRead("it is cut short")


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name of each chunk of a PNG file, where it begins and how many bytes its content has."""
    place = 8
    while place + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, place)
        yield name, place, length
        place += length + 12


def refuse_half_read(image: Image.Image, data: bytes) -> None:
    """Refuse what Pillow has made a picture of although pixels are missing, in those formats in which it does."""
    if image.format == "PNG":
        imagecodecs.png_decode(data)  # It raises where there are too few pixels.
    elif image.format == "JPEG2000":
        imagecodecs.jpeg2k_decode(data)
    elif image.format == "BMP":
        _refuse_damaged_bmp(data)
    elif image.format == "GIF":
        _confirm_gif(image, data)


def _refuse_damaged_bmp(data: bytes) -> None:
    stated, offset, header, bits, colours = (
        int.from_bytes(data[place : place + size], "little") for place, size in ((2, 4), (10, 4), (14, 4), (28, 2), (46, 4))
    )
    if stated not in (0, len(data)):
        raise NotRead(f"it is damaged: it says that it has {stated:,} bytes, and has {len(data):,}")
    if header >= 40 and bits <= 8 and offset != 14 + header + 4 * (colours or 2**bits):
        raise NotRead("it is damaged: its palette has another length than it says")


def _confirm_gif(image: Image.Image, data: bytes) -> None:
    ours, theirs = np.asarray(image.convert("RGBA")), imagecodecs.gif_decode(data, index=0)[..., :3]
    if ours.shape[:2] != theirs.shape[:2] or not np.array_equal(ours[ours[..., 3] == 255][:, :3], theirs[ours[..., 3] == 255]):
        raise NotRead("it is damaged: two libraries read it differently")


def ends_with_pixels(data: bytes) -> bool:
    """Return whether nothing but pixels follows a PNG file's first pixels; it may say there which way is up."""
    names = [name for name, _, _ in _png_chunks(data)]
    return b"IDAT" in names and set(names[names.index(b"IDAT") :]) == {b"IDAT", b"IEND"}
