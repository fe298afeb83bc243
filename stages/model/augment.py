"""Changes of a crop that leave its class alone: how it lies, how tightly it was cut, how it was
stained and lit.
"""

import math

import cv2
import numpy as np

from stages.model.parameters import AugmentParameters

# Batches are made in several threads already; OpenCV's own would compete with them.
cv2.setNumThreads(1)

# What hematoxylin and PAS take of red, green and blue light (Ruifrok and Johnston, Anal Quant
# Cytol Histol 23:291, 2001, as measured for ImageJ's Color Deconvolution), and what is neither.
HAEMATOXYLIN, PAS = (0.644211, 0.716556, 0.266844), (0.175411, 0.972178, 0.154589)
STAINS = np.array([HAEMATOXYLIN, PAS, np.cross(HAEMATOXYLIN, PAS)])
# The optical density of each value of a channel; 0, which would have an infinite one, counts as 1.
DENSITY = -np.log10(np.maximum(np.arange(256), 1) / 255)

# None, one, two and three, against the clock.
QUARTER_TURNS = (None, cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE)


def augment(
    pixels: np.ndarray, params: AugmentParameters, random: np.random.Generator
) -> np.ndarray:
    """Return a changed copy of a square, uint8 (size, size, 3).

    One of its eight orientations (flips and quarter turns); turned freely by up to `rotation`
    degrees either way, shifted by up to `shift` of the side in each direction, enlarged or reduced
    by a factor of up to 1 + `scale`, and stretched along one axis against the other by up to 1 +
    `aspect` (bilinear; what comes into view beyond the border is the square mirrored there, so that
    no artificial corner appears); its stains changed by `stain` (see `change_stains`); its
    brightness multiplied by 1 - `brightness` to 1 + `brightness`.
    """
    # All numbers are drawn whether used or not: switching one change off leaves the others as they
    # were.
    orientation = int(random.integers(8))
    angle, right, down, light, larger, wider = random.uniform(-1, 1, 6)
    amounts = random.uniform(-1, 1, (2, 3))
    if params.orientations:
        turn, mirrored = QUARTER_TURNS[orientation % 4], orientation >= 4
        pixels = pixels.copy() if turn is None else cv2.rotate(pixels, turn)
        pixels = cv2.flip(pixels, 1) if mirrored else pixels
    if params.rotation or params.shift or params.scale or params.aspect:
        side = pixels.shape[0]
        zoom, stretch = (1 + params.scale) ** larger, math.sqrt((1 + params.aspect) ** wider)
        pixels = _move(
            pixels,
            math.radians(angle * params.rotation),
            (right * params.shift * side, down * params.shift * side),
            (zoom * stretch, zoom / stretch),
        )
    if params.stain:
        pixels = change_stains(pixels, 1 + params.stain * amounts[0], params.stain * amounts[1])
    if params.brightness:
        table = np.clip(np.rint(np.arange(256) * (1 + light * params.brightness)), 0, 255).astype(
            np.uint8
        )
        pixels = cv2.LUT(pixels, table)
    return pixels


def change_stains(pixels: np.ndarray, factors: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return a square as it would look with other amounts of stain, uint8 (size, size, 3).

    Method: Tellez et al., Medical Image Analysis 58:101544, 2019, in the colors of PAS: the
    optical density of each pixel is taken apart into hematoxylin, PAS and a residual, and the
    amount of each becomes factor x amount + offset.

    Args:
        factors, offsets: float (3,), of hematoxylin, PAS and the residual; an offset of 1 is an
            optical density of 0.1, which takes a fifth of the light.
    """
    mixed = np.linalg.inv(STAINS) * factors @ STAINS
    # The light that is left is a product over the three channels: a table for each, of what it
    # leaves of red, green and blue.
    tables = 10.0 ** -(DENSITY[:, None] * mixed[:, None])
    tables[0] *= 255 * 10.0 ** -(offsets / 10 @ STAINS)
    red, green, blue = (
        np.take(table, pixels[..., channel], axis=0)
        for channel, table in enumerate(tables.astype(np.float32))
    )
    return np.minimum(np.rint(red * green * blue), 255).astype(np.uint8)


def _move(
    pixels: np.ndarray, angle: float, shift: tuple[float, float], zoom: tuple[float, float]
) -> np.ndarray:
    """Turn about the center, then stretch along both axes, then shift (right and down, in pixels)."""
    (right, down), (across, along) = shift, zoom
    # OpenCV is told, for each pixel of the result, where it comes from: all of it backwards.
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]) / (
        across,
        along,
    )
    # OpenCV counts from the middle of the first pixel, so that this is the middle of the square.
    center = (pixels.shape[0] - 1) / 2
    origin = center - turn @ (center + right, center + down)
    return cv2.warpAffine(
        pixels,
        np.column_stack([turn, origin]),
        pixels.shape[:2],
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
