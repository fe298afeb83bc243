"""Opening any image that a laboratory may bring as 8-bit RGB, and nothing else."""

import hashlib
import io
import re
import warnings
from collections.abc import Callable
from functools import partial
from typing import assert_never

import imagecodecs
import numpy as np
from PIL import Image, ImageFile, ImageOps, PngImagePlugin, UnidentifiedImageError
from PIL.GifImagePlugin import GifImageFile

from stages.base import arithmetic
from stages.base.errors import UserError
from stages.images.archives import File, as_file
from stages.images.colors import SIXTEEN_BIT_MODES, as_8_bit, to_8_bits
from stages.images.damage import (
    PNG_SIGNATURE,
    NotReadError,
    decode_jpeg,
    ends_with_pixels,
    format_of,
    png_chunks,
    refuse_damaged_png,
    refuse_half_read,
)
from stages.images.profiles import to_srgb
from stages.images.tiff import Decoded, is_tiff, read_tiff
from stages.workers.cores import take_room

# Raster formats only: Pillow would hand an EPS file to Ghostscript, a program.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000", "PPM")
Image.init()  # Registers all formats; Pillow would otherwise know only the five most common ones.
SUFFIXES = frozenset(
    ".png .apng .jpg .jpeg .jpe .jfif .tif .tiff .bmp .webp .gif .jp2 .jpx .jpf .j2k .j2c .jpc "
    ".ppm .pgm .pbm .pnm".split()
)

# A glomerulus of 300 µm scanned at 40x (0.25 µm per pixel) is 1,200 pixels wide. 100 megapixels are
# 70 times that area; a small file that claims to be huge cannot fill the memory.
PIXEL_LIMIT = 100_000_000
if not arithmetic.hosted:
    # Pillow warns of damaged metadata; damaged pixels raise. Set globally, as catch_warnings() is
    # not thread-safe.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    # Printers' profiles have up to a few megabytes; Pillow refuses a PNG with more than one.
    PngImagePlugin.MAX_TEXT_CHUNK = 16 * 2**20
    Image.MAX_IMAGE_PIXELS = None  # PIXEL_LIMIT is checked instead, before any pixel is decoded.

DOUBTS = "doubts"
# A picture with a lower mean opacity (of 1) is considered invisible.
LEAST_OPACITY = 0.01


class TooLittleMemory(UserError):
    """A picture does not fit in the memory of this machine; it may on another."""


def load_image(file: str | File) -> Image.Image:
    """Return the first picture of a file, upright, as 8-bit `RGB`, or `RGBA` if transparent.

    Gray, palette, CMYK, YCbCr and Lab are converted; depths over 8 bits per channel keep their
    upper 8; an EXIF orientation is applied; an opaque alpha channel is dropped. Color profiles are
    applied, except sRGB and scanners'. `doubts_of` tells what is doubtful about the picture.

    Raises:
        UserError: the file is not an image, is damaged or cut short, or exceeds 100 megapixels; it
            holds signed, 32-bit or floating-point numbers, whose white is undefined, or 16-bit ones
            that use only a few of their bits; it is fully transparent; or it holds one color
            channel of several.
    """
    return finish(lambda: decode(as_file(file).read_bytes(), file), file)


def finish(decoded: Callable[[], Decoded], path: str | File) -> Image.Image:
    """Return a picture that `decoded` gives, checked as `load_image` says."""
    try:
        image, bits, doubts = decoded()
    except UserError:
        raise
    except MemoryError:
        raise TooLittleMemory(f"{path} does not fit in memory") from None
    except Exception as error:  # Pillow and tifffile raise nearly every kind on damaged files.
        raise UserError(f"{path} does not open as an image: {_reason(error)}") from None
    _refuse_dark(image, bits, path)
    image = _without_alpha(image, path)
    image.info = {DOUBTS: doubts}
    return image


def check_size(width: int, height: int, path: str | File) -> None:
    """Refuse a picture of more than 100 megapixels; wait until there is room to decode it."""
    if width * height > PIXEL_LIMIT:
        raise UserError(f"{path} has {width} x {height} pixels; at most {PIXEL_LIMIT:,} are read")
    take_room(width * height)


def doubts_of(image: Image.Image, path: str | File) -> list[str]:
    """Return a line for each doubt about an image that `load_image` read from `path`."""
    return [f"{path}: {doubt}" for doubt in image.info[DOUBTS]]


def pixel_digest(image: Image.Image) -> str:
    """Return the hexadecimal SHA-256 digest of an image's mode, size and pixels."""
    digest = hashlib.sha256(f"{image.mode} {image.size}".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def decode(data: bytes, path: str | File) -> Decoded:
    """Return the first picture in the bytes of a file; see `finish` for its errors."""
    check = partial(check_size, path=path)
    if is_tiff(data[:4]):
        return read_tiff(data, check)
    if data.startswith(PNG_SIGNATURE):
        refuse_damaged_png(data)
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        check(*image.size)
        doubts = _color_doubts(data) if image.format == "PNG" else []
        if decoded := _decode_plain_png(image, data):
            profile = image.info.get("icc_profile")
            return Decoded(to_srgb(decoded, profile, doubts) if profile else decoded, 8, doubts)
        bits, frames = _bits(image, data), getattr(image, "n_frames", 1)
        if frames > 1:
            doubts.append(f"it holds {frames} pictures; the first is read")
        if image.format == "JPEG2000" and bits > 8:
            return Decoded(_deep_jpeg2000(image, data, bits), bits, doubts)
        upright = ImageOps.exif_transpose(_pixels(image, data, bits, doubts))
        rgb = as_8_bit(upright, stretched=image.format == "PPM", doubts=doubts)
        return Decoded(rgb, bits, doubts)


def _pixels(image: ImageFile.ImageFile, data: bytes, bits: int, doubts: list[str]) -> Image.Image:
    """Decode a picture, with its `info`, and check that it is complete."""
    if image.format in ("JPEG", "MPO"):
        return decode_jpeg(image, data, doubts)
    if image.format == "PNG" and bits == 16:
        # Pillow compares a transparent color of 16 bits with pixels of 8.
        deep = Image.fromarray(to_8_bits(imagecodecs.png_decode(data), 16))
        deep.info = {key: value for key, value in image.info.items() if key != "transparency"}
        return deep
    image.load()
    refuse_half_read(image, data)
    if isinstance(image, GifImageFile):
        box = image.dispose_extent
        if box and box != (0, 0, *image.size):
            # Browsers show the canvas around a smaller first frame as transparent.
            canvas = Image.new("RGBA", image.size)
            canvas.paste(image.convert("RGBA").crop(box), box[:2])
            return canvas
    return image


# The gamma (in 1/100,000) and the color code of sRGB in PNG.
SRGB_GAMMA, SRGB_CICP = 45455, b"\1\x0d\0\1"


def _color_doubts(data: bytes) -> list[str]:
    """Return what is doubtful about a PNG's colors: another gamma or code than sRGB's.

    The color code takes precedence over a profile, and a profile over the gamma.
    """
    found: dict[bytes, bytes] = {}
    for name, place, length in png_chunks(data):
        if name == b"IDAT":
            break
        found.setdefault(name, data[place + 8 : place + 8 + length])
    if (code := found.get(b"cICP")) is not None:
        if code == SRGB_CICP:
            return []
        return [f"its colors have the code {list(code)} (cICP), which is not applied"]
    if b"iCCP" in found or b"sRGB" in found or b"gAMA" not in found:
        return []
    gamma = int.from_bytes(found[b"gAMA"], "big")
    if abs(gamma - SRGB_GAMMA) <= 0.05 * SRGB_GAMMA:
        return []
    return [f"its gamma (gAMA) is {gamma / 100000:g} and not sRGB's, and is not applied"]


def _bits(image: ImageFile.ImageFile, data: bytes) -> int:
    """Return the bits per channel of a picture before it is decoded; 8 also stands for fewer."""
    arguments = (tile.args for tile in image.tile)
    raw = " ".join(
        str(part) for one in arguments for part in (one if isinstance(one, tuple) else (one,))
    )
    match format_of(image):
        case "JPEG2000":
            return _jpeg2000_bits(data)
        case "PNG":
            deep = "16" in raw
        case "PPM":
            largest = max((int(number) for number in re.findall(r"\b\d+\b", raw)), default=0)
            deep = image.mode == "I" or largest > 255
        case "JPEG" | "MPO" | "TIFF" | "BMP" | "WEBP" | "GIF":
            deep = False
        case other:
            assert_never(other)
    return 16 if deep or image.mode in SIXTEEN_BIT_MODES else 8


def _jpeg2000_bits(data: bytes) -> int:
    # The size segment of the codestream, after its marker, has three bytes per channel. The first
    # holds the sign and the depth minus one.
    place = data.index(b"\xff\x4f\xff\x51")
    channels = int.from_bytes(data[place + 40 : place + 42], "big")
    depths = set(data[place + 42 : place + 42 + 3 * channels : 3])
    if len(depths) != 1 or min(depths) & 0x80:
        raise NotReadError(
            "its channels are signed or differ in depth; save it with 8 bits per channel"
        )
    return depths.pop() + 1


def _deep_jpeg2000(image: Image.Image, data: bytes, bits: int) -> Image.Image:
    """Decode JPEG 2000 of more than 8 bits with imagecodecs.

    Pillow rounds it up, and confuses the channels of RGBA.
    """
    # The box `colr` with an enumerated color space: 18 is YCbCr (16 is RGB, 17 gray).
    is_ycbcr = b"colr\x01\0\0\0\0\0\x12" in data[:1000]
    if is_ycbcr or image.mode not in ("L", "LA", "RGB", "RGBA", *SIXTEEN_BIT_MODES):
        raise NotReadError(f"it is JPEG 2000 of {bits} bits, but not RGB; save it as RGB")
    pixels = to_8_bits(imagecodecs.jpeg2k_decode(data), bits)
    has_alpha = pixels.ndim == 3 and pixels.shape[2] in (2, 4)
    return Image.fromarray(pixels).convert("RGBA" if has_alpha else "RGB")


def _refuse_dark(image: Image.Image, bits: int, path: str | File) -> None:
    """Refuse a deep picture whose upper two bits are unused: 8 or 12 bits stored in 16."""
    brightest = int(np.asarray(image)[..., :3].max()) if bits > 8 else 255
    if brightest <= 64:
        raise UserError(
            f"{path} has {bits} bits per channel, but uses only the lower ones: its brightest "
            f"value is {brightest} of 255; save it with 8 bits, or with 16 over the full range"
        )


def _without_alpha(image: Image.Image, path: str | File) -> Image.Image:
    if image.mode != "RGBA":
        return image
    alpha = np.asarray(image.getchannel("A"))
    if alpha.min(initial=255) == 255:
        return image.convert("RGB")
    if alpha.mean() < 255 * LEAST_OPACITY:
        raise UserError(f"{path} is fully transparent; save it without transparency")
    return image


# Pillow's names for a transparent color and for whatever may state an orientation.
NOT_PLAIN = frozenset({"transparency", "exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"})


def _decode_plain_png(image: Image.Image, data: bytes) -> Image.Image | None:
    """Decode an 8-bit RGB or RGBA PNG, as most crops are, with libspng, which is faster.

    The pixels are the same as Pillow's. Returns None for other files, and for damaged ones, of
    which Pillow says what is wrong.
    """
    is_plain = image.format == "PNG" and image.mode in ("RGB", "RGBA")
    if not is_plain or not NOT_PLAIN.isdisjoint(image.info) or not ends_with_pixels(data):
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


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "its content is in none of the formats " + ", ".join(FORMATS)
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__
