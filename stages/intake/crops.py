"""The manifest of a dataset: each image opened, its label, slide and site found, copies and doubts named."""

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from stages.base.errors import UserError, refuse, warn
from stages.base.files import sha256
from stages.base.parameters import Parameters, quoted
from stages.dataset.card import Dataset
from stages.dataset.slides import composed, slide_pattern, written_alike
from stages.images.opening import doubts_of, load_image, pixel_digest
from stages.intake.labels import Groups, labels_from_folders, labels_from_table, read_corrections
from stages.intake.listing import list_images, no_image
from stages.intake.names import refuse_twins
from stages.intake.source import LEFT_OUT
from stages.workers.cores import on_all_cores


class Glomerulus(NamedTuple):
    """A row of the manifest: one crop. `path` is relative to the dataset's folder, as it is on disk.

    `sha256` is of the file's bytes, `pixels` of what they show: two files with one picture may differ by the first alone. `label`
    is the one that is used; it differs from `published` where the card's corrections say so.
    """

    path: str
    label: int
    slide: str
    site: str
    width: int
    height: int
    sha256: str
    pixels: str
    published: int


class Unreadable(NamedTuple):
    """An image that does not open, its label, and why."""

    path: str
    label: int
    reason: str


class ManifestParameters(Parameters):
    """`manifest` in params.yaml: what to do with an image that does not open."""

    unreadable: Literal["refuse", "skip"]


def make_manifest(
    dataset: Dataset, unreadable_list: Path, skip_unreadable: bool = False
) -> tuple[list[Glomerulus], list[Unreadable]]:
    """Return a row for each image of `dataset`, sorted by path, and the images that were skipped as unreadable.

    Args:
        unreadable_list: the file that will list those, for the warning.

    Raises:
        UserError: with all the names, where images and labels do not fit together one to one, a label is neither 0
            nor 1, an image does not open (unless these are skipped), or the same image stands under both labels.
    """
    listing = list_images(dataset.folder)
    listing.refuse_problems()
    listing.warn_of_left_behind()
    tables = (dataset.card.labels, dataset.card.corrections)
    warn(LEFT_OUT, [path for path in listing.others if path not in tables])
    if not listing.images:
        raise no_image(dataset.folder)
    refuse_twins(listing.images, dataset.folder)
    groups: Groups = {}
    if dataset.card.classes:
        labels = labels_from_folders(dataset, listing.images)
    else:
        labels, groups = labels_from_table(dataset, listing.images)
    slides = find_slides(dataset, sorted(labels), groups)
    corrected = labels | read_corrections(dataset, labels)
    jobs = [(path, corrected[path], *slides[path], labels[path]) for path in sorted(labels)]
    rows, unreadable, doubts = _open_all(dataset.folder, jobs)
    if not (skip_unreadable and rows):
        refuse([image.reason for image in unreadable])
    warn(f"skipped, listed in {unreadable_list}", [image.reason for image in unreadable])
    warn("read, with a doubt", doubts)
    _check_copies(rows)
    return rows, unreadable


def find_slides(dataset: Dataset, paths: Iterable[str], groups: Groups) -> dict[str, tuple[str, str]]:
    """Return (slide, site) of each path, from the labels' table where it has them and else from the file's name."""
    slides, unmatched, slide_sites = {}, [], defaultdict(set)
    pattern = slide_pattern(dataset.card.group) if dataset.card.group else None
    for path in paths:
        slide, site = groups.get(path, (None, None))
        named = pattern.match(path) if pattern else ("", "")
        slide, site = slide or named[0], site or named[1]
        if not slide:
            unmatched.append(path)
        slides[path] = (sys.intern(slide), sys.intern(site))
        slide_sites[slide].add(site)
    if unmatched:
        count = f" ({len(unmatched)} of {len(slides)} names do not)" if len(unmatched) > 1 else ""
        raise dataset.error("group", f"it does not match {unmatched[0]}{count}")
    if pattern and pattern.of_path:
        _refuse_class_in_slide(dataset, slide_sites)
    # A slide is of one site: otherwise keeping sites apart would tear a slide in two.
    refuse(
        [f"slide {slide} is of several sites: {', '.join(sorted(s))}" for slide, s in sorted(slide_sites.items()) if len(s) > 1]
    )
    warn("slides that are kept apart, and may be one", written_alike(slide_sites))
    warn("sites that are kept apart, and may be one", written_alike({site for sites in slide_sites.values() for site in sites}))
    return slides


def _refuse_class_in_slide(dataset: Dataset, slides: Iterable[str]) -> None:
    """Refuse a pattern that takes the class folder into the slide: a patient would be two, on both sides of a split."""
    classes = {composed(part) for name in dataset.card.classes or [] for part in PurePosixPath(name).parts} - {"*"}
    without: dict[str, str] = {}
    for slide in sorted(slides):
        rest = "/".join(part for part in slide.split("/") if part not in classes)
        if rest != slide and (other := without.setdefault(rest, slide)) != slide:
            raise dataset.error(
                "group", f"it takes the class folder into the slide: {quoted(other)} and {quoted(slide)} would be two"
            )


def _open_all(folder: Path, images: list[tuple[str, int, str, str, int]]) -> tuple[list[Glomerulus], list[Unreadable], list[str]]:
    rows: list[Glomerulus] = []
    unreadable: list[Unreadable] = []
    doubts: list[str] = []
    for result, doubt in on_all_cores(_open, [(folder, *image) for image in images], "checking"):
        (rows if isinstance(result, Glomerulus) else unreadable).append(result)
        doubts += doubt
    return rows, unreadable, doubts


def _open(
    folder: Path, path: str, label: int, slide: str, site: str, published: int
) -> tuple[Glomerulus | Unreadable, list[str]]:
    file = folder / path
    try:
        image = load_image(file)
        digests = sha256(file), pixel_digest(image)
        return Glomerulus(path, label, slide, site, *image.size, *digests, published), doubts_of(image, file)
    except (UserError, OSError) as error:
        return Unreadable(path, label, str(error)), []


def _check_copies(rows: list[Glomerulus]) -> None:
    """Report files with the same pixels; refuse them where they carry different labels."""
    counts = Counter(row.pixels for row in rows)
    copies = defaultdict(list)
    for row in rows:
        if counts[row.pixels] > 1:
            copies[row.pixels].append(row)
    refuse(
        [
            f"{' and '.join(row.path for row in same)}: the same image stands under both labels"
            for same in copies.values()
            if len({row.label for row in same}) == 2
        ]
    )
    warn("the same image, which the split will keep together", [" = ".join(r.path for r in same) for same in copies.values()])
