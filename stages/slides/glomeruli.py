"""Which annotations are glomeruli, of which class, and whether their outlines can be what they are
said to be.
"""

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
from stages.slides.slide import Box, Crop, Slide

# Two outlines that share so much of what they cover are one glomerulus, drawn twice.
SAME = 0.5
# By this name a user can say what annotations without a class are.
NO_CLASS = "(no class)"
# How classes are called that are the opposite of globally sclerotic.
OPPOSITE = re.compile(r"(non|not|no|without|un)\b|non\w|normal|healthy|viable|patent")


class Classes(NamedTuple):
    """The names of classes, case and `_` aside: of label 1, of label 0, and of what is no
    glomerulus.

    With `unlabeled` all that is not ignored is a glomerulus to be judged.
    """

    positive: Collection[str]
    negative: Collection[str]
    ignored: Collection[str]
    unlabeled: bool

    def label(self, name: str) -> int | None:
        """Return the label of a class, or None where it has none."""
        known = {
            plain(one): label
            for label, names in enumerate((self.negative, self.positive))
            for one in names
        }
        return None if self.unlabeled else known.get(plain(name or NO_CLASS))

    def is_ignored(self, name: str) -> bool:
        """Return whether a class is of something else than glomeruli."""
        return plain(name or NO_CLASS) in map(plain, self.ignored)


class Glomerulus(NamedTuple):
    """A glomerulus of a slide.

    Attributes:
        annotation: what was drawn.
        label: 0, 1, or None where it is not known.
        outline: in the slide's own pixels.
        part: its number among several parts of its annotation, from 1; 0: it is all of its
            annotation.
    """

    annotation: Annotation
    label: int | None
    outline: BaseGeometry
    part: int


def plain(name: str) -> str:
    """Return the name of a class as names are compared."""
    return " ".join(name.replace("_", " ").casefold().split())


def refuse_overlap(classes: Classes) -> None:
    """Raise `UserError` if a class is named in two ways, or as its opposite."""
    named = {
        "--positive": classes.positive,
        "--negative": classes.negative,
        "--ignore": classes.ignored,
    }
    of_name: dict[str, list[str]] = {}
    for option, names in named.items():
        for name in dict.fromkeys(map(plain, names)):
            of_name.setdefault(name, []).append(option)
    problems = [
        f"the class {name!r} stands for {' and for '.join(options)}, which have defaults; name all classes of both"
        for name, options in of_name.items()
        if len(options) > 1
    ]
    inverted = [
        ("--positive", name, "not ") for name in classes.positive if OPPOSITE.match(plain(name))
    ]
    inverted += [
        ("--negative", name, "")
        for name in classes.negative
        if plain(name) in ("globally sclerotic", "gs")
    ]
    problems += [
        f"{option} {name}: by its name that class is {no}globally sclerotic"
        for option, name, no in inverted
    ]
    refuse(problems)


def find_glomeruli(
    annotations: Sequence[Annotation], classes: Classes, where: object
) -> list[tuple[Annotation, int | None]]:
    """Return the glomeruli among some annotations with their labels.

    Warns of those that nobody drew, which are left out, and of a class within a layer of the other
    label.

    Raises:
        UserError: nothing is said of a class, or an outline cannot be read.
    """
    found, unknown, named, aside = [], Counter[str](), list[str](), Counter[str]()
    problems, doubts = list[str](), list[str]()
    for one in annotations:
        own, broader = one.classification, one.classes[1:]
        label = classes.label(own)
        # A layer that is ignored is so with all that no class of its own makes a glomerulus.
        if classes.is_ignored(own) or (label is None and any(map(classes.is_ignored, broader))):
            continue
        if one.aside:
            aside[one.aside] += 1
            continue
        if label is None and not classes.unlabeled:
            unknown[own or NO_CLASS] += 1
            named += [one.name] if one.name and not own else []
        here = f"{where}, annotation {one.number}"
        if label is not None and (
            other := [name for name in broader if classes.label(name) == 1 - label]
        ):
            doubts.append(
                f"{here} is of the class {own!r}, label {label}, within {other[0]!r}, label {1 - label}"
            )
        if one.outline is None:
            problems.append(f"{here}: its outline cannot be read ({one.problem})")
        found.append((one, label))
    if unknown:
        counts = ", ".join(f"{name!r} ({count})" for name, count in sorted(unknown.items()))
        hint = (
            f"; {len(named)} of no class have a name, such as {named[0]!r}, which is no class"
            if named
            else ""
        )
        problems.insert(
            0,
            f"{where} has classes of which nothing is said: {counts}{hint}; name them with --positive, --negative or --ignore, "
            "or cut crops without labels, to be judged, with --no-labels",
        )
    refuse(problems)
    warn("the class of its own is taken", doubts)
    warn(
        f"{where}: left out, as nobody drew it as an outline",
        [f"{count} x {what}" for what, count in sorted(aside.items())],
    )
    return found


def check_outlines(
    found: Sequence[tuple[Annotation, int | None]],
    slide: Slide,
    origin: tuple[int, int],
    cut: bool,
    where: object,
) -> tuple[list[Glomerulus], list[str]]:
    """Return the glomeruli with outlines that are whole and lie on the slide, and a line for each
    that was mended.

    An annotation of several parts, as QuPath merges them, is a glomerulus for each part that is no
    speck.

    Args:
        found: annotations whose outlines could be read, and their labels.
        slide: on which they were drawn.
        origin: where on the slide the annotations' pixels are counted from.
        cut: cut off what lies beyond the slide's edge; otherwise it is refused.
        where: the annotations' file.

    Raises:
        UserError: an outline has no area, crosses itself too often to be mended, cannot be a
            glomerulus by its size, or lies beyond the slide; or a glomerulus was drawn twice, under
            both labels.
    """
    kept, mended, problems = [], [], []
    whole = shapely.box(0, 0, *slide.size)
    for annotation, label in found:
        here = f"{where}, annotation {annotation.number}"
        drawn = shapely.affinity.translate(annotation.outline, *origin)
        outline = drawn
        if not drawn.is_valid:
            if crosses_often(drawn):
                problems.append(f"{here} crosses itself more than {CROSSINGS} times; draw it again")
                continue
            mended.append(f"{here}: {shapely.is_valid_reason(drawn)}")
            outline = made_valid(drawn)
        outline = areas(outline)
        if outline.is_empty:
            problems.append(f"{here} is a {drawn.geom_type} without an area; an outline is needed")
            continue
        # The lobes of one line that crosses itself are one glomerulus; parts that were drawn one by
        # one may be several.
        parts = [outline]
        if drawn.geom_type in ("MultiPolygon", "GeometryCollection"):
            parts, specks = parts_of(outline, slide.resolution)
            mended += [f"{here}: {len(parts)} parts, each a glomerulus of its own"] * (
                len(parts) > 1
            )
            mended += [f"{here}: {specks} of its parts left out, as specks"] * (specks > 0)
        for number, part in enumerate(parts, start=1):
            width, height = sides(part, slide.resolution)
            if min(width, height) < NARROWEST or max(width, height) > WIDEST:
                size = f"{width:.0f} x {height:.0f} micrometers, and glomeruli are {NARROWEST:.0f} to {WIDEST:.0f}"
                problems.append(
                    f"{here} is {size}: is the resolution right, and is it one glomerulus?"
                )
                continue
            if not whole.covers(part):
                inside = areas(part.intersection(whole))
                if not cut or inside.is_empty:
                    how = "in part" if not inside.is_empty else "wholly"
                    hint = "; --beyond cut keeps what is inside" if not inside.is_empty else ""
                    size = f"{slide.size[0]} x {slide.size[1]} pixels"
                    problems.append(
                        f"{here} lies {how} beyond {slide.path}, which has {size}{hint}"
                    )
                    continue
                mended.append(f"{here}: cut off at the slide's edge")
                part = inside
            kept.append(Glomerulus(annotation, label, part, number if len(parts) > 1 else 0))
    twice, both = _drawn_twice(kept, where)
    refuse([*problems, *both])
    return kept, mended + twice


def _drawn_twice(glomeruli: Sequence[Glomerulus], where: object) -> tuple[list[str], list[str]]:
    """Return a line for each pair that is one glomerulus, drawn twice: under one label, and under
    both.
    """
    outlines = np.array([one.outline for one in glomeruli], dtype=object)
    pairs = shapely.STRtree(outlines).query(outlines, predicate="intersects").T
    alike: list[str] = []
    both: list[str] = []
    for first, second in sorted((int(a), int(b)) for a, b in pairs if a < b):
        one, other = glomeruli[first], glomeruli[second]
        shared = one.outline.intersection(other.outline).area
        if shared > SAME * min(one.outline.area, other.outline.area):
            numbers = f"{where}, annotations {one.annotation.number} and {other.annotation.number}: one glomerulus, drawn twice"
            (alike if one.label == other.label else both).append(
                numbers + ", under both labels" * (one.label != other.label)
            )
    return alike, both


def box_of(glomerulus: Glomerulus, slide: Slide, margin: float) -> Box:
    """Return the rectangle around a glomerulus, with `margin` micrometers on each side as far as
    the slide goes.
    """
    left, top, right, bottom = glomerulus.outline.bounds
    beside, above = (margin / value for value in slide.resolution)
    x, y = max(0, int(left - beside)), max(0, int(top - above))
    end_x, end_y = (
        min(slide.size[0], -int(-(right + beside) // 1)),
        min(slide.size[1], -int(-(bottom + above) // 1)),
    )
    return Box(x, y, end_x - x, end_y - y)


class Shares(NamedTuple):
    """Of a glomerulus's pixels the share that was not scanned, and that is pure white or black; of
    those around it the first.
    """

    missing: float
    blank: float
    around: float


def shares(glomerulus: Glomerulus, box: Box, crop: Crop) -> Shares:
    """Return how much of a glomerulus was not scanned, by the crop that was cut of `box` (see
    `Shares`).
    """
    height, width = crop.missing.shape
    mask = Image.new("1", (width, height))
    draw = ImageDraw.Draw(mask)
    scale = (width / box.width, height / box.height)
    for part in shapely.get_parts(glomerulus.outline):
        rings = [(part.exterior, 1), *((hole, 0) for hole in part.interiors)]
        for ring, value in rings:
            points = (shapely.get_coordinates(ring) - (box.x, box.y)) * scale
            draw.polygon([*map(tuple, points)], fill=value)
    inside = np.asarray(mask)
    return Shares(
        _mean(crop.missing[inside]), _mean(crop.blank[inside]), _mean(crop.missing[~inside])
    )


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else 0.0
