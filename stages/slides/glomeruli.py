"""Which annotations are glomeruli, of which class, and whether their outlines are plausible."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import shapely
import shapely.affinity
from PIL import Image, ImageDraw
from shapely.geometry.base import BaseGeometry

from stages.base.errors import refuse, warn
from stages.slides.annotations import Annotation
from stages.slides.outlines import (
    CROSSINGS,
    NARROWEST,
    WIDEST,
    areas,
    crosses_often,
    made_valid,
    parts_of,
    sides,
)
from stages.slides.slide import Box, Region, Slide

# Two outlines that share this much of the smaller one's area are one glomerulus, drawn twice.
SAME = 0.5
# The name that stands for annotations without a class in the options.
NO_CLASS = "(no class)"
# Names of classes that are the opposite of globally sclerotic.
OPPOSITE = re.compile(r"(non|not|no|without|un)\b|non\w|normal|healthy|viable|patent")


class Classes(NamedTuple):
    """The names of classes (any case, _ or space): label 1, label 0, and ignored ones.

    With `unlabeled`, everything that is not ignored is a glomerulus without a label.
    """

    positive: Collection[str]
    negative: Collection[str]
    ignored: Collection[str]
    unlabeled: bool

    def label(self, name: str) -> int | None:
        """Return the label of a class, or None if it has none."""
        if self.unlabeled:
            return None
        known = {class_key(one): 0 for one in self.negative}
        known |= {class_key(one): 1 for one in self.positive}
        return known.get(class_key(name or NO_CLASS))

    def is_ignored(self, name: str) -> bool:
        """Return whether a class is of something other than glomeruli."""
        return class_key(name or NO_CLASS) in map(class_key, self.ignored)


class Glomerulus(NamedTuple):
    """A glomerulus of a slide."""

    annotation: Annotation  # what was drawn
    label: int | None  # 0, 1, or None if it is unknown
    outline: BaseGeometry  # in pixels of the slide's full resolution
    part: int  # its number among the parts of its annotation, from 1; 0 for a single part


def class_key(name: str) -> str:
    """Return a class's name as names are compared: without case, _ and extra spaces."""
    return " ".join(name.replace("_", " ").casefold().split())


def refuse_overlap(classes: Classes) -> None:
    """Raise `UserError` if a class is named in two options, or as its opposite."""
    named = {
        "--positive": classes.positive,
        "--negative": classes.negative,
        "--ignore": classes.ignored,
    }
    of_name: dict[str, list[str]] = {}
    for option, names in named.items():
        for name in dict.fromkeys(map(class_key, names)):
            of_name.setdefault(name, []).append(option)
    problems = [
        f"{' and '.join(options)}: the class {name!r} is in both; name all classes of each, as "
        "they have defaults"
        for name, options in of_name.items()
        if len(options) > 1
    ]
    problems += [
        f"--positive {name}: this class is not globally sclerotic, by its name"
        for name in classes.positive
        if OPPOSITE.match(class_key(name))
    ]
    problems += [
        f"--negative {name}: this class is globally sclerotic, by its name"
        for name in classes.negative
        if class_key(name) in ("globally sclerotic", "gs")
    ]
    refuse(problems)


def find_glomeruli(
    annotations: Sequence[Annotation], classes: Classes, where: object
) -> list[tuple[Annotation, int | None]]:
    """Return the glomeruli among some annotations with their labels.

    Warns of annotations that nobody drew, which are left out, and of a class within a layer of the
    other label.

    Args:
        where: the file of the annotations, for messages.

    Raises:
        UserError: a class is in none of the options, or an outline cannot be read.
    """
    found, unknown, named, not_drawn = [], Counter[str](), list[str](), Counter[str]()
    problems, doubts = list[str](), list[str]()
    for one in annotations:
        own, broader = one.classification, one.classes[1:]
        label = classes.label(own)
        # An ignored layer is ignored except for glomeruli by their own class.
        if classes.is_ignored(own) or (label is None and any(map(classes.is_ignored, broader))):
            continue
        if one.not_drawn:
            not_drawn[one.not_drawn] += 1
            continue
        if label is None and not classes.unlabeled:
            unknown[own or NO_CLASS] += 1
            named += [one.name] if one.name and not own else []
        here = f"{where}, annotation {one.number}"
        if label is not None:
            other = [name for name in broader if classes.label(name) == 1 - label]
            if other:
                within = f"within {other[0]!r}, label {1 - label}"
                doubts.append(f"{here} is of the class {own!r}, label {label}, {within}")
        if one.outline is None:
            problems.append(f"{here}: its outline cannot be read ({one.problem}); draw it again")
        found.append((one, label))
    if unknown:
        counts = ", ".join(f"{name!r} ({count})" for name, count in sorted(unknown.items()))
        hint = f"; the name of an annotation, such as {named[0]!r}, is not a class" if named else ""
        problems.insert(
            0,
            f"{where}: unknown classes: {counts}{hint}; name them with --positive, --negative or "
            "--ignore, or cut crops to predict with --no-labels",
        )
    refuse(problems)
    warn("its own class is used", doubts)
    left_out = [f"{count} x {what}" for what, count in sorted(not_drawn.items())]
    warn(f"{where}: left out, as nobody drew them as outlines", left_out)
    return found


def check_outlines(
    found: Sequence[tuple[Annotation, int | None]],
    slide: Slide,
    origin: tuple[int, int],
    cut: bool,
    where: object,
) -> tuple[list[Glomerulus], list[str]]:
    """Return glomeruli with valid outlines on the slide, and a line for each repair.

    An annotation of several parts, as QuPath merges them, becomes a glomerulus for each part that
    is not a speck.

    Args:
        found: annotations whose outlines could be read, and their labels.
        slide: on which they were drawn.
        origin: the corner on the slide from which the annotations' pixels are counted.
        cut: whether to cut off what lies beyond the slide's edge, instead of refusing it.
        where: the file of the annotations, for messages.

    Raises:
        UserError: an outline has no area, crosses itself too often, has a size that no glomerulus
            has, or lies beyond the slide; or a glomerulus was drawn twice, with both labels.
    """
    kept, repairs, problems = [], [], []
    whole = shapely.box(0, 0, *slide.size)
    for annotation, label in found:
        here = f"{where}, annotation {annotation.number}"
        drawn = shapely.affinity.translate(annotation.outline, *origin)
        outline = drawn
        if not drawn.is_valid:
            if crosses_often(drawn):
                problems.append(f"{here} crosses itself more than {CROSSINGS} times; draw it again")
                continue
            repairs.append(f"{here}: {shapely.is_valid_reason(drawn)}")
            outline = made_valid(drawn)
        outline = areas(outline)
        if outline.is_empty:
            problems.append(f"{here} is a {drawn.geom_type} without an area; draw an outline")
            continue
        # The lobes of one line that crosses itself are one glomerulus; parts drawn separately may
        # be several.
        parts = [outline]
        if drawn.geom_type in ("MultiPolygon", "GeometryCollection"):
            parts, specks = parts_of(outline, slide.resolution)
            if len(parts) > 1:
                repairs.append(f"{here}: {len(parts)} parts, each a separate glomerulus")
            if specks:
                repairs.append(f"{here}: {specks} of its parts left out, as specks")
        for number, part in enumerate(parts, start=1):
            width, height = sides(part, slide.resolution)
            if min(width, height) < NARROWEST or max(width, height) > WIDEST:
                limits = f"glomeruli have {NARROWEST:.0f} to {WIDEST:.0f}"
                problems.append(
                    f"{here} has {width:.0f} x {height:.0f} µm, and {limits}; check the "
                    "resolution, and that it is one glomerulus"
                )
                continue
            if not whole.covers(part):
                inside = areas(part.intersection(whole))
                if not cut or inside.is_empty:
                    how = "wholly" if inside.is_empty else "partly"
                    hint = "" if inside.is_empty else "; --beyond cut keeps what is inside"
                    size = f"{slide.size[0]} x {slide.size[1]} pixels{hint}"
                    problems.append(f"{here} lies {how} beyond {slide.path}, which has {size}")
                    continue
                repairs.append(f"{here}: cut off at the slide's edge")
                part = inside
            kept.append(Glomerulus(annotation, label, part, number if len(parts) > 1 else 0))
    twice, both_labels = _drawn_twice(kept, where)
    refuse([*problems, *both_labels])
    return kept, repairs + twice


def _drawn_twice(glomeruli: Sequence[Glomerulus], where: object) -> tuple[list[str], list[str]]:
    """Return a line for each pair that is one glomerulus: with the same label, and with both."""
    outlines = np.array([one.outline for one in glomeruli], dtype=object)
    pairs = shapely.STRtree(outlines).query(outlines, predicate="intersects").T
    same: list[str] = []
    both: list[str] = []
    for first, second in sorted((int(a), int(b)) for a, b in pairs if a < b):
        one, other = glomeruli[first], glomeruli[second]
        shared = one.outline.intersection(other.outline).area
        if shared > SAME * min(one.outline.area, other.outline.area):
            numbers = f"{one.annotation.number} and {other.annotation.number}"
            line = f"{where}, annotations {numbers}: one glomerulus, drawn twice"
            if one.label == other.label:
                same.append(line)
            else:
                both.append(line + ", under both labels; delete one")
    return same, both


def box_of(glomerulus: Glomerulus, slide: Slide, margin: float) -> Box:
    """Return the rectangle around a glomerulus with `margin` µm per side, within the slide."""
    left, top, right, bottom = glomerulus.outline.bounds
    beside, above = (margin / value for value in slide.resolution)
    x, y = max(0, int(left - beside)), max(0, int(top - above))
    end_x = min(slide.size[0], -int(-(right + beside) // 1))
    end_y = min(slide.size[1], -int(-(bottom + above) // 1))
    return Box(x, y, end_x - x, end_y - y)


class Shares(NamedTuple):
    """Fractions of a crop's pixels."""

    missing: float  # of the glomerulus: those that were not scanned
    blank: float  # of the glomerulus: those that are pure white or black
    around: float  # of its surroundings: those that were not scanned


def shares(glomerulus: Glomerulus, box: Box, region: Region) -> Shares:
    """Return how much of a glomerulus was not scanned, by the region that was read of `box`."""
    height, width = region.missing.shape
    mask = Image.new("1", (width, height))
    draw = ImageDraw.Draw(mask)
    scale = (width / box.width, height / box.height)
    for part in shapely.get_parts(glomerulus.outline):
        rings = [(part.exterior, 1), *((hole, 0) for hole in part.interiors)]
        for ring, value in rings:
            points = (shapely.get_coordinates(ring) - (box.x, box.y)) * scale
            draw.polygon([*map(tuple, points)], fill=value)
    inside = np.asarray(mask)

    def share(values: np.ndarray) -> float:
        return float(values.mean()) if values.size else 0.0

    return Shares(
        share(region.missing[inside]), share(region.blank[inside]), share(region.missing[~inside])
    )
