"""The manifest of a dataset: each image opened, its label, slide and site found, copies and doubts
named.
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from stages.base.errors import UserError, refuse, warn
from stages.base.files import sha256
from stages.base.parameters import quoted
from stages.dataset.card import Dataset
from stages.dataset.slides import NO_GROUP, is_no_name, nfc, written_alike
from stages.images.opening import doubts_of, load_image, pixel_digest
from stages.intake.labels import Groups, labels_from_folders, labels_from_table, read_corrections
from stages.intake.listing import list_images, no_image
from stages.intake.names import refuse_twins
from stages.intake.source import LEFT_OUT
from stages.workers.cores import on_all_cores

# The share of slides with one crop above which a pattern hardly finds patients, and so few crops
# that it may be chance.
MANY, FEW = 0.9, 10


class Glomerulus(NamedTuple):
    """A row of the manifest: one crop. `path` is relative to the dataset's folder, as it is on
    disk.

    `sha256` is of the file's bytes, `pixels_sha256` of what they show: two files with one picture may
    differ by the first alone. `label` is the one that is used; it differs from `published` where
    the card's corrections say so.
    """

    path: str
    label: int
    slide: str
    site: str
    width: int
    height: int
    sha256: str
    pixels_sha256: str
    published: int


class Unreadable(NamedTuple):
    """An image that does not open, its label, and why."""

    path: str
    label: int
    reason: str


def make_manifest(
    dataset: Dataset, unreadable_list: Path, skip_unreadable: bool = False
) -> tuple[list[Glomerulus], list[Unreadable]]:
    """Return a row for each image of `dataset`, sorted by path, and the images that were skipped as
    unreadable.

    Args:
        unreadable_list: the file that will list those, for the warning.

    Raises:
        UserError: with all the names, where images and labels do not fit together one to one, a
            label is neither 0 nor 1, an image does not open (unless these are skipped), or the same
            image stands under both labels.
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
        labels, groups = labels_from_table(dataset, listing)
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


def find_slides(
    dataset: Dataset, paths: Iterable[str], groups: Groups
) -> dict[str, tuple[str, str]]:
    """Return (slide, site) of each path, from the labels' table where it has them and else from the
    file's name.
    """
    paths, pattern = list(paths), dataset.card.pattern
    try:
        named = pattern.match_all(paths) if pattern else {}
    except UserError as error:
        raise dataset.error("group", str(error)) from None
    slides, slide_sites = {}, defaultdict(set)
    apart = dataset.card.group == NO_GROUP
    for path in paths:
        slide, site = (
            one or two for one, two in zip(groups.get(path, ("", "")), named.get(path, ("", "")))
        )
        if not slide and apart:
            slide = nfc(path)
        slides[path] = (sys.intern(slide), sys.intern(site))
        slide_sites[slide].add(site)
    if unmatched := [path for path, (slide, _) in slides.items() if not slide]:
        count = f" ({len(unmatched)} of {len(slides)} names do not)" if len(unmatched) > 1 else ""
        raise dataset.error("group", f"it does not match {unmatched[0]}{count}")
    _refuse_no_names(dataset, slides)
    if pattern and pattern.of_path:
        _refuse_class_in_slide(dataset, slide_sites)
    # A slide is of one site: otherwise keeping sites apart would tear a slide in two.
    refuse(
        [
            f"slide {slide} is of several sites: {', '.join(sorted(s))}"
            for slide, s in sorted(slide_sites.items())
            if len(s) > 1
        ]
    )
    _check_sizes(dataset, slides)
    if not apart:
        warn("slides that are kept apart, and may be one", written_alike(slide_sites))
    warn(
        "sites that are kept apart, and may be one",
        written_alike({site for sites in slide_sites.values() for site in sites}),
    )
    return slides


def _error_of(dataset: Dataset, kind: Literal["slide", "site"], message: str) -> UserError:
    """Return the error for what the card says of slides or sites, whichever line it is."""
    of_table = dataset.card.columns and getattr(dataset.card.columns, kind)
    return dataset.error(f"columns.{kind}" if of_table else "group", message)


def _refuse_no_names(dataset: Dataset, slides: dict[str, tuple[str, str]]) -> None:
    """Refuse slides and sites that are not known: as one of the name NA, all of them would be one
    patient.
    """
    kinds: tuple[Literal["slide", "site"], ...] = ("slide", "site")
    for place, kind in enumerate(kinds):
        if paths := [
            path for path, names in slides.items() if names[place] and is_no_name(names[place])
        ]:
            texts = " or ".join(
                quoted(text) for text in sorted({slides[path][place] for path in paths})
            )
            raise _error_of(
                dataset,
                kind,
                f"the {kind} of {len(paths)} of {len(slides)} crops is {texts}, such as of {paths[0]}, which names none; "
                f"name the {'slide (or patient)' if kind == 'slide' else kind} of each, or leave these crops out",
            )


def _check_sizes(dataset: Dataset, slides: dict[str, tuple[str, str]]) -> None:
    """Refuse slides of one crop each unless the card says so: split by them, a patient's crops are
    on both sides, unnoticed.
    """
    counts = Counter(slide for slide, _ in slides.values())
    if dataset.card.group == NO_GROUP:
        if shared := [path for path, (slide, _) in slides.items() if counts[slide] > 1]:
            raise dataset.error(
                "group",
                f"{shared[0]} shares its slide, {quoted(slides[shared[0]][0])}, with another crop; remove the line",
            )
    elif FEW <= len(counts) == len(slides):
        path, (slide, _) = next(iter(slides.items()))
        raise _error_of(
            dataset,
            "slide",
            f"each of the {len(slides)} crops is a slide of its own, as {quoted(slide)} of {path}, so that nothing keeps a "
            f"patient's crops together; name what these share, or say `group: {NO_GROUP}` if no two crops are of one patient",
        )
    elif (single := sum(count == 1 for count in counts.values())) > max(1, MANY * len(counts)):
        warn(
            "do slides (or patients) have so few crops",
            [f"{single} of {len(counts)} have one, of {len(slides)} crops"],
        )


def _refuse_class_in_slide(dataset: Dataset, slides: Iterable[str]) -> None:
    """Refuse a pattern that takes the class folder into the slide: a patient would be two, on both
    sides of a split.
    """
    classes = {
        nfc(part) for name in dataset.card.classes or [] for part in PurePosixPath(name).parts
    } - {"*"}
    without: dict[str, str] = {}
    for slide in sorted(slides):
        rest = "/".join(part for part in slide.split("/") if part not in classes)
        if rest != slide and (other := without.setdefault(rest, slide)) != slide:
            raise dataset.error(
                "group",
                f"it takes the class folder into the slide: {quoted(other)} and {quoted(slide)} would be two",
            )


def _open_all(
    folder: Path, images: list[tuple[str, int, str, str, int]]
) -> tuple[list[Glomerulus], list[Unreadable], list[str]]:
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
        return Glomerulus(path, label, slide, site, *image.size, *digests, published), doubts_of(
            image, file
        )
    except (UserError, OSError) as error:
        return Unreadable(path, label, str(error)), []


def _check_copies(rows: list[Glomerulus]) -> None:
    """Report files with the same pixels; refuse them where they carry different labels."""
    counts = Counter(row.pixels_sha256 for row in rows)
    copies = defaultdict(list)
    for row in rows:
        if counts[row.pixels_sha256] > 1:
            copies[row.pixels_sha256].append(row)
    refuse(
        [
            f"{' and '.join(row.path for row in same)}: the same image stands under both labels"
            for same in copies.values()
            if len({row.label for row in same}) == 2
        ]
    )
    warn(
        "the same image, which the split will keep together",
        [" = ".join(r.path for r in same) for same in copies.values()],
    )
