"""Find near-duplicates: crops that show the same picture in other bytes.

A picture that was compressed again, rescaled, brightened, flipped or turned by quarters still has
the same coarse pattern.
"""

from collections.abc import Iterable

import cv2
import numpy as np
import scipy

SIDE, BLUR, FREQUENCIES = 32, 2.0, 16
# Copies of real crops reach 0.98, unrelated real crops 0.88 and drawn ones 0.90 (docs/datasets.md).
SIMILAR = 0.95
# Standard deviation, in gray levels, below which a crop has no pattern to compare.
PLAIN = 0.5


def patterns(crops: Iterable[np.ndarray]) -> np.ndarray:
    """Return the coarse pattern of each crop, the same for all eight orientations.

    The pattern holds the magnitudes of the low frequencies (discrete cosine transform) of a
    gray thumbnail, as perceptual hashes do (Zauner, Implementation and benchmarking of perceptual
    image hash functions, 2010). A flip changes only signs of the transform, and a quarter turn
    swaps its axes as well. Slow gradients, and what all crops have in common, such as a mask, are
    subtracted first.

    Args:
        crops: N uint8 arrays (height, width, 3), without margins.

    Returns:
        float32 array (N, 256) of unit rows; a row of a crop without any pattern is zero.
    """
    thumbnails = np.stack([_thumbnail(crop) for crop in crops])
    plain = thumbnails.std(axis=(1, 2)) < PLAIN
    mean = thumbnails.mean(axis=0)
    mean = (mean + mean.T) / 2
    mean = sum(np.rot90(mean, turns) for turns in range(4)) / 4
    found = np.abs(scipy.fft.dctn(thumbnails - mean, axes=(1, 2), norm="ortho"))
    low = found[:, :FREQUENCIES, :FREQUENCIES]
    swapped = low.transpose(0, 2, 1)
    upper = np.triu(np.ones((FREQUENCIES, FREQUENCIES), dtype=bool))
    rows = np.where(upper, np.maximum(low, swapped), np.minimum(low, swapped)).reshape(len(low), -1)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = rows / np.maximum(norms, 1e-9)
    return np.where(plain[:, None] | (norms == 0), 0, unit).astype(np.float32)


def _thumbnail(crop: np.ndarray) -> np.ndarray:
    gray = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32)
    small = cv2.resize(gray, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return small - cv2.GaussianBlur(small, (0, 0), BLUR)


def similar_pairs(rows: np.ndarray) -> list[tuple[int, int, float]]:
    """Return (i, j, similarity) of near-duplicates, i < j, the most similar first.

    Args:
        rows: by `patterns`. The similarity of two crops is the cosine of their rows.
    """
    # It takes longer to import than everything else here.
    from sklearn.neighbors import NearestNeighbors

    known = np.flatnonzero(rows.any(axis=1))
    if len(known) < 2:
        return []
    # Rows of unit length: |a - b|² = 2 - 2 cos. The radius is slightly larger than needed, so that
    # rounding excludes nothing.
    radius = np.sqrt(2 - 2 * (SIMILAR - 0.001))
    search = NearestNeighbors(radius=radius, algorithm="brute").fit(rows[known])
    near = enumerate(search.radius_neighbors(return_distance=False))
    pairs = [(int(known[i]), int(known[j])) for i, others in near for j in others if i < j]
    found = [(i, j, round(float(rows[i].astype(np.float64) @ rows[j]), 3)) for i, j in pairs]
    kept = [pair for pair in found if pair[2] >= SIMILAR]
    return sorted(kept, key=lambda pair: (-pair[2], pair[:2]))
