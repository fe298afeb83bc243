"""Repairing outlines that cross themselves, and splitting those of several merged glomeruli."""

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

# µm from side to side: glomeruli have 70 to 350, and outlines may be drawn loosely.
NARROWEST, WIDEST = 20.0, 1000.0
# A part with less than this share of the largest part's area is a speck left by the brush or wand.
SPECK = 0.05
# An outline whose segments cross more often is not repaired: `make_valid` takes 0.1 s for 270
# crossings and 25 s for 8,900. A thousand random corners have 100,000; a slip of the hand has few.
CROSSINGS = 300


def sides(outline: BaseGeometry, resolution: tuple[float, float]) -> tuple[float, float]:
    """Return the width and height of an outline in µm.

    Args:
        outline: in pixels.
        resolution: µm per pixel along x and y.
    """
    left, top, right, bottom = outline.bounds
    return (right - left) * resolution[0], (bottom - top) * resolution[1]


def parts_of(
    outline: BaseGeometry, resolution: tuple[float, float]
) -> tuple[list[BaseGeometry], int]:
    """Return the parts of an outline that may be glomeruli, in order, and the number of specks.

    A part within a hole of the largest part belongs to the largest part.

    Args:
        outline: a Polygon or MultiPolygon, in pixels.
        resolution: µm per pixel along x and y.
    """
    parts = list(shapely.get_parts(outline))
    largest = max(parts, key=lambda part: part.area)
    whole = shapely.Polygon(largest.exterior)
    apart = [part for part in parts if part is largest or not whole.covers(part)]
    # A single glomerulus keeps its outline as it is.
    if len(apart) == 1:
        return [outline], 0
    kept = [
        part
        for part in apart
        if part is largest
        or (part.area >= SPECK * largest.area and min(sides(part, resolution)) >= NARROWEST)
    ]
    return kept, len(apart) - len(kept)


def crosses_often(outline: BaseGeometry) -> bool:
    """Return whether the segments of an outline cross more than `CROSSINGS` times."""
    found = shapely.get_rings(shapely.remove_repeated_points(outline))
    rings = [shapely.get_coordinates(ring) for ring in found]
    if not rings:
        return False
    ends = [np.stack([ring[:-1], ring[1:]], axis=1) for ring in rings]
    segments = shapely.linestrings(np.concatenate(ends))
    tree, pairs, start, step = shapely.STRtree(segments), 0, 0, 8
    # In growing steps: the first segments of a long tangle suffice, and all of it would have more
    # pairs than fit in memory.
    while start < len(segments) and pairs <= 2 * CROSSINGS:
        some = segments[start : start + step]
        # Each segment intersects itself and its two neighbors.
        pairs += tree.query(some, predicate="intersects").shape[1] - 3 * len(some)
        start, step = start + step, min(2 * step, 4096)
    return pairs > 2 * CROSSINGS


def made_valid(outline: BaseGeometry) -> BaseGeometry:
    """Return an outline that does not cross itself; overlapping parts are merged."""
    if outline.geom_type != "MultiPolygon":
        return shapely.make_valid(outline)
    parts = shapely.get_parts(outline)
    return shapely.union_all([areas(shapely.make_valid(part)) for part in parts])


def areas(geometry: BaseGeometry) -> BaseGeometry:
    """Return the parts of a geometry with an area: a (Multi)Polygon, perhaps empty."""
    parts = getattr(geometry, "geoms", [geometry])
    parts = [part for part in parts if part.geom_type in ("Polygon", "MultiPolygon")]
    return shapely.union_all(parts) if len(parts) > 1 else parts[0] if parts else shapely.Polygon()
