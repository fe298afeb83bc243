"""Opening whatever a laboratory's folder holds as 8-bit RGB, and nothing that is not an image."""

import hashlib
import io
import re
import warnings
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image, ImageFile, ImageOps, PngImagePlugin, UnidentifiedImageError
from PIL.GifImagePlugin import GifImageFile

from stages.base.errors import UserError
from stages.images.colors import SIXTEEN_BIT_MODES, as_8_bit, to_8_bits
from stages.images.damage import (
    PNG,
    NotRead,
    decode_jpeg,
    ends_with_pixels,
    png_chunks,
    refuse_damaged_png,
    refuse_half_read,
)
from stages.images.profiles import to_srgb
from stages.images.tiff import Decoded, is_tiff, read_tiff
from stages.workers.cores import take_room

# Raster formats alone: Pillow would hand an EPS file to Ghostscript, a program.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000", "PPM")
Image.init()  # Registers them all; Pillow would otherwise know the commonest five alone.
SUFFIXES = frozenset(
    ".png .apng .jpg .jpeg .jpe .jfif .tif .tiff .bmp .webp .gif .jp2 .jpx .jpf .j2k .j2c .jpc .ppm .pgm .pbm .pnm".split()
)

# A glomerulus of 300 micrometers scanned at 40x (0.25 micrometers a pixel) is 1,200 pixels wide.
# 100 megapixels leave room for eighty times that area, and keep a small file that claims to be huge
# from filling the memory.
PIXEL_LIMIT = 100_000_000
# Pillow warns of damaged metadata; damaged pixels raise. Once and for all: catch_warnings() is not
# safe in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")
# Profiles of printers have up to a few megabytes; Pillow refuses a PNG with more than one.
PngImagePlugin.MAX_TEXT_CHUNK = 16 * 2**20
Image.MAX_IMAGE_PIXELS = None  # The limit above is checked instead, before any pixel is decoded.

DOUBTS = "doubts"
# A picture is hardly there of which so little is opaque on average.
LEAST_OPACITY = 0.01


def load_image(path: str | Path) -> Image.Image:
    """Return the first picture of the file `path`, upright, as 8-bit `RGB`, or `RGBA` where a pixel
    is transparent.

    Gray, palette, CMYK, YCbCr and Lab are converted; more than 8 bits a channel keep their upper 8,
    over the full range; an EXIF orientation is applied; an alpha channel that is opaque everywhere
    is dropped. Color profiles other than sRGB and scanners' are applied. What is doubtful about the
    picture, `doubts_of` tells.

    Raises:
        UserError: the file is not an image, is damaged or cut short, or is larger than 100
            megapixels; it holds signed, 32-bit or floating-point numbers, whose white is not
            defined, or 16-bit ones that use a few of their bits alone; it is wholly transparent; or
            it holds one color of several that may stand in further pictures.
    """
    try:
        image, bits, doubts = _decode(path)
    except UserError:
        raise
    except MemoryError:
        raise UserError(f"{path} does not fit the memory") from None
    except Exception as error:  # Pillow's decoders and tifffile raise nearly every kind of exception on damaged files.
        raise UserError(f"{path} does not open as an image: {_reason(error)}") from None
    _refuse_dark(image, bits, path)
    image = _without_alpha(image, path)
    image.info = {DOUBTS: doubts}
    return image


def doubts_of(image: Image.Image, path: str | Path) -> list[str]:
    """Return a line for each thing that is doubtful about an image by `load_image`, of the file
    `path`.
    """
    return [f"{path}: {doubt}" for doubt in image.info[DOUBTS]]


def pixel_digest(image: Image.Image) -> str:
    """Return the SHA-256 digest of what an image shows, its size included, in hexadecimal."""
    digest = hashlib.sha256(f"{image.mode} {image.size}".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def _decode(path: str | Path) -> Decoded:
    """Return a picture as 8-bit RGB, or RGBA, with the bits a channel that the file has."""
    data = Path(path).read_bytes()

    def check_size(width: int, height: int) -> None:
        if width * height > PIXEL_LIMIT:
            raise UserError(
                f"{path} has {width} x {height} pixels; at most {PIXEL_LIMIT:,} are read"
            )
        take_room(width * height)

    if is_tiff(data[:4]):
        return read_tiff(data, check_size)
    if data.startswith(PNG):
        refuse_damaged_png(data)
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        check_size(*image.size)
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
        return Decoded(
            as_8_bit(upright, stretched=image.format == "PPM", doubts=doubts), bits, doubts
        )


def _pixels(image: ImageFile.ImageFile, data: bytes, bits: int, doubts: list[str]) -> Image.Image:
    """Decode a picture and check that all of it is there; its `info` stays."""
    if image.format in ("JPEG", "MPO"):
        return decode_jpeg(image, data, doubts)
    if image.format == "PNG" and bits == 16:
        # Pillow compares a transparent color of 16 bits with pixels of 8.
        deep = Image.fromarray(to_8_bits(imagecodecs.png_decode(data), 16))
        deep.info = {key: value for key, value in image.info.items() if key != "transparency"}
        return deep
    image.load()
    refuse_half_read(image, data)
    if (
        isinstance(image, GifImageFile)
        and (box := image.dispose_extent)
        and box != (0, 0, *image.size)
    ):
        # What a first frame leaves of its canvas is transparent, as browsers show it.
        canvas = Image.new("RGBA", image.size)
        canvas.paste(image.convert("RGBA").crop(box), box[:2])
        return canvas
    return image


# What says how colors are meant besides a profile: which follows from the first that is there.
SRGB_GAMMA, SRGB_CICP = 45455, b"\1\x0d\0\1"


def _color_doubts(data: bytes) -> list[str]:
    """Return what is doubtful about a PNG file's colors: a gamma or a code that is not sRGB's,
    without a profile.
    """
    found: dict[bytes, bytes] = {}
    for name, place, length in png_chunks(data):
        if name == b"IDAT":
            break
        found.setdefault(name, data[place + 8 : place + 8 + length])
    if b"cICP" in found:
        code = found[b"cICP"]
        return (
            []
            if code == SRGB_CICP
            else [f"its colors have the code {list(code)} (cICP), which is not applied"]
        )
    if b"iCCP" in found or b"sRGB" in found or b"gAMA" not in found:
        return []
    gamma = int.from_bytes(found[b"gAMA"], "big")
    if abs(gamma - SRGB_GAMMA) <= 0.05 * SRGB_GAMMA:
        return []
    return [f"it has a gamma of {gamma / 100000:g} and not sRGB's (gAMA), which is not applied"]


def _bits(image: ImageFile.ImageFile, data: bytes) -> int:
    """Return the bits a channel of a picture that is open and not yet decoded; 8 stands for fewer,
    too.
    """
    if image.format == "JPEG2000":
        # The size segment of the codestream, behind its mark: three bytes for each channel, of
        # which the first is the sign and the bits less one.
        place = data.index(b"\xff\x4f\xff\x51")
        channels = int.from_bytes(data[place + 40 : place + 42], "big")
        depths = set(data[place + 42 : place + 42 + 3 * channels : 3])
        if len(depths) != 1 or min(depths) & 0x80:
            raise NotRead(
                "its channels are signed or differ in their bits; save it with 8 bits a channel"
            )
        return depths.pop() + 1
    raw = " ".join(
        str(part)
        for tile in image.tile
        for part in (tile.args if isinstance(tile.args, tuple) else (tile.args,))
    )
    stated = (
        max((int(number) for number in re.findall(r"\b\d+\b", raw)), default=0)
        if image.format == "PPM"
        else 0
    )
    deep = image.format == "PNG" and "16" in raw
    deep |= image.format == "PPM" and image.mode == "I"
    return 16 if deep or image.mode in SIXTEEN_BIT_MODES or stated > 255 else 8


def _deep_jpeg2000(image: Image.Image, data: bytes, bits: int) -> Image.Image:
    """Decode JPEG 2000 of more than 8 bits with imagecodecs: Pillow rounds them up, and confuses
    the channels of RGBA.
    """
    # The box `colr` with an enumerated color space: 16 is RGB, 17 gray, 18 YCbCr.
    if b"colr\x01\0\0\0\0\0\x12" in data[:1000] or image.mode not in (
        "L",
        "LA",
        "RGB",
        "RGBA",
        *SIXTEEN_BIT_MODES,
    ):
        raise NotRead(
            f"it is JPEG 2000 with {bits} bits of a color space of its own; save it as RGB"
        )
    pixels = to_8_bits(imagecodecs.jpeg2k_decode(data), bits)
    return Image.fromarray(pixels).convert(
        "RGBA" if pixels.ndim == 3 and pixels.shape[2] in (2, 4) else "RGB"
    )


def _refuse_dark(image: Image.Image, bits: int, path: str | Path) -> None:
    """Refuse a picture of more than 8 bits whose upper two are nowhere used: 8 or 12 bits stand in
    16, and all is black.
    """
    brightest = int(np.asarray(image)[..., :3].max()) if bits > 8 else 255
    if brightest <= 64:
        raise UserError(
            f"{path} has {bits} bits a channel, of which only the lower ones are used: its brightest value is {brightest} of "
            "255; save it with 8 bits, or with 16 over the full range"
        )


def _without_alpha(image: Image.Image, path: str | Path) -> Image.Image:
    if image.mode != "RGBA":
        return image
    alpha = np.asarray(image.getchannel("A"))
    if alpha.min(initial=255) == 255:
        return image.convert("RGB")
    if alpha.mean() < 255 * LEAST_OPACITY:
        raise UserError(
            f"{path} is transparent all over, whatever colors it holds; save it without transparency"
        )
    return image


# A color that is transparent, and what may say which way is up, by Pillow's names.
NOT_PLAIN = frozenset({"transparency", "exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"})


def _decode_plain_png(image: Image.Image, data: bytes) -> Image.Image | None:
    """Decode what crops mostly are, PNG of 8-bit RGB or RGBA, with libspng, which is faster: the
    same pixels as Pillow's.

    Returns None for all that is not so plain, and for damaged files, of which Pillow says what is
    wrong.
    """
    if image.format != "PNG" or image.mode not in ("RGB", "RGBA"):
        return None
    if not NOT_PLAIN.isdisjoint(image.info):
        return None
    if not ends_with_pixels(data):
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
        return "its content is of none of the formats " + ", ".join(FORMATS)
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__
