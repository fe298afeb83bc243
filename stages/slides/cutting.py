"""Cutting annotated glomeruli out of slides into a dataset: a folder, its card and its outlines."""

import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, assert_never

import shapely
from ruamel.yaml import YAML

from stages.base.errors import UserError, refuse, warn
from stages.base.files import replacing, write_table
from stages.dataset.slides import nfc, slide_pattern, written_alike
from stages.slides.annotations import read_annotations
from stages.slides.geojson import feature, make_ids_unique, write_features
from stages.slides.glomeruli import (
    Classes,
    Glomerulus,
    Shares,
    box_of,
    check_outlines,
    find_glomeruli,
    shares,
)
from stages.slides.places import outlines_of, slide_name
from stages.slides.slide import Box, Slide
from stages.workers.progress import progress

# Suffixes of annotation files, plain or compressed.
ANNOTATION_SUFFIX = re.compile(
    r"\.(geojson|json|xml)(\.gz)?|(\.geojson|\.json)?\.zip", re.IGNORECASE
)
# A glomerulus is refused if more than the first share of it was not scanned; there is a warning if
# more than the second share was not.
MOST_MISSING, NOTICEABLE = 0.9, 0.005
COLUMNS = ("name", "label", "slide", "x", "y", "width", "height", "level", "image")
Origin = Literal["auto", "bounds", "slide"]


class Cut(NamedTuple):
    """How crops are cut."""

    resolution: float  # of the crops, in µm per pixel
    margin: float  # around a glomerulus, in µm
    of_slides: float | None  # the resolution of the slides, in µm per pixel; None: what they state
    cut_at_edge: bool  # whether to cut off what lies beyond a slide's edge, instead of refusing it
    # Whether annotations are counted from the corner of the slide or of its scanned bounds; auto:
    # as the program that wrote them does.
    origin: Origin


class Source(NamedTuple):
    """A slide with its glomeruli."""

    slide: Slide
    glomeruli: list[Glomerulus]  # in the order of their annotations
    origin: tuple[int, int]  # the corner from which the annotations are counted
    patient: str
    empty: str  # what its annotations hold instead of glomeruli, if it has no glomerulus


def annotations_of(slides: Sequence[Path], annotations: Path) -> list[Path]:
    """Return the annotation file of each slide: `annotations`, or the one named so in this folder.

    Raises:
        UserError: a slide has none, or several.
    """
    if annotations.is_file() and len(slides) == 1:
        return [annotations]
    if not annotations.exists():
        raise UserError(f"--annotations: {annotations} does not exist")
    if not annotations.is_dir():
        raise UserError(
            f"--annotations: {annotations} is one file for {len(slides)} slides; "
            "give a folder with a file for each"
        )
    there = sorted(path for path in annotations.iterdir() if path.is_file())
    files = []
    for slide in slides:
        # QuPath takes .ome.tif as the suffix; accents have two Unicode forms.
        stems = {nfc(stem) for stem in (slide.name, _stem(slide), slide_name(slide.name))}
        found = [path for path in there if any(_is_named(nfc(path.name), stem) for stem in stems)]
        if len(found) != 1:
            names = ", ".join(one.name for one in found) or "none"
            raise UserError(
                f"{annotations}: the annotations of {slide.name} are {names}; there must be one "
                f"file, such as {slide_name(slide.name)}.geojson"
            )
        files += found
    return files


def _is_named(name: str, stem: str) -> bool:
    return name.startswith(stem) and bool(ANNOTATION_SUFFIX.fullmatch(name[len(stem) :]))


def _stem(slide: Path) -> str:
    """Return a slide's name without its suffix; S21.1234 has none."""
    return slide.stem if slide_name(slide.name) != slide.name else slide.name


def open_sources(
    slides: Sequence[Path], annotations: Path, classes: Classes, cut: Cut, pattern: str | None
) -> list[Source]:
    """Return some slides with their glomeruli; warn of slides without any, if others have some.

    Args:
        pattern: with the group `slide`, which matches the patient in a slide's name; None: each
            slide is of a separate patient.

    Raises:
        UserError: all that `open_source` refuses, or no slide has a glomerulus.
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
    """Return the patient of each slide: its name, or what the pattern matches in it.

    Raises:
        UserError: two slides have one name, or the pattern is invalid or does not match.
    """
    stems = [_stem(slide) for slide in slides]
    # S1.svs and S1.ome.tif are one slide.
    counts = Counter(nfc(slide_name(slide.name)) for slide in slides)
    twice = sorted(name for name, count in counts.items() if count > 1)
    refuse(f"two slides have the name {one}, and so would their crops; rename one" for one in twice)
    if not pattern:
        doubt = "slides that are kept apart, but may be of one patient (see --slide)"
        warn(doubt, written_alike(stems))
        return dict(zip(slides, stems))
    try:
        matched = slide_pattern(pattern).match_all([slide.name for slide in slides])
    except (ValueError, UserError) as error:
        raise UserError(f"--slide {pattern}: {error}") from None
    found = {slide: matched[slide.name][0] for slide in slides}
    refuse(
        f"--slide {pattern} does not match {slide.name}"
        for slide, patient in found.items()
        if not patient
    )
    return found


def open_source(path: Path, annotations: Path, classes: Classes, cut: Cut, patient: str) -> Source:
    """Return a slide with its glomeruli; warn of repairs, refuse what is ambiguous."""
    slide = Slide(path, cut.of_slides)
    if max(slide.resolution) > 1.01 * cut.resolution:
        raise UserError(
            f"{path} has {max(slide.resolution):.3g} µm per pixel; "
            f"--resolution {cut.resolution:g} would invent pixels"
        )
    drawn = read_annotations(annotations)
    match cut.origin:
        case "auto":
            from_bounds = drawn.from_bounds
            if slide.bounds[:2] != (0, 0):
                corner = "the scanned region" if from_bounds else "the slide"
                warn(
                    "check some crops, and see --origin: "
                    f"{path} was scanned from pixel {slide.bounds.x}, {slide.bounds.y}; "
                    f"{annotations} is assumed to count from the corner of {corner}"
                )
        case "bounds":
            from_bounds = True
        case "slide":
            from_bounds = False
        case _:
            assert_never(cut.origin)
    origin = slide.bounds[:2] if from_bounds else (0, 0)
    found = find_glomeruli(drawn.annotations, classes, annotations)
    glomeruli, repairs = check_outlines(found, slide, origin, cut.cut_at_edge, annotations)
    warn("repaired, or check it", repairs)
    count = len(drawn.annotations)
    all_others = f"all of its {count} annotations are of an ignored class, or not outlines"
    empty = f"no glomerulus: {all_others}" if count else "no annotation"
    return Source(slide, glomeruli, origin, patient, empty)


def cut_all(sources: Sequence[Source], cut: Cut, output: Path, title: str, labeled: bool) -> int:
    """Write the crops of slides; return how many.

    They are in the new folder `output`, with labels.csv, whose `x`, `y`, `width` and `height` are
    the crop's rectangle in pixels of the full resolution, counted as the annotations are. Next to
    the folder are its outlines and, if `labeled`, its card with the `title`.

    Raises:
        UserError: a glomerulus was not scanned, or the slide is damaged there.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
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
            path, drawn, around = source.slide.path, [], []
            for glomerulus in source.glomeruli:
                number = glomerulus.annotation.number
                part = f"_{glomerulus.part}" if glomerulus.part else ""
                name = f"{_stem(path)}_{number:04}{part}.png"
                box = box_of(glomerulus, source.slide, cut.margin)
                region = source.slide.read(box, cut.resolution)
                region.picture.save(folder / name)
                rows.append(_row(name, glomerulus, source, box, region.level))
                drawn.append(_outline(name, glomerulus, source))
                found = shares(glomerulus, box, region)
                _check_scanned(f"{path}, annotation {number}", found, problems, doubts)
                around += [number] * (found.around > NOTICEABLE)
                bar.update()
            if around:
                doubts.append(
                    f"{path}: the margin of {len(around)} crops, such as annotation "
                    f"{around[0]}, was not scanned everywhere, and is white there"
                )
            make_ids_unique(drawn)
            features += drawn
        refuse(problems)
        warn("not scanned", doubts)
        columns = [column for column in COLUMNS if labeled or column != "label"]
        table = ([row[column] for column in columns] for row in rows)
        write_table(folder / "labels.csv", columns, table)
        folder.rename(output)
    write_features(outlines_of(output), features)
    if labeled:
        with replacing(card_of(output)) as file:
            named = {"name": "name", "label": "label", "slide": "slide"}
            YAML().dump({"title": title, "labels": "labels.csv", "columns": named}, file)
    return total


def _check_scanned(here: str, found: Shares, problems: list[str], doubts: list[str]) -> None:
    """Add what is wrong or doubtful about the pixels of a glomerulus."""
    if found.missing > MOST_MISSING:
        problems.append(f"{here}: {found.missing:.0%} of the glomerulus was not scanned; delete it")
    elif found.missing > NOTICEABLE:
        doubts.append(
            f"{here}: {found.missing:.1%} of the glomerulus was not scanned, and is white"
        )
    if found.blank > MOST_MISSING:
        doubts.append(
            f"{here}: {found.blank:.0%} of the glomerulus is pure white or black; was it scanned?"
        )


def card_of(output: Path) -> Path:
    """Return the card of a dataset's folder."""
    return output.with_name(output.name + ".yaml")


def _row(name: str, glomerulus: Glomerulus, source: Source, box: Box, level: int) -> dict[str, Any]:
    left, top = box.x - source.origin[0], box.y - source.origin[1]
    place = (left, top, box.width, box.height, level, source.slide.path.name)
    return dict(zip(COLUMNS, (name, glomerulus.label, source.patient, *place)))


def _outline(name: str, glomerulus: Glomerulus, source: Source) -> dict[str, Any]:
    """Return the outline as drawn or repaired, counted as the annotations are."""
    annotation = glomerulus.annotation
    back = shapely.affinity.translate(glomerulus.outline, *(-value for value in source.origin))
    geometry = annotation.outline if back.equals(annotation.outline) else back
    return feature(
        name,
        shapely.geometry.mapping(geometry),
        annotation.identifier,
        annotation.classification or None,
        glomerulus.label,
        metadata={"crop": name, "image": source.slide.path.name},
    )
