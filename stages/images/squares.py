"""Making a crop of any shape a square of a given size."""

import numpy as np
from PIL import Image

from stages.images.parameters import Mode

WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def make_square(image: Image.Image, mode: Mode, size: int) -> np.ndarray:
    """Return `image` on a square of `size` pixels a side, centered, its aspect ratio kept (but for
    `stretch`).

    The crop is resampled first (Pillow's Lanczos filter, anti-aliased, a side rounded to whole
    pixels) and the margins are filled then, so that no ringing of the filter blurs the border. An
    odd pixel goes to the right and the bottom.

    Args:
        image: `RGB`, or `RGBA`, whose transparency is laid on the padding color (on white in the
            modes that have none).
        mode: what fills the margins: `white`; `zero` (black); `edge`, the outermost pixels
            repeated; `reflect`, the crop mirrored at its border; `mean`, the mean color of the
            crop's outermost pixels. `stretch` makes no margins but distorts the crop.
        size: pixels a side.

    Returns:
        uint8 array (size, size, 3), RGB.
    """
    color = rim_color(image) if mode == "mean" else BLACK if mode == "zero" else WHITE
    if image.mode == "RGBA":
        below = Image.new("RGBA", image.size, (*color, 255))
        image = Image.alpha_composite(below, image).convert("RGB")
    left, top, width, height = content_box(image.size, mode, size)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    pixels = np.asarray(image)
    if (width, height) == (size, size):
        return pixels
    if mode in ("edge", "reflect"):
        margins = ((top, size - height - top), (left, size - width - left), (0, 0))
        return np.pad(pixels, margins, mode=mode)
    square = np.empty((size, size, 3), dtype=np.uint8)
    square[:] = color
    square[top : top + height, left : left + width] = pixels
    return square


def content_box(crop: tuple[int, int], mode: str, size: int) -> tuple[int, int, int, int]:
    """Return (left, top, width, height) of what is not margin in a square by `make_square`, in
    pixels.

    Args:
        crop: width and height of the crop before it was made square.
    """
    if mode == "stretch":
        return 0, 0, size, size
    width, height = (max(1, round(side * size / max(crop))) for side in crop)
    return (size - width) // 2, (size - height) // 2, width, height


def rim_color(image: Image.Image) -> tuple[int, int, int]:
    """Return the mean color of the outermost pixels of `image` (RGB or RGBA), weighted by opacity;
    white if none is seen.
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
