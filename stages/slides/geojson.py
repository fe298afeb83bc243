"""Outlines as GeoJSON that QuPath imports (File > Import objects), version 0.4 or later."""

import json
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.base.files import replacing

# Vermilion and blue, which those tell apart who see no red or no green.
COLORS = ((0, 95, 153), (213, 94, 0))


def feature(
    name: str,
    geometry: Mapping[str, Any],
    identifier: str,
    classification: str | None,
    label: int | None,
    **more: Any,
) -> dict[str, Any]:
    """Return an annotation object of QuPath: class with color, name, and whatever `more`
    properties.

    The identifier is QuPath's own where it gave one (a UUID), so that an import can replace what
    was drawn; otherwise one is made of the name.
    """
    try:
        identifier = str(uuid.UUID(identifier))
    except ValueError:
        identifier = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{name}/{identifier}"))
    properties: dict[str, Any] = {"objectType": "annotation", "name": name}
    if classification is not None:
        color = COLORS[label] if label is not None else (128, 128, 128)
        properties["classification"] = {"name": classification, "color": list(color)}
    return {
        "type": "Feature",
        "id": identifier,
        "geometry": dict(geometry),
        "properties": properties | more,
    }


def tell_apart(features: Sequence[dict[str, Any]]) -> None:
    """Give those of a slide's features that share an identifier, such as parts of one annotation,
    one of their own.
    """
    counts = Counter(one["id"] for one in features)
    for one in features:
        if counts[one["id"]] > 1:
            one["id"] = str(
                uuid.uuid5(uuid.NAMESPACE_URL, f"{one['properties']['name']}/{one['id']}")
            )


def rectangle(x: float, y: float, width: float, height: float) -> dict[str, Any]:
    """Return the geometry of a rectangle."""
    corners = [[x, y], [x + width, y], [x + width, y + height], [x, y + height], [x, y]]
    return {"type": "Polygon", "coordinates": [corners]}


def write_features(path: Path, features: Sequence[Mapping[str, Any]]) -> None:
    """Write a FeatureCollection, a line for each feature."""
    with replacing(path) as file:
        file.write('{"type": "FeatureCollection", "features": [\n')
        file.write(
            ",\n".join(json.dumps(one, ensure_ascii=False, allow_nan=False) for one in features)
        )
        file.write("\n]}\n")
