"""Make a crop of any shape a square."""

from typing import assert_never

import numpy as np
from PIL import Image

from stages.images.parameters import Mode

WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def make_square(image: Image.Image, mode: Mode, size: int) -> np.ndarray:
    """Return `image` centered on a square; its aspect ratio is kept except by `stretch`.

    The crop is first resampled (Pillow's Lanczos filter, anti-aliased, sides rounded to whole
    pixels), then the margins are filled, so that the filter blurs nothing into them. An odd pixel
    goes to the right and the bottom.

    Args:
        image: `RGB`, or `RGBA`, which is composited onto the padding color (onto white in modes
            that have none).
        mode: what fills the margins: `white`; `zero` (black); `edge`, the outermost pixels
            repeated; `reflect`, the crop mirrored at its border; `mean`, the mean color of the
            crop's outermost pixels. `stretch` makes no margins and distorts the crop.
        size: pixels per side.

    Returns:
        uint8 array (size, size, 3), RGB.
    """
    color = _padding_color(image, mode)
    if image.mode == "RGBA":
        below = Image.new("RGBA", image.size, (*color, 255))
        image = Image.alpha_composite(below, image).convert("RGB")
    left, top, width, height = content_box(image.size, mode, size)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    pixels = np.asarray(image)
    margins = ((top, size - height - top), (left, size - width - left), (0, 0))
    match mode:
        case "white" | "zero" | "mean":
            square = np.full((size, size, 3), color, dtype=np.uint8)
            square[top : top + height, left : left + width] = pixels
            return square
        case "edge" | "reflect":
            return np.pad(pixels, margins, mode=mode)
        case "stretch":
            return pixels
        case _:
            assert_never(mode)


def content_box(crop: tuple[int, int], mode: Mode, size: int) -> tuple[int, int, int, int]:
    """Return (left, top, width, height), in pixels, of the crop in a square by `make_square`.

    Args:
        crop: width and height of the crop before it was made square.
    """
    match mode:
        case "stretch":
            return 0, 0, size, size
        case "white" | "zero" | "mean" | "edge" | "reflect":
            width, height = (max(1, round(side * size / max(crop))) for side in crop)
            return (size - width) // 2, (size - height) // 2, width, height
        case _:
            assert_never(mode)


def _padding_color(image: Image.Image, mode: Mode) -> tuple[int, int, int]:
    match mode:
        case "zero":
            return BLACK
        case "mean":
            return rim_color(image)
        case "white" | "edge" | "reflect" | "stretch":
            return WHITE
        case _:
            assert_never(mode)


def rim_color(image: Image.Image) -> tuple[int, int, int]:
    """Return the mean color of the outermost pixels of an RGB or RGBA image, weighted by opacity.

    It is white if all of them are transparent.
    """
    pixels = np.asarray(image)
    height, width = pixels.shape[:2]
    rim = np.ones((height, width), dtype=bool)
    rim[1 : height - 1, 1 : width - 1] = False
    outermost = pixels[rim].astype(np.float64)
    opacity = outermost[:, 3] if image.mode == "RGBA" else np.ones(len(outermost))
    if opacity.sum() == 0:
        return WHITE
    red, green, blue = np.rint(np.average(outermost[:, :3], axis=0, weights=opacity)).astype(int)
    return int(red), int(green), int(blue)
