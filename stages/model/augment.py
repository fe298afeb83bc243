"""Change training crops at random, keeping their class: orientation, framing, stain, light."""

import math

import cv2
import numpy as np

from stages.model.parameters import AugmentParameters

# Several threads make batches; OpenCV's own threads would compete with them.
cv2.setNumThreads(1)

# Absorption of red, green and blue by hematoxylin and PAS (Ruifrok and Johnston, Anal Quant Cytol
# Histol 23:291, 2001, as measured for ImageJ's Color Deconvolution), and the residual.
HEMATOXYLIN, PAS = (0.644211, 0.716556, 0.266844), (0.175411, 0.972178, 0.154589)
RESIDUAL = np.cross(HEMATOXYLIN, PAS)
STAINS = np.array([HEMATOXYLIN, PAS, RESIDUAL / np.linalg.norm(RESIDUAL)])
# The optical density of each pixel value; 0 counts as 1, or its density would be infinite.
DENSITY = -np.log10(np.maximum(np.arange(256), 1) / 255)

# By no, one, two and three quarters, counterclockwise.
QUARTER_TURNS = (None, cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE)


def augment(
    pixels: np.ndarray, params: AugmentParameters, random: np.random.Generator
) -> np.ndarray:
    """Return a randomly changed square, uint8 (size, size, 3).

    The changes, in this order: one of the eight orientations; rotation by up to `rotation` degrees,
    a shift by up to `shift` of the side, scaling by a factor of up to 1 + `scale`, and stretching
    of one axis against the other by up to 1 + `aspect` (bilinear; mirrored at the border, so that
    no artificial corner appears); other amounts of stain (see `change_stains`); brightness times
    1 - `brightness` to 1 + `brightness`. Pure white and pure black, the colors of margins, keep
    their color: black cannot get brighter, and white margins must not be harder to learn.
    """
    # Every number is drawn even if unused, so that disabling one change does not alter the others.
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
        angle = math.radians(angle * params.rotation)
        shift = (right * params.shift * side, down * params.shift * side)
        pixels = _move(pixels, angle, shift, (zoom * stretch, zoom / stretch))
    moved = pixels
    if params.stain:
        pixels = change_stains(pixels, 1 + params.stain * amounts[0], params.stain * amounts[1])
    if params.brightness:
        table = np.rint(np.arange(256) * (1 + light * params.brightness))
        pixels = cv2.LUT(pixels, np.clip(table, 0, 255).astype(np.uint8))
    if pixels is not moved:
        for color in ((0, 0, 0), (255, 255, 255)):
            cv2.copyTo(moved, cv2.inRange(moved, color, color), pixels)
    return pixels


def change_stains(pixels: np.ndarray, factors: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return a square as it would look with other amounts of stain, uint8 (size, size, 3).

    Method: Tellez et al., Medical Image Analysis 58:101544, 2019, with the colors of PAS. The
    optical density of each pixel is decomposed into hematoxylin, PAS and a residual, and each
    amount becomes factor x amount + offset.

    Args:
        factors, offsets: float (3,), of hematoxylin, PAS and the residual; an offset of 1 is an
            optical density of 0.1, which absorbs a fifth of the light.
    """
    mixed = np.linalg.inv(STAINS) * factors @ STAINS
    # The remaining light is a product over the three input channels: one table per channel, from
    # its value to the factor on red, green and blue.
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
    """Rotate about the center, stretch along both axes, then shift (right and down, in pixels)."""
    # The inverse map: OpenCV asks where each pixel of the result comes from.
    cosine, sine = math.cos(angle), math.sin(angle)
    turn = np.array([[cosine, sine], [-sine, cosine]]) / zoom
    # OpenCV counts from the middle of the first pixel.
    center = (pixels.shape[0] - 1) / 2
    origin = center - turn @ (center + shift[0], center + shift[1])
    return cv2.warpAffine(
        pixels,
        np.column_stack([turn, origin]),
        pixels.shape[:2],
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
