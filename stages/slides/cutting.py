"""Cutting the annotated glomeruli out of slides: a dataset's folder, its card, and the outlines to
come back to.
"""

import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import shapely
from ruamel.yaml import YAML

from stages.base.errors import UserError, refuse, warn
from stages.base.files import replacing, write_table
from stages.dataset.slides import nfc, slide_pattern, written_alike
from stages.slides.annotations import read_annotations
from stages.slides.geojson import feature, tell_apart, write_features
from stages.slides.glomeruli import (
    Classes,
    Glomerulus,
    box_of,
    check_outlines,
    find_glomeruli,
    shares,
)
from stages.slides.places import outlines_of, slide_name
from stages.slides.slide import Box, Slide
from stages.workers.progress import progress

# Of files of annotations, as they are or compressed.
SUFFIX = re.compile(r"\.(geojson|json|xml)(\.gz)?|(\.geojson|\.json)?\.zip", re.IGNORECASE)
# A glomerulus of which more than the first share was not scanned is refused; more than the second
# is a warning.
MOST_MISSING, SEEN = 0.9, 0.005
COLUMNS = ("name", "label", "slide", "x", "y", "width", "height", "level", "image")


class Cut(NamedTuple):
    """How crops are cut: micrometers a pixel of the crops, micrometers around a glomerulus, and of
    slides that do not say their resolution (None: they do) or whose annotations lie beyond the
    edge.

    `origin`, whether annotations count from the corner of the slide, or of what was scanned;
    `auto`: as their program does.
    """

    resolution: float
    margin: float
    of_slides: float | None
    cut_at_edge: bool
    origin: str


class Source(NamedTuple):
    """A slide that opens, with its glomeruli.

    Attributes:
        slide: the slide.
        glomeruli: in the order of their annotations.
        origin: the corner that the annotations count from.
        patient: which patient the slide is of.
        empty: what its annotations hold instead of glomeruli, if there are none.
    """

    slide: Slide
    glomeruli: list[Glomerulus]
    origin: tuple[int, int]
    patient: str
    empty: str


def annotations_of(slides: Sequence[Path], annotations: Path) -> list[Path]:
    """Return the file of annotations of each slide: `annotations` itself, or that of the slide's
    name in this folder.

    Raises:
        UserError: a slide has none, or several.
    """
    if annotations.is_file() and len(slides) == 1:
        return [annotations]
    if not annotations.is_dir():
        what = (
            "is not there"
            if not annotations.exists()
            else f"is one file, for {len(slides)} slides; name a folder of files"
        )
        raise UserError(f"--annotations: {annotations} {what}")
    there = sorted(path for path in annotations.iterdir() if path.is_file())
    files = []
    for slide in slides:
        # QuPath takes .ome.tif for the suffix; letters with accents are written in two ways.
        stems = {nfc(stem) for stem in (slide.name, _stem(slide), slide_name(slide.name))}
        found = [path for path in there if any(_is_named(nfc(path.name), stem) for stem in stems)]
        if len(found) != 1:
            names = ", ".join(one.name for one in found) if found else "none"
            example = f"{slide_name(slide.name)}.geojson"
            raise UserError(
                f"{annotations} must hold one file for {slide.name}, such as {example}; it holds {names}"
            )
        files += found
    return files


def _is_named(name: str, stem: str) -> bool:
    return name.startswith(stem) and SUFFIX.fullmatch(name[len(stem) :]) is not None


def _stem(slide: Path) -> str:
    """Return a slide's name without its suffix, by which its crops and the slide are called;
    S21.1234 has none.
    """
    return slide.stem if slide_name(slide.name) != slide.name else slide.name


def open_sources(
    slides: Sequence[Path], annotations: Path, classes: Classes, cut: Cut, pattern: str | None
) -> list[Source]:
    """Return some slides with their glomeruli, as `open_source`; of all that is wrong with them one
    `UserError`.

    A slide without any is a warning, if others have some.

    Args:
        pattern: with the group `slide`, for what of a slide's name must stay together, as it is of
            one patient; None: all of it.
    """
    patients = patients_of(slides, pattern)
    sources, problems, empty = [], [], []
    for slide, file in zip(slides, annotations_of(slides, annotations)):
        try:
            source = open_source(slide, file, classes, cut, patients[slide])
            sources.append(source)
            if not source.glomeruli:
                empty.append(f"{file} holds {source.empty}")
        except UserError as error:
            problems += str(error).splitlines()
    refuse(problems or (empty if len(empty) == len(sources) else []))
    warn(f"{len(empty)} of {len(sources)} slides have no glomerulus", empty)
    return sources


def patients_of(slides: Sequence[Path], pattern: str | None) -> dict[Path, str]:
    """Return what must stay together with each slide: its name, or what the pattern finds in it.

    Raises:
        UserError: two slides have one name, or the pattern is none or does not fit.
    """
    stems = [_stem(slide) for slide in slides]
    # S1.svs and S1.ome.tif are one slide.
    counts = Counter(nfc(slide_name(slide.name)) for slide in slides)
    refuse(
        sorted(
            f"two slides have the name {name}: their crops would have, too"
            for name, count in counts.items()
            if count > 1
        )
    )
    if not pattern:
        warn(
            "slides that are kept apart, and may be of one patient (see --slide)",
            written_alike(stems),
        )
        return dict(zip(slides, stems))
    try:
        matched = slide_pattern(pattern).match_all([slide.name for slide in slides])
        found = {slide: matched[slide.name][0] for slide in slides}
    except (ValueError, UserError) as error:
        raise UserError(f"--slide {pattern}: {error}") from None
    refuse(
        [
            f"--slide {pattern} does not match {slide.name}"
            for slide, patient in found.items()
            if not patient
        ]
    )
    return found


def open_source(path: Path, annotations: Path, classes: Classes, cut: Cut, patient: str) -> Source:
    """Return a slide with its glomeruli; warn of what was mended. Raises `UserError` for what
    cannot be taken without a doubt.
    """
    slide = Slide(path, cut.of_slides)
    if max(slide.resolution) > 1.01 * cut.resolution:
        own = f"{max(slide.resolution):.3g} micrometers a pixel"
        raise UserError(f"{path} has {own}: --resolution {cut.resolution:g} would invent pixels")
    drawn = read_annotations(annotations)
    from_bounds = drawn.from_bounds if cut.origin == "auto" else cut.origin == "bounds"
    origin = (slide.bounds.x, slide.bounds.y) if from_bounds else (0, 0)
    if slide.bounds[:2] != (0, 0) and cut.origin == "auto":
        counted = "what was scanned" if from_bounds else "the slide"
        doubt = (
            f"{path} was scanned from pixel {slide.bounds.x}, {slide.bounds.y} on; "
            f"{annotations} is taken to count from {counted}"
        )
        warn("look at some crops, and see --origin", [doubt])
    found = find_glomeruli(drawn.annotations, classes, annotations)
    glomeruli, mended = check_outlines(found, slide, origin, cut.cut_at_edge, annotations)
    warn("mended, or to be looked at", mended)
    count = len(drawn.annotations)
    empty = (
        f"no glomerulus: all of its {count} annotations are of an ignored class, or no outlines"
        if count
        else "no annotation"
    )
    return Source(slide, glomeruli, origin, patient, empty)


def cut_all(sources: Sequence[Source], cut: Cut, output: Path, title: str, labeled: bool) -> int:
    """Write the crops and labels.csv into the new folder `output`, and beside it its card and the
    outlines; return how many.

    `x`, `y`, `width` and `height` are those of the crop, in pixels of the full resolution, counted
    as the annotations are.

    Raises:
        UserError: a glomerulus was not scanned, or the slide is damaged there.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    rows: list[list[Any]] = []
    features: list[dict[str, Any]] = []
    problems: list[str] = []
    doubts: list[str] = []
    total = sum(len(source.glomeruli) for source in sources)
    with (
        tempfile.TemporaryDirectory(prefix=".crops-", dir=output.parent) as place,
        progress(total=total, desc="cutting", unit="crop") as bar,
    ):
        folder = Path(place) / "crops"
        folder.mkdir()
        for source in sources:
            drawn, around = [], []
            for glomerulus in source.glomeruli:
                number = f"{glomerulus.annotation.number:04}" + f"_{glomerulus.part}" * (
                    glomerulus.part > 0
                )
                name = f"{_stem(source.slide.path)}_{number}.png"
                box = box_of(glomerulus, source.slide, cut.margin)
                crop = source.slide.crop(box, cut.resolution)
                crop.picture.save(folder / name)
                rows.append(_row(name, glomerulus, source, box, crop.level))
                drawn.append(_outline(name, glomerulus, source))
                found, here = (
                    shares(glomerulus, box, crop),
                    f"{source.slide.path}, annotation {glomerulus.annotation.number}",
                )
                if found.missing > MOST_MISSING:
                    problems.append(
                        f"{here}: {found.missing:.0%} of the glomerulus was not scanned; leave it out"
                    )
                elif found.missing > SEEN:
                    doubts.append(
                        f"{here}: {found.missing:.1%} of the glomerulus was not scanned, and is white"
                    )
                if found.blank > MOST_MISSING:
                    doubts.append(
                        f"{here}: {found.blank:.0%} of the glomerulus is pure white or black; was it scanned?"
                    )
                around += [glomerulus.annotation.number] * (found.around > SEEN)
                bar.update()
            if around:
                count = f"{len(around)} crops, such as that of annotation {around[0]}"
                doubts.append(
                    f"{source.slide.path}: the margin of {count} was not scanned everywhere, and is white there"
                )
            tell_apart(drawn)
            features += drawn
        refuse(problems)
        warn("not scanned", doubts)
        kept = [number for number, column in enumerate(COLUMNS) if labeled or column != "label"]
        write_table(
            folder / "labels.csv",
            [COLUMNS[one] for one in kept],
            ([row[one] for one in kept] for row in rows),
        )
        folder.rename(output)
    write_features(outlines_of(output), features)
    if labeled:
        with replacing(card_of(output)) as file:
            columns = {"name": "name", "label": "label", "slide": "slide"}
            YAML().dump({"title": title, "labels": "labels.csv", "columns": columns}, file)
    return total


def card_of(output: Path) -> Path:
    """Return the card of a dataset's folder."""
    return output.with_name(output.name + ".yaml")


def _row(name: str, glomerulus: Glomerulus, source: Source, box: Box, level: int) -> list[Any]:
    left, top = box.x - source.origin[0], box.y - source.origin[1]
    label = "" if glomerulus.label is None else glomerulus.label
    return [
        name,
        label,
        source.patient,
        left,
        top,
        box.width,
        box.height,
        level,
        source.slide.path.name,
    ]


def _outline(name: str, glomerulus: Glomerulus, source: Source) -> dict[str, Any]:
    """Return the outline as it was drawn, or as it was mended, counted as the annotations are."""
    annotation = glomerulus.annotation
    back = shapely.affinity.translate(glomerulus.outline, *(-value for value in source.origin))
    geometry = annotation.outline if back.equals(annotation.outline) else back
    kind = annotation.classification or None
    drawn = {"crop": name, "image": source.slide.path.name}
    return feature(
        name,
        shapely.geometry.mapping(geometry),
        annotation.identifier,
        kind,
        glomerulus.label,
        metadata=drawn,
    )
