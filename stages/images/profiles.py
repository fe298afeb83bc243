"""Color profiles: from the colors that a file's ICC profile describes to sRGB, with LittleCMS."""

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

# Levels of 255 by which a profile may differ from sRGB on a grid of colors and count as sRGB: the
# common variants of sRGB differ by up to 3, Display P3 and Adobe RGB by more than 40.
SRGB_TOLERANCE = 5
FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION | ImageCms.Flags.NOCACHE
# By the mode of the pixels: the color space of a profile that fits them, and values on a grid.
SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}
STEPS = np.linspace(0, 255, 18).astype(np.uint8)
GRIDS = {
    "L": Image.fromarray(STEPS[None]),
    "RGB": Image.fromarray(np.stack(np.meshgrid(STEPS, STEPS, STEPS), axis=-1).reshape(18, -1, 3)),
}


def to_srgb(image: Image.Image, profile: bytes | None, doubts: list[str]) -> Image.Image:
    """Return a picture as RGB, or RGBA, in sRGB.

    The rendering intent is relative colorimetric with black point compensation, Photoshop's
    default. Not applied is a profile that is nearly sRGB, so that files with and without one stay
    the same; nor that of a scanner, which says how a device sees, but not that a program converted
    the pixels: OpenSlide, QuPath and tiffslide read slides without it.

    Args:
        image: `L`, `LA`, `RGB`, `RGBA` or `CMYK`.
        profile: an ICC profile, or None.
        doubts: to which is added what is doubtful.
    """
    mode = {"LA": "L", "RGBA": "RGB"}.get(image.mode, image.mode)
    plain = image.convert("RGBA" if image.mode in ("LA", "RGBA") else "RGB")
    if not profile:
        if mode == "CMYK":
            doubts.append("it is CMYK without a color profile; its colors are approximate")
        return plain
    try:
        transform = _transform(profile, mode)
    except Exception as error:  # ImageCms raises many kinds on damaged profiles.
        doubts.append(f"its color profile is not applied: {error}")
        return plain
    if transform is None:
        return plain
    if isinstance(transform, str):
        doubts.append(transform)
        return plain
    converted = ImageCms.applyTransform(
        image if mode == image.mode else image.convert(mode), transform
    )
    assert converted is not None  # It is where nothing is done in place.
    if plain.mode == "RGBA":
        converted.putalpha(plain.getchannel("A"))
    return converted


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | str | None:
    """Return how to convert pixels of `mode`, why that is not done, or None where it is as good as
    done.
    """
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space, name = (
        source.profile.xcolor_space.strip(),
        ImageCms.getProfileDescription(source).strip(),
    )
    if space != SPACES[mode]:
        return f"its color profile {name!r} is not applied: it is for {space} pixels, and these are {SPACES[mode]}"
    target, intent = ImageCms.createProfile("sRGB"), ImageCms.Intent.RELATIVE_COLORIMETRIC
    transform = ImageCms.buildTransform(source, target, mode, "RGB", intent, FLAGS)
    if mode == "CMYK":
        return transform
    grid = GRIDS[mode]
    converted = ImageCms.applyTransform(grid, transform)
    apart = int(np.abs(np.asarray(converted).astype(int) - np.asarray(grid.convert("RGB"))).max())
    if apart <= SRGB_TOLERANCE:
        return None
    if source.profile.device_class == "scnr":
        return f"its color profile {name!r}, which is a scanner's and up to {apart} levels from sRGB, is not applied"
    return transform
