"""What was drawn on a slide: GeoJSON of QuPath, XML of ImageScope, JSON of the Digital Slide
Archive (HistomicsUI).
"""

import functools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import shapely
import shapely.affinity
from defusedxml import ElementTree
from shapely.geometry.base import BaseGeometry

from stages.base.errors import UserError
from stages.slides.packed import unpacked

# What QuPath's measuring makes and nobody drew, by its names of today and of versions before 0.4.
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


# What is raised over coordinates that are none.
UNREADABLE = (
    ValueError,
    TypeError,
    IndexError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    shapely.errors.ShapelyError,
)


class Annotation(NamedTuple):
    """An annotation of a slide.

    Attributes:
        number: its place in the file, from 1.
        identifier: that of the program which wrote it.
        classes: the names of its class, the most specific first: its own, its group's, its layer's.
            Empty where it has none.
        name: what it is called, which is no class.
        aside: what it is, where it is no outline that somebody drew: a cell, a tile, a hole.
        outline: in pixels of the slide's full resolution; None: it cannot be read.
        problem: why it cannot be read.
    """

    number: int
    identifier: str
    classes: tuple[str, ...]
    name: str
    aside: str
    outline: BaseGeometry | None
    problem: str

    @property
    def classification(self) -> str:
        """The most specific class, or the empty text."""
        return self.classes[0] if self.classes else ""


class Drawn(NamedTuple):
    """All annotations of a slide; `from_bounds`, whether their pixels are counted from the corner
    of what was scanned.
    """

    annotations: list[Annotation]
    from_bounds: bool


class Found(NamedTuple):
    """An annotation as a file holds it (see `Annotation`); `make` makes its outline, which may fail
    for one alone.
    """

    identifier: Any
    classes: Sequence[Any]
    name: Any
    aside: str
    make: Callable[[], BaseGeometry]


def read_annotations(path: Path) -> Drawn:
    """Return the annotations in a file, none if it holds none; the content says which program wrote
    it.

    QuPath counts pixels from the corner of what was scanned, where a slide's format says that;
    ImageScope and the Digital Slide Archive from the corner of the slide.

    Args:
        path: a file, which gzip may have compressed, or zip as QuPath does.

    Raises:
        UserError: the file is damaged or of another kind.
    """
    try:
        content = unpacked(path)
        if content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
            found, from_bounds = list(_of_imagescope(ElementTree.fromstring(content))), False
        else:
            parsed = json.loads(content)
            layers = _layers(parsed)
            found = list(_of_qupath(parsed) if layers is None else _of_archive(layers))
            from_bounds = layers is None
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except RecursionError:
        raise _no_annotations(path, "it is nested too deep") from None
    # A file of another kind, an entity within XML, or a number where a list belongs.
    except (
        ValueError,
        ElementTree.ParseError,
        TypeError,
        KeyError,
        AttributeError,
        IndexError,
    ) as error:
        raise _no_annotations(path, f"{type(error).__name__} {error}") from None
    return Drawn(
        [_annotation(number, one) for number, one in enumerate(found, start=1)], from_bounds
    )


def _no_annotations(path: Path, reason: str) -> UserError:
    kinds = "GeoJSON of QuPath, XML of ImageScope or JSON of the Digital Slide Archive"
    return UserError(f"{path} is not {kinds}: {' '.join(reason.split())[:200]}")


def _annotation(number: int, found: Found) -> Annotation:
    """Return an annotation with its outline, or with the reason why that cannot be read."""
    classes = tuple(text for name in found.classes if (text := _text(name)))
    outline, problem = None, ""
    try:
        outline = found.make()
        if outline.is_empty or not np.isfinite(shapely.get_coordinates(outline)).all():
            raise ValueError("it has no points, or some that are no numbers")
    except KeyError as error:
        outline, problem = None, f"{error} is missing"
    except UNREADABLE as error:
        outline, problem = None, " ".join(str(error).split())[:120]
    return Annotation(
        number, _text(found.identifier), classes, _text(found.name), found.aside, outline, problem
    )


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _of_qupath(content: Any) -> Iterator[Found]:
    """A FeatureCollection, a list of features as older versions write it, or one feature."""
    if isinstance(content, dict):
        content = content["features"] if content["type"] == "FeatureCollection" else [content]
    if not isinstance(content, list):
        raise ValueError(f"a {type(content).__name__} where a list of features belongs")
    for feature in content:
        if feature["type"] != "Feature":
            raise ValueError(f"a {feature['type']!r} where a Feature belongs")
        properties = feature.get("properties") or {}
        kind = properties.get("classification") or {}
        if isinstance(kind, dict):
            # A class of several parts, such as "Glomerulus: sclerotic", is a list of names.
            names = kind.get("names") or []
            kind = kind.get("name") or (
                ": ".join(map(str, names)) if isinstance(names, list) else names
            )
        identifier = feature.get("id")
        aside = NOT_DRAWN.get(
            str(properties.get("objectType") or properties.get("object_type") or identifier), ""
        )
        make = functools.partial(_qupath_outline, feature)
        yield Found(identifier, [kind], properties.get("name"), aside, make)


def _qupath_outline(feature: dict) -> BaseGeometry:
    if feature.get("geometry") is None:
        raise ValueError("it has no geometry")
    return shapely.geometry.shape(feature["geometry"])


def _of_imagescope(root: Any) -> Iterator[Found]:
    """Regions of layers; the class is a region's text, or else its layer's name, or else the name
    of the layer's attribute.

    ImageScope gives each layer an attribute `Description`, which is no class.
    """
    if root.tag != "Annotations":
        raise ValueError(f"the root is <{root.tag}>, where <Annotations> belongs")
    for layer in root.iter("Annotation"):
        attributes = {
            one.get("Name") or "": one.get("Value")
            for one in layer.iterfind("Attributes/Attribute")
        }
        named = [name for name in attributes if name and name != "Description"]
        own = layer.get("Name") or (named[0] if len(named) == 1 else "")
        for region in layer.iterfind("Regions/Region"):
            aside = "negative region" if region.get("NegativeROA") == "1" else ""
            make = functools.partial(_region_outline, region)
            yield Found(
                region.get("Id"),
                [region.get("Text"), own],
                attributes.get("Description"),
                aside,
                make,
            )


def _region_outline(region: Any) -> BaseGeometry:
    """Return the outline of a region of ImageScope: 0 freehand, 1 rectangle, 2 ellipse in a
    rectangle; others are lines.
    """
    kind = region.get("Type", "0")
    points = [
        (float(vertex.get("X")), float(vertex.get("Y")))
        for vertex in region.iterfind("Vertices/Vertex")
    ]
    if kind == "2" or (kind == "1" and len(points) == 2):
        left, right = min(x for x, _ in points), max(x for x, _ in points)
        top, bottom = min(y for _, y in points), max(y for _, y in points)
        if kind == "1":
            return shapely.box(left, top, right, bottom)
        return _ellipse((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
    return shapely.Polygon(points) if kind in ("0", "1") else shapely.LineString(points)


def _layers(content: Any) -> list[dict] | None:
    """Return the annotations (layers) of the Digital Slide Archive in a file, or None where the
    content is something else.
    """
    documents = content if isinstance(content, list) else [content]
    documents = [one.get("annotation", one) for one in documents if isinstance(one, dict)]
    return (
        documents if any(isinstance(one, dict) and "elements" in one for one in documents) else None
    )


def _of_archive(layers: Sequence[dict]) -> Iterator[Found]:
    """Elements of layers; the class is an element's label, or else its group, or else its layer's
    name.
    """
    for layer in layers:
        for element in layer.get("elements") or []:
            # The group of what was drawn without choosing one.
            group = None if element.get("group") == "default" else element.get("group")
            label = element.get("label") or {}
            classes = [
                label.get("value") if isinstance(label, dict) else label,
                group,
                layer.get("name"),
            ]
            yield Found(
                element.get("id"), classes, None, "", functools.partial(_archive_outline, element)
            )


def _archive_outline(element: dict) -> BaseGeometry:
    kind = element["type"]
    match kind:
        case "polyline":
            points = [point[:2] for point in element["points"]]
            holes = [[point[:2] for point in hole] for hole in element.get("holes") or []]
            return (
                shapely.Polygon(points, holes)
                if element.get("closed")
                else shapely.LineString(points)
            )
        case "point":
            return shapely.Point(element["center"][:2])
        case "circle" | "rectangle" | "ellipse":
            (x, y), turn = element["center"][:2], element.get("rotation") or 0
        case _:
            raise ValueError(f"it is of the type {kind!r}")
    if kind == "circle":
        return _ellipse(x, y, 2 * element["radius"], 2 * element["radius"])
    width, height = element["width"], element["height"]
    if kind == "rectangle":
        outline = shapely.box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    else:
        outline = _ellipse(x, y, width, height)
    return shapely.affinity.rotate(outline, turn, origin=(x, y), use_radians=True)


def _ellipse(x: float, y: float, width: float, height: float) -> BaseGeometry:
    circle = shapely.Point(0, 0).buffer(1, quad_segs=16)
    return shapely.affinity.translate(
        shapely.affinity.scale(circle, width / 2, height / 2, origin=(0, 0)), x, y
    )
