"""The shapes that tissue is drawn with: noise, cells, nuclei, soft steps, wavy outlines."""

import numpy as np
import scipy


def cells(
    random: np.random.Generator, x: np.ndarray, y: np.ndarray, spacing: float, warp: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distances, in pixels, to the nearest and next nearest of scattered centers: walls
    run where they are equal.
    """
    height, width = x.shape
    grid = np.mgrid[-2 : height / spacing + 2, -2 : width / spacing + 2].reshape(2, -1).T
    centers = (grid + random.uniform(-0.45, 0.45, grid.shape)) * spacing
    points = np.stack(
        [
            y + warp * spacing * noise(random, x.shape, spacing / 2),
            x + warp * spacing * noise(random, x.shape, spacing / 2),
        ],
        -1,
    )
    distances, _ = scipy.spatial.cKDTree(centers).query(points.reshape(-1, 2), k=2)
    near, next_near = distances.reshape(height, width, 2).transpose(2, 0, 1)
    return near, next_near


def nuclei(random: np.random.Generator, chance: np.ndarray, count: int, size: float) -> np.ndarray:
    """Return the hematoxylin density of `count` elliptic nuclei of about `size` pixels radius,
    where `chance` is high.
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
        y, x = np.mgrid[top : min(height, row + reach), left : min(width, column + reach)].astype(
            np.float64
        )
        along = (x - column) * np.cos(turn) + (y - row) * np.sin(turn)
        across = (y - row) * np.cos(turn) - (x - column) * np.sin(turn)
        shape = smooth_step(1 - np.hypot(along / long, across / short), 0.25) * strength
        patch = density[top : top + y.shape[0], left : left + y.shape[1]]
        np.maximum(patch, shape, out=patch)
    return density


def noise(
    random: np.random.Generator, shape: tuple[int, int], scale: float | tuple[float, float]
) -> np.ndarray:
    """Return smooth noise of mean 0 and standard deviation 1 whose spots are about `scale` pixels
    wide (rows, columns).
    """
    field = scipy.ndimage.gaussian_filter(random.standard_normal(shape), scale, mode="wrap")
    return (field - field.mean()) / (field.std() + 1e-12)


def smooth_step(value: np.ndarray, width: float) -> np.ndarray:
    """Return 0 where `value` is below -width, 1 above width, and a smooth step between."""
    t = np.clip(value / (2 * width) + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def wavy(random: np.random.Generator, angle: np.ndarray, size: float) -> np.ndarray:
    """Return a radius about 1 that waves with the angle, by about `size`."""
    waves = [
        size / k * random.normal() * np.cos(k * angle + random.uniform(0, 2 * np.pi))
        for k in range(2, 8)
    ]
    return 1 + np.sum(waves, axis=0)
