"""Converting the colors that a file's ICC profile describes to sRGB, with LittleCMS."""

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

# A profile within this many levels (of 255) of sRGB on a grid of colors counts as sRGB. The common
# variants of sRGB differ by up to 3; Display P3 and Adobe RGB differ by more than 40.
SRGB_TOLERANCE = 5
FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION | ImageCms.Flags.NOCACHE
# The color space of a profile that fits pixels of a mode, and a grid of their values.
SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}
LEVELS = np.linspace(0, 255, 18).astype(np.uint8)
GRIDS = {
    "L": Image.fromarray(LEVELS[None]),
    "RGB": Image.fromarray(np.stack(np.meshgrid(*[LEVELS] * 3), axis=-1).reshape(18, -1, 3)),
}


def to_srgb(image: Image.Image, profile: bytes | None, doubts: list[str]) -> Image.Image:
    """Return a picture as RGB, or RGBA, in sRGB.

    The rendering intent is relative colorimetric with black point compensation, Photoshop's
    default. A profile that is nearly sRGB is not applied, so that files with and without one stay
    the same. Nor is a scanner's: it describes the device, but no program converted the pixels;
    OpenSlide, QuPath and tiffslide read slides without it.

    Args:
        image: `L`, `LA`, `RGB`, `RGBA` or `CMYK`.
        profile: an ICC profile, or None.
        doubts: gets a line for whatever is doubtful.
    """
    has_alpha = image.mode in ("LA", "RGBA")
    mode = {"LA": "L", "RGBA": "RGB"}.get(image.mode, image.mode)
    plain = image.convert("RGBA" if has_alpha else "RGB")
    if not profile:
        if mode == "CMYK":
            doubts.append("it is CMYK without a color profile; its colors are approximate")
        return plain
    try:
        transform = _known.transform(profile, mode)
    except Exception as error:  # ImageCms raises many kinds on damaged profiles.
        transform = f"its color profile is not applied: {error}"
    if isinstance(transform, str):
        doubts.append(transform)
        return plain
    if transform is None:
        return plain
    pixels = image if mode == image.mode else image.convert(mode)
    converted = ImageCms.applyTransform(pixels, transform)
    assert converted is not None  # It is None only for a conversion in place.
    if has_alpha:
        converted.putalpha(plain.getchannel("A"))
    return converted


class _Known:
    """The results of `_transform` for the last profiles: it takes longer than a crop."""

    def __init__(self) -> None:
        self.transform = lru_cache(maxsize=16)(_transform)

    def __reduce__(self) -> tuple:
        # Functions are sent to a cluster's workers with their code; a cached one would be sent by
        # its name.
        return _Known, ()


def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | str | None:
    """Return how to convert pixels of `mode`, or why not to; None if they are nearly sRGB."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = source.profile.xcolor_space.strip()
    name = f"its color profile {ImageCms.getProfileDescription(source).strip()!r}"
    if space != SPACES[mode]:
        return f"{name} is not applied: it is for {space} pixels, and these are {SPACES[mode]}"
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
        return f"{name} is not applied: it is a scanner's, up to {apart} levels from sRGB"
    return transform


_known = _Known()
