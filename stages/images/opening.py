"""Opening whatever a laboratory's folder holds as 8-bit RGB, and nothing that is not an image."""

import struct
import warnings
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from stages.base.errors import UserError

# Raster formats alone: Pillow would hand an EPS file to Ghostscript, a program.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000", "PPM")
Image.init()  # Registers them all; Pillow would otherwise know the commonest five alone.
SUFFIXES = frozenset(".png .jpg .jpeg .jpe .jfif .tif .tiff .bmp .webp .gif .jp2 .j2k .ppm .pgm .pbm".split())

# A glomerulus of 300 micrometres scanned at 40x (0.25 micrometres a pixel) is 1,200 pixels wide. 100 megapixels leave
# room for eighty times that area, and keep a small file that claims to be huge from filling the memory.
PIXEL_LIMIT = 100_000_000
# Pillow warns of damaged metadata; damaged pixels raise. Once and for all: catch_warnings() is not safe in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")
Image.MAX_IMAGE_PIXELS = None  # The limit above is checked instead, before any pixel is decoded.

TRANSPARENT_MODES = ("RGBA", "LA", "PA", "RGBa", "La")
SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N")


def load_image(path: str | Path) -> Image.Image:
    """Return the first picture of the file `path`, upright, as 8-bit `RGB`, or `RGBA` where a pixel is transparent.

    Grey, palette, CMYK, YCbCr and Lab are converted; 16 bits a channel keep their upper 8, over the full range; an EXIF
    orientation is applied; an alpha channel that is opaque everywhere is dropped. Colour profiles are not applied.

    Raises:
        UserError: the file is not an image, is damaged or cut short, is larger than 100 megapixels, or holds 32-bit
            numbers, whose white is not defined.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            if width * height > PIXEL_LIMIT:
                raise UserError(f"{path} has {width} x {height} pixels; at most {PIXEL_LIMIT:,} are read")
            if decoded := _decode_plain_png(image, path):
                return decoded
            image.load()
            return _as_8_bit(ImageOps.exif_transpose(image), path)
    except UserError:
        raise
    except MemoryError:
        raise UserError(f"{path} does not fit the memory") from None
    except Exception as error:  # Pillow's decoders raise nearly every kind of exception on damaged files.
        raise UserError(f"{path} does not open as an image: {_reason(error)}") from None


# A colour that is transparent, and what may say which way is up, by Pillow's names.
NOT_PLAIN = frozenset({"transparency", "exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"})


def _decode_plain_png(image: Image.Image, path: str | Path) -> Image.Image | None:
    """Decode what crops mostly are, PNG of 8-bit RGB or RGBA, with libspng, which is faster: the same pixels as Pillow's.

    Returns None for all that is not so plain, and for damaged files, of which Pillow says what is wrong.
    """
    if image.format != "PNG" or image.mode not in ("RGB", "RGBA"):
        return None
    if not NOT_PLAIN.isdisjoint(image.info):
        return None
    data = Path(path).read_bytes()
    if not _ends_with_its_pixels(data):
        return None
    try:
        pixels = imagecodecs.spng_decode(data)
    except imagecodecs.SpngError:
        return None
    if pixels.dtype != np.uint8:
        return None
    if image.mode == "RGB" or pixels[..., 3].min() < 255:
        return Image.fromarray(pixels)
    return Image.frombytes("RGB", image.size, pixels, "raw", "RGBX")


def _ends_with_its_pixels(data: bytes) -> bool:
    """Return whether nothing but pixels follows a PNG file's first pixels; it may say there which way is up."""
    place, names = 8, []
    while place + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, place)
        names.append(name)
        place += length + 12
    return b"IDAT" in names and set(names[names.index(b"IDAT") :]) == {b"IDAT", b"IEND"}


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "its content is of none of the formats " + ", ".join(FORMATS)
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__


def _as_8_bit(image: Image.Image, path: str | Path) -> Image.Image:
    if image.mode in ("I", "F"):
        raise UserError(f"{path} has 32-bit pixels ({image.mode}); save it with 8 or 16 bits a channel")
    if image.mode in SIXTEEN_BIT_MODES:
        # Pillow's own conversion to 8 bits clips at 255 instead of scaling.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in TRANSPARENT_MODES or "transparency" in image.info:
        image = image.convert("RGBA")
        if np.asarray(image.getchannel("A")).min(initial=255) < 255:
            return image
    return image.convert("RGB")
