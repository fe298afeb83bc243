"""Converting numbers of any depth in any color space to 8-bit RGB."""

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from stages.images.damage import NotReadError
from stages.images.profiles import to_srgb

if TYPE_CHECKING:
    from tifffile import TiffPage

# Modes of Pillow.
TRANSPARENT_MODES = ("RGBA", "LA", "PA", "RGBa", "La")
GRAY_MODES = ("1", "L", "LA", "La")
SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N")
# Photometric interpretations of TIFF, the number of channels of each, and the compressions that
# turn YCbCr into RGB themselves.
INVERTED_GRAY, GRAY, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
GRAYS = (INVERTED_GRAY, GRAY)
CHANNELS = {INVERTED_GRAY: 1, GRAY: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3, LAB: 3}
JPEG_COMPRESSIONS = (7, 33007)
# Extra samples of TIFF: transparency, multiplied into the colors or not.
ASSOCIATED, UNASSOCIATED = 1, 2


def as_8_bit(image: Image.Image, stretched: bool, doubts: list[str]) -> Image.Image:
    """Return what Pillow decoded as 8-bit RGB, or RGBA if it may be transparent, in sRGB.

    Args:
        stretched: whether 32-bit numbers are 16-bit ones over the full range, as Pillow makes them
            from PGM.
        doubts: gets a line for whatever is doubtful.

    Raises:
        NotReadError: it has 32-bit numbers.
    """
    profile = image.info.get("icc_profile")
    if image.mode in SIXTEEN_BIT_MODES or (stretched and image.mode == "I"):
        # Pillow's own conversion to 8 bits clips at 255 instead of scaling.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise NotReadError(
            f"it has 32-bit pixels ({image.mode}), whose white is undefined; "
            "save it with 8 or 16 bits per channel"
        )
    if image.mode != "CMYK":
        transparent = image.mode in TRANSPARENT_MODES or "transparency" in image.info
        color = "L" if image.mode in GRAY_MODES else "RGB"
        image = image.convert(color + "A" * transparent)
    return to_srgb(image, profile, doubts)


def as_rgb(data: bytes, page: "TiffPage", extra: int, doubts: list[str]) -> Image.Image:
    """Return a page of a TIFF as RGB, or RGBA if its extra channel is transparency.

    Args:
        data: the file, from which Pillow reads Lab.
        extra: the number of channels besides the colors, 0 or 1.
        doubts: gets a line for whatever is doubtful.
    """
    photometric, profile = int(page.photometric), page.iccprofile
    if photometric == LAB:
        with Image.open(io.BytesIO(data), formats=("TIFF",)) as lab:
            return lab.convert("RGB")
    values = page.asarray(squeeze=False, maxworkers=1)
    # (planes, depth, height, width, channels): either planes or channels is 1.
    planes = np.moveaxis(values[:, 0], 0, -1)
    values = planes.reshape(*values.shape[2:4], -1) if values.shape[0] > 1 else values[0, 0]
    bits, count = int(page.bitspersample), values.shape[-1] - extra
    colors, further = values[..., :count], values[..., count:]
    kind = page.extrasamples[-1] if page.extrasamples else 0
    if extra and (kind not in (ASSOCIATED, UNASSOCIATED) or photometric == CMYK):
        doubts.append(f"channel {count + 1} is not marked as transparency, and is left out")
        extra = 0
    if photometric == PALETTE:
        # Of 16 bits, although some programs write 8.
        table = np.asarray(page.colormap)
        table = (table >> 8 if table.max() > 255 else table).astype(np.uint8)
        rgb = table[:, colors[..., 0]].transpose(1, 2, 0)
    else:
        rgb = to_8_bits(colors, bits)
    if photometric == INVERTED_GRAY:
        rgb = 255 - rgb
    if photometric == CMYK:
        cmyk = Image.fromarray(np.ascontiguousarray(rgb), mode="CMYK")
        return to_srgb(cmyk, profile, doubts)
    if photometric == YCBCR and page.compression not in JPEG_COMPRESSIONS:
        rgb = np.asarray(Image.fromarray(np.ascontiguousarray(rgb), mode="YCbCr").convert("RGB"))
    gray = rgb.shape[-1] == 1
    if not extra:
        plain = np.ascontiguousarray(rgb[..., 0] if gray else rgb)
        return to_srgb(Image.fromarray(plain), profile, doubts)
    if gray:
        rgb = np.repeat(rgb, 3, axis=-1)
    pixels = np.ascontiguousarray(np.concatenate([rgb, to_8_bits(further, bits)], axis=-1))
    if kind == ASSOCIATED:
        image = Image.frombytes("RGBa", pixels.shape[1::-1], pixels.tobytes()).convert("RGBA")
    else:
        image = Image.fromarray(pixels)
    return to_srgb(image.convert("LA") if gray else image, profile, doubts)


def to_8_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """Return numbers from 0 to 2^bits - 1 as uint8: the upper 8 bits, or fewer stretched to 255."""
    if bits > 8:
        return (values >> (bits - 8)).astype(np.uint8)
    if bits == 8:
        return values.astype(np.uint8)
    stretched = np.rint(np.arange(2**bits) * (255 / (2**bits - 1))).astype(np.uint8)
    return stretched[values.astype(np.uint8)]
