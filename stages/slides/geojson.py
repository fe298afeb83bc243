"""Outlines as GeoJSON that QuPath imports (File > Import objects), version 0.4 or later."""

import json
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.base.files import replacing

# Blue for label 0 and vermilion for label 1, which color-blind people can tell apart.
LABEL_COLORS = ((0, 95, 153), (213, 94, 0))
UNLABELED_COLOR = (128, 128, 128)
# The class of predictions that are too near the threshold, and its yellow.
UNCERTAIN, UNCERTAIN_COLOR = "uncertain", (240, 228, 66)


def feature(
    name: str,
    geometry: Mapping[str, Any],
    identifier: str,
    classification: str | None,
    label: int | None,
    **more: Any,
) -> dict[str, Any]:
    """Return an annotation object of QuPath: name, class with color, and `more` properties.

    If `identifier` is QuPath's own (a UUID), it is kept, so that QuPath asks before it imports an
    object that it already has; otherwise one is derived from the name.
    """
    try:
        identifier = str(uuid.UUID(identifier))
    except ValueError:
        identifier = _derived_id(name, identifier)
    properties: dict[str, Any] = {"objectType": "annotation", "name": name}
    if classification is not None:
        color = LABEL_COLORS[label] if label is not None else UNLABELED_COLOR
        if classification == UNCERTAIN:
            color = UNCERTAIN_COLOR
        properties["classification"] = {"name": classification, "color": list(color)}
    return {
        "type": "Feature",
        "id": identifier,
        "geometry": dict(geometry),
        "properties": properties | more,
    }


def _derived_id(name: str, identifier: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{name}/{identifier}"))


def make_ids_unique(features: Sequence[dict[str, Any]]) -> None:
    """Derive new identifiers for features that share one, such as the parts of an annotation."""
    counts = Counter(one["id"] for one in features)
    for one in features:
        if counts[one["id"]] > 1:
            one["id"] = _derived_id(one["properties"]["name"], one["id"])


def rectangle(x: float, y: float, width: float, height: float) -> dict[str, Any]:
    """Return the geometry of a rectangle."""
    corners = [[x, y], [x + width, y], [x + width, y + height], [x, y + height], [x, y]]
    return {"type": "Polygon", "coordinates": [corners]}


def write_features(path: Path, features: Sequence[Mapping[str, Any]]) -> None:
    """Write a FeatureCollection, one line per feature."""
    lines = (json.dumps(one, ensure_ascii=False, allow_nan=False) for one in features)
    with replacing(path) as file:
        file.write('{"type": "FeatureCollection", "features": [\n')
        file.write(",\n".join(lines))
        file.write("\n]}\n")
