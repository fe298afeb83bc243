"""Numbers of any bits in any color space as 8-bit RGB."""

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from stages.images.damage import NotRead
from stages.images.profiles import to_srgb

if TYPE_CHECKING:
    from tifffile import TiffPage

# Of Pillow.
TRANSPARENT_MODES = ("RGBA", "LA", "PA", "RGBa", "La")
GRAY_MODES = ("1", "L", "LA", "La")
SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N")
# Photometric interpretations of TIFF, how many channels each has, and the compressions that turn
# YCbCr into RGB themselves.
GRAY, RGB, PALETTE, CMYK, YCBCR, LAB = (0, 1), 2, 3, 5, 6, 8
COLORS = {0: 1, 1: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3, LAB: 3}
JPEG = (7, 33007)
ASSOCIATED, UNASSOCIATED = 1, 2


def as_8_bit(image: Image.Image, stretched: bool, doubts: list[str]) -> Image.Image:
    """Return what Pillow has decoded as 8-bit RGB, or as RGBA where it may be transparent, in sRGB.

    Args:
        stretched: whether 32-bit numbers are 16-bit ones over the full range, as Pillow makes them
            of PGM.
        doubts: to which is added what is doubtful.

    Raises:
        NotRead: it has 32-bit numbers.
    """
    profile = image.info.get("icc_profile")
    if image.mode in SIXTEEN_BIT_MODES or (stretched and image.mode == "I"):
        # Pillow's own conversion to 8 bits clips at 255 instead of scaling. PGM, whose largest
        # value the file states, it has stretched to 65535.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise NotRead(
            f"it has 32-bit pixels ({image.mode}), whose white is not defined; save it with 8 or 16 bits a channel"
        )
    if image.mode != "CMYK":
        transparent = image.mode in TRANSPARENT_MODES or "transparency" in image.info
        alpha = "A" if transparent else ""
        image = image.convert(("L" if image.mode in GRAY_MODES else "RGB") + alpha)
    return to_srgb(image, profile, doubts)


def as_rgb(data: bytes, page: "TiffPage", extra: int, doubts: list[str]) -> Image.Image:
    """Return a page of a TIFF as RGB, or RGBA where its further channel is transparency.

    Args:
        data: the file, of which Pillow reads Lab.
        extra: the number of channels besides the colors, 0 or 1.
        doubts: to which is added what is doubtful.
    """
    if page.photometric == LAB:
        with Image.open(io.BytesIO(data), formats=("TIFF",)) as lab:
            return lab.convert("RGB")
    values = page.asarray(squeeze=False, maxworkers=1)
    # (planes, depth, height, width, channels): one of planes and channels is 1.
    values = (
        np.moveaxis(values[:, 0], 0, -1).reshape(*values.shape[2:4], -1)
        if values.shape[0] > 1
        else values[0, 0]
    )
    bits = int(page.bitspersample)
    colors, further = (
        values[..., : values.shape[-1] - extra],
        values[..., values.shape[-1] - extra :],
    )
    kind = page.extrasamples[-1] if page.extrasamples else 0
    if extra and (kind not in (ASSOCIATED, UNASSOCIATED) or page.photometric == CMYK):
        doubts.append(f"channel {values.shape[-1]} is not said to be transparency, and is left out")
        extra = 0
    if page.photometric == PALETTE:
        table = np.asarray(page.colormap)
        # Over 16 bits; but some programs write 8.
        rgb = (
            (table >> 8 if table.max() > 255 else table)
            .astype(np.uint8)[:, colors[..., 0]]
            .transpose(1, 2, 0)
        )
    else:
        rgb = to_8_bits(colors, bits)
    if page.photometric == 0:
        rgb = 255 - rgb
    if page.photometric == CMYK:
        return to_srgb(
            Image.fromarray(np.ascontiguousarray(rgb), mode="CMYK"), page.iccprofile, doubts
        )
    if page.photometric == YCBCR and page.compression not in JPEG:
        rgb = np.asarray(Image.fromarray(np.ascontiguousarray(rgb), mode="YCbCr").convert("RGB"))
    gray = rgb.shape[-1] == 1
    if not extra:
        plain = np.ascontiguousarray(rgb[..., 0] if gray else rgb)
        return to_srgb(Image.fromarray(plain), page.iccprofile, doubts)
    if gray:
        rgb = np.repeat(rgb, 3, axis=-1)
    pixels = np.ascontiguousarray(np.concatenate([rgb, to_8_bits(further, bits)], axis=-1))
    if kind == ASSOCIATED:
        image = Image.frombytes("RGBa", pixels.shape[1::-1], pixels.tobytes()).convert("RGBA")
    else:
        image = Image.fromarray(pixels)
    return to_srgb(image.convert("LA") if gray else image, page.iccprofile, doubts)


def to_8_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """Return numbers of `bits` bits, from 0 to 2^bits - 1, as uint8: the upper 8 bits, or fewer
    stretched to 0 to 255.
    """
    if bits > 8:
        return (values >> (bits - 8)).astype(np.uint8)
    if bits == 8:
        return values.astype(np.uint8)
    stretched = np.rint(np.arange(2**bits) * (255 / (2**bits - 1))).astype(np.uint8)
    return stretched[values.astype(np.uint8)]
