"""Reading what was drawn on a slide, as QuPath, ImageScope and HistomicsUI export it."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import shapely
import shapely.affinity
from defusedxml import ElementTree
from shapely.geometry.base import BaseGeometry

from stages.base.errors import UserError, one_line
from stages.slides.packed import unpacked

# Objects that QuPath's measurements create, by their names today and before version 0.4.
NOT_DRAWN = {
    "cell": "cell",
    "tile": "tile",
    "tma_core": "TMA core",
    "root": "whole image",
    "PathCellObject": "cell",
    "PathTileObject": "tile",
    "TMACoreObject": "TMA core",
    "PathRootObject": "whole image",
}
# Raised for invalid coordinates.
INVALID = (
    ValueError,
    TypeError,
    IndexError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    shapely.errors.ShapelyError,
)


class Annotation(NamedTuple):
    """An annotation of a slide."""

    number: int  # its position in the file, from 1
    identifier: str  # the identifier given by the program that wrote the file
    # The names of its class, the most specific first: its own, its group's, its layer's. Empty if
    # it has none.
    classes: tuple[str, ...]
    name: str  # its name, which is not a class
    not_drawn: str  # what it is if nobody drew it as an outline: a cell, a tile, a hole
    outline: BaseGeometry | None  # in pixels of the full resolution; None if it cannot be read
    problem: str  # why the outline cannot be read

    @property
    def classification(self) -> str:
        """The most specific class, or the empty text."""
        return self.classes[0] if self.classes else ""


class SlideAnnotations(NamedTuple):
    """All annotations of a slide.

    `from_bounds` says whether pixels are counted from the corner of the scanned region.
    """

    annotations: list[Annotation]
    from_bounds: bool


def read_annotations(path: Path) -> SlideAnnotations:
    """Return the annotations in a file; its content shows which program wrote it.

    QuPath counts pixels from the corner of the scanned region, if the slide's format states one;
    ImageScope and the Digital Slide Archive count from the corner of the slide.

    Args:
        path: GeoJSON, XML or JSON, as it is or compressed (QuPath writes zip).

    Raises:
        UserError: the file is damaged or of another kind.
    """
    try:
        content = unpacked(path)
        if content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
            found, from_bounds = list(_of_imagescope(ElementTree.fromstring(content))), False
        else:
            parsed = json.loads(content)
            layers = _archive_layers(parsed)
            found = list(_of_qupath(parsed) if layers is None else _of_archive(layers))
            from_bounds = layers is None
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except RecursionError:
        raise _no_annotations(path, "it is nested too deeply") from None
    except (
        ValueError,  # Also of defusedxml, for an entity.
        ElementTree.ParseError,
        TypeError,
        KeyError,
        AttributeError,
        IndexError,
    ) as error:
        raise _no_annotations(path, f"{type(error).__name__} {error}") from None
    numbered = [one._replace(number=number) for number, one in enumerate(found, start=1)]
    return SlideAnnotations(numbered, from_bounds)


def _no_annotations(path: Path, reason: str) -> UserError:
    kinds = "QuPath GeoJSON, ImageScope XML or Digital Slide Archive JSON"
    reason = one_line(reason)
    return UserError(f"{path}: not valid annotations ({reason}); it must be {kinds}")


def _annotation(
    identifier: Any,
    classes: Sequence[Any],
    name: Any,
    not_drawn: str,
    make: Callable[[Any], BaseGeometry],
    source: Any,
) -> Annotation:
    """Return an annotation, still without its number; `make` makes its outline of `source`."""
    outline, problem = None, ""
    try:
        outline = make(source)
        if outline.is_empty or not np.isfinite(shapely.get_coordinates(outline)).all():
            raise ValueError("it has no points, or some that are not numbers")
    except KeyError as error:
        outline, problem = None, f"{error} is missing"
    except INVALID as error:
        outline, problem = None, one_line(error)
    named = tuple(text for one in classes if (text := _text(one)))
    return Annotation(0, _text(identifier), named, _text(name), not_drawn, outline, problem)


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _of_qupath(content: Any) -> Iterator[Annotation]:
    """Read a FeatureCollection, a list of features (older versions), or one feature."""
    if isinstance(content, dict):
        content = content["features"] if content["type"] == "FeatureCollection" else [content]
    if not isinstance(content, list):
        raise ValueError(f"a {type(content).__name__} instead of a list of features")
    for feature in content:
        if feature["type"] != "Feature":
            raise ValueError(f"a {feature['type']!r} instead of a Feature")
        properties = feature.get("properties") or {}
        kind = properties.get("classification") or {}
        if isinstance(kind, dict):
            # A class of several parts, such as "Glomerulus: sclerotic", is a list of names.
            names = kind.get("names") or []
            joined = ": ".join(map(str, names)) if isinstance(names, list) else names
            kind = kind.get("name") or joined
        identifier = feature.get("id")
        object_type = properties.get("objectType") or properties.get("object_type") or identifier
        name, not_drawn = properties.get("name"), NOT_DRAWN.get(str(object_type), "")
        yield _annotation(identifier, [kind], name, not_drawn, _qupath_outline, feature)


def _qupath_outline(feature: dict) -> BaseGeometry:
    if feature.get("geometry") is None:
        raise ValueError("it has no geometry")
    return shapely.geometry.shape(feature["geometry"])


def _of_imagescope(root: Any) -> Iterator[Annotation]:
    """Read the regions of layers.

    The class is the region's text, or its layer's name, or the name of the layer's only attribute.
    ImageScope gives each layer an attribute `Description`, which is not a class.
    """
    if root.tag != "Annotations":
        raise ValueError(f"the root is <{root.tag}> instead of <Annotations>")
    for layer in root.iter("Annotation"):
        attributes = {
            one.get("Name") or "": one.get("Value")
            for one in layer.iterfind("Attributes/Attribute")
        }
        named = [name for name in attributes if name and name != "Description"]
        own = layer.get("Name") or (named[0] if len(named) == 1 else "")
        for region in layer.iterfind("Regions/Region"):
            classes, name = [region.get("Text"), own], attributes.get("Description")
            not_drawn = "negative region" if region.get("NegativeROA") == "1" else ""
            yield _annotation(region.get("Id"), classes, name, not_drawn, _region_outline, region)


def _region_outline(region: Any) -> BaseGeometry:
    """Return the outline of a region of ImageScope, by its type."""
    points = [
        (float(vertex.get("X")), float(vertex.get("Y")))
        for vertex in region.iterfind("Vertices/Vertex")
    ]
    kind = region.get("Type", "0")
    # An ellipse in a rectangle, or a rectangle by two opposite corners.
    if kind == "2" or (kind == "1" and len(points) == 2):
        left, right = min(x for x, _ in points), max(x for x, _ in points)
        top, bottom = min(y for _, y in points), max(y for _, y in points)
        if kind == "1":
            return shapely.box(left, top, right, bottom)
        return _ellipse((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
    # Freehand, or a rectangle by its four corners; other types are lines.
    return shapely.Polygon(points) if kind in ("0", "1") else shapely.LineString(points)


def _archive_layers(content: Any) -> list[dict] | None:
    """Return the annotations (layers) of the Digital Slide Archive, or None for other content."""
    documents = content if isinstance(content, list) else [content]
    documents = [one.get("annotation", one) for one in documents if isinstance(one, dict)]
    found = any(isinstance(one, dict) and "elements" in one for one in documents)
    return documents if found else None


def _of_archive(layers: Sequence[dict]) -> Iterator[Annotation]:
    """Read the elements of layers; the class is the label, or the group, or the layer's name."""
    for layer in layers:
        for element in layer.get("elements") or []:
            # The group `default` is that of elements drawn without choosing one.
            group = None if element.get("group") == "default" else element.get("group")
            label = element.get("label") or {}
            own = label.get("value") if isinstance(label, dict) else label
            classes = [own, group, layer.get("name")]
            yield _annotation(element.get("id"), classes, None, "", _archive_outline, element)


def _archive_outline(element: dict) -> BaseGeometry:
    kind = element["type"]
    if kind == "polyline":
        points = [point[:2] for point in element["points"]]
        holes = [[point[:2] for point in hole] for hole in element.get("holes") or []]
        closed = element.get("closed")
        return shapely.Polygon(points, holes) if closed else shapely.LineString(points)
    if kind not in ("point", "circle", "rectangle", "ellipse"):
        raise ValueError(f"it is of the type {kind!r}")
    x, y = element["center"][:2]
    if kind == "point":
        return shapely.Point(x, y)
    if kind == "circle":
        return _ellipse(x, y, 2 * element["radius"], 2 * element["radius"])
    width, height = element["width"], element["height"]
    if kind == "rectangle":
        outline = shapely.box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    else:
        outline = _ellipse(x, y, width, height)
    turn = element.get("rotation") or 0
    return shapely.affinity.rotate(outline, turn, origin=(x, y), use_radians=True)


def _ellipse(x: float, y: float, width: float, height: float) -> BaseGeometry:
    circle = shapely.Point(0, 0).buffer(1, quad_segs=16)
    scaled = shapely.affinity.scale(circle, width / 2, height / 2, origin=(0, 0))
    return shapely.affinity.translate(scaled, x, y)
