"""What was drawn on a slide: GeoJSON of QuPath, XML of ImageScope, JSON of the Digital Slide Archive (HistomicsUI)."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import shapely
import shapely.affinity
from defusedxml import ElementTree
from shapely.geometry.base import BaseGeometry

from stages.base.errors import UserError, refuse


class Annotation(NamedTuple):
    """A thing that was drawn: its number in the file, from 1; the program's own identifier and its class, empty where it has
    none; and its outline, in pixels of the slide's full resolution.
    """

    number: int
    identifier: str
    classification: str
    outline: BaseGeometry


class Drawn(NamedTuple):
    """All annotations of a slide; `from_bounds`, whether their pixels are counted from the corner of what was scanned."""

    annotations: list[Annotation]
    from_bounds: bool


def read_annotations(path: Path) -> Drawn:
    """Return the annotations in a file; which program's it is, its content says.

    QuPath counts pixels from the corner of what was scanned, where a slide's format says that; ImageScope and the Digital Slide
    Archive from the corner of the slide.

    Raises:
        UserError: the file is damaged or of another kind, or an outline in it is none, with its number.
    """
    try:
        content = path.read_bytes()
        if content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
            found, from_bounds = list(_of_imagescope(ElementTree.fromstring(content))), False
        else:
            parsed = json.loads(content.decode("utf-8-sig"))
            is_archive = _elements(parsed) is not None
            found = list(_of_archive(_elements(parsed) or []) if is_archive else _of_qupath(parsed))
            from_bounds = not is_archive
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    # A file that is none, an entity within XML, or a number where a list belongs.
    except (ValueError, ElementTree.ParseError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        kinds = "GeoJSON of QuPath, XML of ImageScope or JSON of the Digital Slide Archive"
        raise UserError(f"{path} is not {kinds}: {' '.join(f'{type(error).__name__} {error}'.split())[:200]}") from None
    annotations, problems = [], []
    for number, (identifier, classification, make) in enumerate(found, start=1):
        try:
            outline = make()
            if not all(map(math.isfinite, outline.bounds)):
                raise ValueError("it has no points, or some that are no numbers")
            annotations.append(Annotation(number, identifier, classification.strip(), outline))
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, shapely.errors.ShapelyError) as error:
            problems.append(f"{path}, annotation {number}: its outline cannot be read ({' '.join(str(error).split())[:120]})")
    refuse(problems)
    if not annotations:
        raise UserError(f"{path} holds no annotation")
    return Drawn(annotations, from_bounds)


# Of each annotation the identifier, the class, and what makes its outline: which may fail for one alone.
Found = Iterator[tuple[str, str, Any]]


def _of_qupath(content: Any) -> Found:
    """A FeatureCollection, a list of features as older versions write it, or one feature."""
    if isinstance(content, dict):
        content = content["features"] if content["type"] == "FeatureCollection" else [content]
    for feature in content:
        if feature["type"] != "Feature":
            raise ValueError(f"a {feature['type']!r} where a Feature belongs")
        properties = feature.get("properties") or {}
        kind = properties.get("classification") or {}
        # A class of several parts, such as "Glomerulus: sclerotic", is a list of names.
        name = kind.get("name") or ": ".join(kind.get("names") or []) if isinstance(kind, dict) else str(kind)
        yield str(feature.get("id") or ""), str(name), lambda feature=feature: shapely.geometry.shape(feature["geometry"])


def _of_imagescope(root: Any) -> Found:
    """Regions of layers; the class is a region's text, or else its layer's name."""
    if root.tag != "Annotations":
        raise ValueError(f"the root is <{root.tag}>, where <Annotations> belongs")
    for layer in root.iter("Annotation"):
        attributes = [one.get("Name") for one in layer.iterfind("Attributes/Attribute") if one.get("Name")]
        name = layer.get("Name") or (attributes[0] if attributes else "")
        for region in layer.iterfind("Regions/Region"):
            if region.get("NegativeROA") == "1":
                raise ValueError(f"region {region.get('Id')} is a negative one, a hole; take it out")
            points = [(float(vertex.get("X")), float(vertex.get("Y"))) for vertex in region.iterfind("Vertices/Vertex")]
            yield str(region.get("Id") or ""), region.get("Text") or name, _shape_of(region.get("Type", "0"), points)


def _shape_of(kind: str, points: Sequence[tuple[float, float]]) -> Any:
    """Return what makes the outline of a region of ImageScope: 0 freehand, 1 rectangle, 2 ellipse in a rectangle."""
    if kind == "2" or (kind == "1" and len(points) == 2):
        left, right = min(x for x, _ in points), max(x for x, _ in points)
        top, bottom = min(y for _, y in points), max(y for _, y in points)
        if kind == "1":
            return lambda: shapely.box(left, top, right, bottom)
        return lambda: _ellipse((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
    return lambda: shapely.Polygon(points) if kind in ("0", "1") else shapely.LineString(points)


def _elements(content: Any) -> list | None:
    """Return the elements of annotations of the Digital Slide Archive, or None where the content is something else."""
    documents = content if isinstance(content, list) else [content]
    documents = [one.get("annotation", one) for one in documents if isinstance(one, dict)]
    if not documents or not all("elements" in one for one in documents):
        return None
    return [element for one in documents for element in one["elements"]]


def _of_archive(elements: Sequence[dict]) -> Found:
    """Elements; the class is an element's label, or else its group."""
    for element in elements:
        name = (element.get("label") or {}).get("value") or element.get("group") or ""
        yield str(element.get("id") or ""), str(name), lambda element=element: _archive_outline(element)


def _archive_outline(element: dict) -> BaseGeometry:
    kind = element["type"]
    if kind == "polyline":
        points = [point[:2] for point in element["points"]]
        holes = [[point[:2] for point in hole] for hole in element.get("holes") or []]
        return shapely.Polygon(points, holes) if element.get("closed") else shapely.LineString(points)
    if kind == "point":
        return shapely.Point(element["center"][:2])
    (x, y), turn = element["center"][:2], element.get("rotation") or 0
    if kind == "circle":
        return _ellipse(x, y, 2 * element["radius"], 2 * element["radius"])
    width, height = element["width"], element["height"]
    if kind == "rectangle":
        outline = shapely.box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    elif kind == "ellipse":
        outline = _ellipse(x, y, width, height)
    else:
        raise ValueError(f"it is of the type {kind!r}")
    return shapely.affinity.rotate(outline, turn, origin=(x, y), use_radians=True)


def _ellipse(x: float, y: float, width: float, height: float) -> BaseGeometry:
    circle = shapely.Point(0, 0).buffer(1, quad_segs=16)
    return shapely.affinity.translate(shapely.affinity.scale(circle, width / 2, height / 2, origin=(0, 0)), x, y)
