"""The manifest of a dataset: each image opened, its label, slide and site found, copies and doubts named."""

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from stages.base.errors import SHOWN, UserError, refuse
from stages.base.files import sha256
from stages.base.parameters import Parameters
from stages.dataset.card import Dataset
from stages.images.opening import SUFFIXES, load_image
from stages.intake.labels import labels_from_folders, labels_from_table, read_corrections
from stages.intake.listing import list_images
from stages.workers.cores import on_all_cores

UNREADABLE = Path("metrics/unreadable.csv")


class Glomerulus(NamedTuple):
    """A row of the manifest: one crop. `path` is relative to the dataset's folder; `sha256` is of the file's bytes.

    `label` is the one that is used; it differs from `published` where the card's corrections say so.
    """

    path: str
    label: int
    slide: str
    site: str
    width: int
    height: int
    sha256: str
    published: int


class Unreadable(NamedTuple):
    """An image that does not open, its label, and why."""

    path: str
    label: int
    reason: str


class ManifestParameters(Parameters):
    """`manifest` in params.yaml: what to do with an image that does not open."""

    unreadable: Literal["refuse", "skip"]


def make_manifest(dataset: Dataset, skip_unreadable: bool = False) -> tuple[list[Glomerulus], list[Unreadable]]:
    """Return a row for each image of `dataset`, sorted by path, and the images that were skipped as unreadable.

    Raises:
        UserError: with all the names, where images and labels do not fit together one to one, a label is neither 0
            nor 1, an image does not open (unless these are skipped), or the same image stands under both labels.
    """
    images, ignored = list_images(dataset.folder)
    groups: dict[str, tuple[str | None, str | None]] = {}
    if dataset.card.classes:
        labels = labels_from_folders(dataset, images)
    else:
        labels, groups = labels_from_table(dataset, images)
    tables = (dataset.card.labels, dataset.card.corrections)
    _warn("left out, not images by their name", [name for name in ignored if name not in tables])
    if not labels:
        raise UserError(f"{dataset.folder} holds no image; formats that are read end in {', '.join(sorted(SUFFIXES))}")
    slides = _slides(dataset, sorted(labels), groups)
    corrected = labels | read_corrections(dataset, labels)
    jobs = [(path, corrected[path], *slides[path], labels[path]) for path in sorted(labels)]
    rows, unreadable = _open_all(dataset.folder, jobs)
    if not (skip_unreadable and rows):
        refuse([image.reason for image in unreadable])
    _warn(f"skipped, listed in {UNREADABLE}", [image.reason for image in unreadable])
    _check_copies(rows)
    return rows, unreadable


def _slides(
    dataset: Dataset, paths: Iterable[str], groups: dict[str, tuple[str | None, str | None]]
) -> dict[str, tuple[str, str]]:
    """Return (slide, site) of each path, from the labels' table where it has them and else from the file's name."""
    slides, unmatched, slide_sites = {}, [], defaultdict(set)
    pattern = re.compile(dataset.card.group) if dataset.card.group else None
    for path in paths:
        slide, site = groups.get(path, (None, None))
        if pattern:
            match = pattern.match(PurePosixPath(path).name)
            named = match.groupdict() if match else {}
            slide, site = slide or named.get("slide"), site or named.get("site")
        if not slide:
            unmatched.append(path)
        slides[path] = (sys.intern(slide or ""), sys.intern(site or ""))
        slide_sites[slide].add(site)
    if unmatched:
        count = f" ({len(unmatched)} of {len(slides)} names do not)" if len(unmatched) > 1 else ""
        raise dataset.error("group", f"it does not match {unmatched[0]}{count}")
    # A slide is of one site: otherwise keeping sites apart would tear a slide in two.
    refuse(
        [
            f"slide {slide} is of several sites: {', '.join(sorted(map(str, s)))}"
            for slide, s in sorted(slide_sites.items())
            if len(s) > 1
        ]
    )
    return slides


def _open_all(folder: Path, images: list[tuple[str, int, str, str, int]]) -> tuple[list[Glomerulus], list[Unreadable]]:
    rows: list[Glomerulus] = []
    unreadable: list[Unreadable] = []
    for result in on_all_cores(_open, [(folder, *image) for image in images], "checking"):
        (rows if isinstance(result, Glomerulus) else unreadable).append(result)
    return rows, unreadable


def _open(folder: Path, path: str, label: int, slide: str, site: str, published: int) -> Glomerulus | Unreadable:
    file = folder / path
    try:
        width, height = load_image(file).size
        return Glomerulus(path, label, slide, site, width, height, sha256(file), published)
    except (UserError, OSError) as error:
        return Unreadable(path, label, str(error))


def _check_copies(rows: list[Glomerulus]) -> None:
    """Report byte-identical files; refuse them where they carry different labels."""
    counts = Counter(row.sha256 for row in rows)
    copies = defaultdict(list)
    for row in rows:
        if counts[row.sha256] > 1:
            copies[row.sha256].append(row)
    refuse(
        [
            f"{' and '.join(row.path for row in same)}: the same image stands under both labels"
            for same in copies.values()
            if len({row.label for row in same}) == 2
        ]
    )
    _warn(
        "byte-identical files, which the split will keep together",
        [" = ".join(r.path for r in same) for same in copies.values()],
    )


def _warn(what: str, names: list[str]) -> None:
    for name in names[:SHOWN]:
        print(f"warning: {what}: {name}", file=sys.stderr)
    if len(names) > SHOWN:
        print(f"warning: {what}: and {len(names) - SHOWN} more", file=sys.stderr)
