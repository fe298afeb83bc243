"""Change training crops at random, keeping their class: orientation, framing, stain, light."""

import math
from typing import NamedTuple

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

# How many numbers are drawn for a square besides its orientation.
NUMBERS = 12
# By no, one, two and three quarters, counterclockwise.
QUARTER_TURNS = (None, cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE)


class Change(NamedTuple):
    """What augmentation does to one square, in this order.

    Attributes:
        orientation: one of the eight: quarter turns counterclockwise, from 4 on also mirrored.
        matrix: where each pixel (column, row) of the result comes from, float64 (2, 3).
        stains: factors on red, green and blue by channel and value, float32 (3, 256, 3).
        light: the brightness by value, uint8 (256,).
    """

    orientation: int = 0
    matrix: np.ndarray | None = None
    stains: np.ndarray | None = None
    light: np.ndarray | None = None


def draw(params: AugmentParameters, size: int, random: np.random.Generator) -> Change:
    """Return a random change of a square of `size` pixels per side."""
    # Every number is drawn even if unused, so that disabling one change does not alter the others.
    return as_drawn(params, size, int(random.integers(8)), random.uniform(-1, 1, NUMBERS))


def as_drawn(params: AugmentParameters, size: int, orientation: int, numbers: np.ndarray) -> Change:
    """Return the change that random numbers mean.

    One of the eight orientations; rotation by up to `rotation` degrees, a shift by up to `shift` of
    the side, scaling by a factor of up to 1 + `scale`, and stretching of one axis against the other
    by up to 1 + `aspect`; other amounts of stain (see `change_stains`); brightness times
    1 - `brightness` to 1 + `brightness`.

    Args:
        orientation: from 0 to 7.
        numbers: float64 (12,), from -1 to 1.
    """
    angle, right, down, light, larger, wider = numbers[:6].tolist()
    matrix = stains = table = None
    if params.rotation or params.shift or params.scale or params.aspect:
        zoom, stretch = (1 + params.scale) ** larger, math.sqrt((1 + params.aspect) ** wider)
        angle = math.radians(angle * params.rotation)
        shift = (right * params.shift * size, down * params.shift * size)
        matrix = _inverse_map(size, angle, shift, (zoom * stretch, zoom / stretch))
    if params.stain:
        amounts = params.stain * numbers[6:].reshape(2, 3)
        stains = stain_tables(1 + amounts[0], amounts[1])
    if params.brightness:
        values = np.rint(np.arange(256) * (1 + light * params.brightness))
        table = np.clip(values, 0, 255).astype(np.uint8)
    return Change(orientation if params.orientations else 0, matrix, stains, table)


def augment(
    pixels: np.ndarray, params: AugmentParameters, random: np.random.Generator
) -> np.ndarray:
    """Return a randomly changed square, uint8 (size, size, 3); see `as_drawn` and `apply`."""
    return apply(draw(params, pixels.shape[0], random), pixels)


def apply(change: Change, pixels: np.ndarray) -> np.ndarray:
    """Return a changed square, uint8 (size, size, 3).

    It is moved by bilinear interpolation and mirrored at the border, so that no artificial corner
    appears. Pure white and pure black, the colors of margins, keep their color: black cannot get
    brighter, and white margins must not be harder to learn.
    """
    pixels = turned(pixels, change.orientation)
    if change.matrix is not None:
        pixels = cv2.warpAffine(
            pixels,
            change.matrix,
            pixels.shape[:2],
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )
    moved = pixels
    if change.stains is not None:
        pixels = _stained(pixels, change.stains)
    if change.light is not None:
        pixels = cv2.LUT(pixels, change.light)
    if pixels is not moved:
        for color in ((0, 0, 0), (255, 255, 255)):
            cv2.copyTo(moved, cv2.inRange(moved, color, color), pixels)
    return pixels


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return a picture in one of its eight orientations (see `Change`)."""
    turn, mirrored = QUARTER_TURNS[orientation % 4], orientation >= 4
    pixels = pixels.copy() if turn is None else cv2.rotate(pixels, turn)
    return cv2.flip(pixels, 1) if mirrored else pixels


def change_stains(pixels: np.ndarray, factors: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return a square as it would look with other amounts of stain, uint8 (size, size, 3).

    Method: Tellez et al., Medical Image Analysis 58:101544, 2019, with the colors of PAS. The
    optical density of each pixel is decomposed into hematoxylin, PAS and a residual, and each
    amount becomes factor x amount + offset.

    Args:
        factors, offsets: float (3,), of hematoxylin, PAS and the residual; an offset of 1 is an
            optical density of 0.1, which absorbs a fifth of the light.
    """
    return _stained(pixels, stain_tables(factors, offsets))


def stain_tables(factors: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return the tables of `change_stains`, float32 (3, 256, 3).

    The remaining light is a product over the three input channels: one table per channel, from its
    value to the factor on red, green and blue.
    """
    mixed = np.linalg.inv(STAINS) * factors @ STAINS
    tables = 10.0 ** -(DENSITY[:, None] * mixed[:, None])
    tables[0] *= 255 * 10.0 ** -(offsets / 10 @ STAINS)
    return tables.astype(np.float32)


def _stained(pixels: np.ndarray, tables: np.ndarray) -> np.ndarray:
    red, green, blue = (
        np.take(table, pixels[..., channel], axis=0) for channel, table in enumerate(tables)
    )
    return np.minimum(np.rint(red * green * blue), 255).astype(np.uint8)


def _inverse_map(
    size: int, angle: float, shift: tuple[float, float], zoom: tuple[float, float]
) -> np.ndarray:
    """Return the inverse of: rotate about the center, stretch along both axes, then shift.

    Args:
        shift: right and down, in pixels.

    Returns:
        float64 (2, 3), from a pixel of the result to where it comes from.
    """
    cosine, sine = math.cos(angle), math.sin(angle)
    turn = np.array([[cosine, sine], [-sine, cosine]]) / zoom
    # OpenCV counts from the middle of the first pixel.
    center = (size - 1) / 2
    origin = center - turn @ (center + shift[0], center + shift[1])
    return np.column_stack([turn, origin])
