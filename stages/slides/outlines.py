"""Outlines that are whole: mended where they cross themselves, and taken apart where several were
merged.
"""

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

# Micrometers that a glomerulus has from side to side: 70 to 350, and some room for how loosely it
# was drawn.
NARROWEST, WIDEST = 20.0, 1000.0
# A part of an annotation below this share of its largest part's area is a speck, which the brush or
# the wand left behind.
SPECK = 0.05
# An outline whose pieces meet more often than this is not mended. `make_valid` takes 0.1 s for 270
# crossings and 25 s for 8,900; a thousand random corners have 100,000. A hand that slips crosses
# its own line a few times.
CROSSINGS = 300


def sides(outline: BaseGeometry, resolution: tuple[float, float]) -> tuple[float, float]:
    """Return the width and height of an outline in micrometers.

    Args:
        outline: in pixels.
        resolution: micrometers per pixel along x and y.
    """
    left, top, right, bottom = outline.bounds
    return (right - left) * resolution[0], (bottom - top) * resolution[1]


def parts_of(
    outline: BaseGeometry, resolution: tuple[float, float]
) -> tuple[list[BaseGeometry], int]:
    """Return the parts of an outline that may be glomeruli, in their order, and how many others are
    specks.

    What lies within a hole of the largest part belongs to that.

    Args:
        outline: a Polygon or MultiPolygon, in pixels.
        resolution: micrometers per pixel along x and y.
    """
    parts = list(shapely.get_parts(outline))
    largest = max(parts, key=lambda part: part.area)
    whole = shapely.Polygon(largest.exterior)
    apart = [part for part in parts if part is largest or not whole.covers(part)]
    kept = [
        part
        for part in apart
        if part is largest
        or (part.area >= SPECK * largest.area and min(sides(part, resolution)) >= NARROWEST)
    ]
    # One glomerulus of which nothing is left out keeps its outline as it is.
    return ([outline], 0) if len(apart) == 1 else (kept, len(apart) - len(kept))


def crosses_often(outline: BaseGeometry) -> bool:
    """Return whether the pieces of an outline meet more than `CROSSINGS` times, besides neighbors
    at their common corner.
    """
    rings = [
        shapely.get_coordinates(ring)
        for ring in shapely.get_rings(shapely.remove_repeated_points(outline))
    ]
    if not rings:
        return False
    pieces = shapely.linestrings(
        np.concatenate([np.stack([ring[:-1], ring[1:]], axis=1) for ring in rings])
    )
    tree, pairs, start, step = shapely.STRtree(pieces), 0, 0, 8
    # In growing steps: the first pieces of a long tangle tell, and all of it has more pairs than
    # memory holds.
    while start < len(pieces) and pairs <= 2 * CROSSINGS:
        some = pieces[start : start + step]
        # Each piece meets itself and its two neighbors.
        pairs += tree.query(some, predicate="intersects").shape[1] - 3 * len(some)
        start, step = start + step, min(2 * step, 4096)
    return pairs > 2 * CROSSINGS


def made_valid(outline: BaseGeometry) -> BaseGeometry:
    """Return an outline that does not cross itself; parts that overlap become one."""
    if outline.geom_type != "MultiPolygon":
        return shapely.make_valid(outline)
    return shapely.union_all(
        [areas(shapely.make_valid(part)) for part in shapely.get_parts(outline)]
    )


def areas(geometry: BaseGeometry) -> BaseGeometry:
    """Return what of a geometry has an area: a Polygon, a MultiPolygon, or an empty Polygon."""
    parts = [
        part
        for part in getattr(geometry, "geoms", [geometry])
        if part.geom_type in ("Polygon", "MultiPolygon")
    ]
    return shapely.union_all(parts) if len(parts) > 1 else parts[0] if parts else shapely.Polygon()
