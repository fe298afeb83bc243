"""Shapes to draw tissue with: noise, cells, nuclei, smooth steps, wavy outlines."""

import numpy as np
import scipy


def cells(
    random: np.random.Generator, x: np.ndarray, y: np.ndarray, spacing: float, warp: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distances, in pixels, to the nearest two of scattered centers: equal at walls."""
    height, width = x.shape
    grid = np.mgrid[-2 : height / spacing + 2, -2 : width / spacing + 2].reshape(2, -1).T
    centers = (grid + random.uniform(-0.45, 0.45, grid.shape)) * spacing
    down = y + warp * spacing * noise(random, x.shape, spacing / 2)
    right = x + warp * spacing * noise(random, x.shape, spacing / 2)
    points = np.stack([down, right], -1)
    distances, _ = scipy.spatial.cKDTree(centers).query(points.reshape(-1, 2), k=2)
    near, next_near = distances.reshape(height, width, 2).transpose(2, 0, 1)
    return near, next_near


def nuclei(random: np.random.Generator, chance: np.ndarray, count: int, size: float) -> np.ndarray:
    """Return the hematoxylin density of `count` elliptic nuclei, placed where `chance` is high.

    Args:
        size: the radius of a nucleus in pixels, on average.
    """
    density = np.zeros_like(chance)
    total = chance.sum()
    if count == 0 or total <= 0:
        return density
    height, width = chance.shape
    for place in random.choice(chance.size, size=count, p=chance.ravel() / total):
        row, column = divmod(int(place), width)
        long, short = size * random.uniform(0.8, 1.4), size * random.uniform(0.5, 0.9)
        turn, strength = random.uniform(0, np.pi), random.uniform(0.4, 0.95)
        reach = int(long * 1.5) + 2
        top, left = max(0, row - reach), max(0, column - reach)
        bottom, right = min(height, row + reach), min(width, column + reach)
        y, x = np.mgrid[top:bottom, left:right].astype(np.float64)
        along = (x - column) * np.cos(turn) + (y - row) * np.sin(turn)
        across = (y - row) * np.cos(turn) - (x - column) * np.sin(turn)
        shape = smooth_step(1 - np.hypot(along / long, across / short), 0.25) * strength
        patch = density[top:bottom, left:right]
        np.maximum(patch, shape, out=patch)
    return density


def noise(
    random: np.random.Generator, shape: tuple[int, int], scale: float | tuple[float, float]
) -> np.ndarray:
    """Return smooth noise, mean 0 and deviation 1, with spots of `scale` pixels (rows, columns)."""
    field = scipy.ndimage.gaussian_filter(random.standard_normal(shape), scale, mode="wrap")
    return (field - field.mean()) / (field.std() + 1e-12)


def smooth_step(value: np.ndarray, width: float) -> np.ndarray:
    """Return 0 where `value` is below -width, 1 above width, and a smooth step between."""
    t = np.clip(value / (2 * width) + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def wavy(random: np.random.Generator, angle: np.ndarray, size: float) -> np.ndarray:
    """Return a radius that varies with the angle around 1, by about `size`."""
    waves = [
        size / k * random.normal() * np.cos(k * angle + random.uniform(0, 2 * np.pi))
        for k in range(2, 8)
    ]
    return 1 + np.sum(waves, axis=0)
