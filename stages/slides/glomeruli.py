"""Which annotations are glomeruli, of which class, and whether their outlines can be what they are said to be."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import shapely
import shapely.affinity
from shapely.geometry.base import BaseGeometry

from stages.base.errors import UserError, refuse
from stages.slides.annotations import Annotation
from stages.slides.slide import Box, Slide

# Micrometres that a glomerulus has from side to side: 70 to 350, and some room for how loosely it was drawn.
NARROWEST, WIDEST = 20.0, 1000.0
# Two outlines that share so much of what they cover are one glomerulus, drawn twice.
SAME = 0.5


class Classes(NamedTuple):
    """The names of classes, case and `_` aside: of label 1, of label 0, and of what is no glomerulus.

    With `unlabelled` all that is not ignored is a glomerulus to be judged.
    """

    positive: Collection[str]
    negative: Collection[str]
    ignored: Collection[str]
    unlabelled: bool

    def label(self, name: str) -> int | None:
        """Return the label of a class, or None where it has none."""
        known = {plain(one): label for label, names in enumerate((self.negative, self.positive)) for one in names}
        return None if self.unlabelled else known.get(plain(name))

    def is_ignored(self, name: str) -> bool:
        """Return whether a class is of something else than glomeruli."""
        return plain(name) in map(plain, self.ignored)


class Glomerulus(NamedTuple):
    """A glomerulus of a slide: its annotation, its label (None: not known), its outline in the slide's own pixels."""

    annotation: Annotation
    label: int | None
    outline: BaseGeometry


def plain(name: str) -> str:
    """Return the name of a class as names are compared."""
    return " ".join(name.replace("_", " ").casefold().split())


def refuse_overlap(classes: Classes) -> None:
    """Raise `UserError` if a class is named in two ways."""
    named = {"--positive": classes.positive, "--negative": classes.negative, "--ignore": classes.ignored}
    of_name: dict[str, list[str]] = {}
    for option, names in named.items():
        for name in dict.fromkeys(map(plain, names)):
            of_name.setdefault(name, []).append(option)
    refuse(
        [
            f"the class {name!r} stands for {' and for '.join(options)}, which have defaults; name all classes of both"
            for name, options in of_name.items()
            if len(options) > 1
        ]
    )


def find_glomeruli(annotations: Sequence[Annotation], classes: Classes, where: object) -> list[tuple[Annotation, int | None]]:
    """Return the glomeruli among some annotations with their labels. Raises `UserError` for classes of which nothing is said."""
    found, unknown = [], Counter[str]()
    for one in annotations:
        if classes.is_ignored(one.classification):
            continue
        label = classes.label(one.classification)
        if label is None and not classes.unlabelled:
            unknown[one.classification or "(no class)"] += 1
        found.append((one, label))
    if unknown:
        counts = ", ".join(f"{name!r} ({count})" for name, count in sorted(unknown.items()))
        raise UserError(
            f"{where} has classes of which nothing is said: {counts}; name them with --positive, --negative or --ignore, "
            "or cut crops without labels, to be judged, with --no-labels"
        )
    if not found:
        raise UserError(f"{where} holds no glomerulus: all of its {len(annotations)} annotations are of an ignored class")
    return found


def check_outlines(
    found: Sequence[tuple[Annotation, int | None]], slide: Slide, origin: tuple[int, int], cut: bool, where: object
) -> tuple[list[Glomerulus], list[str]]:
    """Return the glomeruli with outlines that are whole and lie on the slide, and a line for each that was mended.

    Args:
        origin: where on the slide the annotations' pixels are counted from.
        cut: cut off what lies beyond the slide's edge; otherwise it is refused.

    Raises:
        UserError: an outline has no area, cannot be a glomerulus by its size, or lies beyond the slide; or a glomerulus was drawn
            twice, under both labels.
    """
    kept, mended, problems = [], [], []
    whole = shapely.box(0, 0, *slide.size)
    for annotation, label in found:
        here = f"{where}, annotation {annotation.number}"
        outline = shapely.affinity.translate(annotation.outline, *origin)
        if not outline.is_valid:
            mended.append(f"{here}: {shapely.is_valid_reason(outline)}")
            outline = shapely.make_valid(outline)
        outline = _areas(outline)
        if outline.is_empty:
            problems.append(f"{here} is a {annotation.outline.geom_type} without an area; an outline is needed")
            continue
        left, top, right, bottom = outline.bounds
        width, height = (right - left) * slide.resolution[0], (bottom - top) * slide.resolution[1]
        if min(width, height) < NARROWEST or max(width, height) > WIDEST:
            problems.append(
                f"{here} is {width:.0f} x {height:.0f} micrometres, and glomeruli are {NARROWEST:.0f} to {WIDEST:.0f}: is the "
                "resolution right, and is it one glomerulus?"
            )
            continue
        if not whole.covers(outline):
            inside = _areas(outline.intersection(whole))
            if not cut or inside.is_empty:
                how = "in part" if not inside.is_empty else "wholly"
                hint = "; --beyond cut keeps what is inside" if not inside.is_empty else ""
                size = f"{slide.size[0]} x {slide.size[1]} pixels"
                problems.append(f"{here} lies {how} beyond {slide.path}, which has {size}{hint}")
                continue
            mended.append(f"{here}: cut off at the slide's edge")
            outline = inside
        kept.append(Glomerulus(annotation, label, outline))
    twice, both = _drawn_twice(kept, where)
    refuse([*problems, *both])
    return kept, mended + twice


def _areas(geometry: BaseGeometry) -> BaseGeometry:
    """Return what of a geometry has an area: a Polygon, a MultiPolygon, or one that is empty."""
    parts = [part for part in getattr(geometry, "geoms", [geometry]) if part.geom_type in ("Polygon", "MultiPolygon")]
    return shapely.union_all(parts) if len(parts) > 1 else parts[0] if parts else shapely.Polygon()


def _drawn_twice(glomeruli: Sequence[Glomerulus], where: object) -> tuple[list[str], list[str]]:
    """Return a line for each pair that is one glomerulus, drawn twice: under one label, and under both."""
    outlines = np.array([one.outline for one in glomeruli], dtype=object)
    pairs = shapely.STRtree(outlines).query(outlines, predicate="intersects").T
    alike: list[str] = []
    both: list[str] = []
    for first, second in sorted((int(a), int(b)) for a, b in pairs if a < b):
        one, other = glomeruli[first], glomeruli[second]
        shared = one.outline.intersection(other.outline).area
        if shared > SAME * min(one.outline.area, other.outline.area):
            numbers = f"{where}, annotations {one.annotation.number} and {other.annotation.number}: one glomerulus, drawn twice"
            (alike if one.label == other.label else both).append(numbers + ", under both labels" * (one.label != other.label))
    return alike, both


def box_of(glomerulus: Glomerulus, slide: Slide, margin: float) -> Box:
    """Return the rectangle around a glomerulus, with `margin` micrometres on each side as far as the slide goes."""
    left, top, right, bottom = glomerulus.outline.bounds
    beside, above = (margin / value for value in slide.resolution)
    x, y = max(0, int(left - beside)), max(0, int(top - above))
    end_x, end_y = min(slide.size[0], -int(-(right + beside) // 1)), min(slide.size[1], -int(-(bottom + above) // 1))
    return Box(x, y, end_x - x, end_y - y)
