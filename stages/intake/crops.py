"""The manifest of a dataset: every image with its label, slide and site."""

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from stages.base.errors import UserError, refuse, warn
from stages.base.files import write_table
from stages.base.parameters import quoted
from stages.dataset.card import Dataset
from stages.dataset.crops import Files
from stages.dataset.readings import CropReadings, as_cells, reader_columns
from stages.dataset.slides import NO_GROUP, is_no_name, nfc, written_alike
from stages.intake.label_table import Groups, TableLabels, labels_from_table
from stages.intake.labels import labels_from_folders, read_corrections
from stages.intake.listing import Listing
from stages.intake.opened import open_files
from stages.intake.readers import MAJORITY, Consensus
from stages.intake.source import LEFT_OUT

# If more than the share of slides have one crop, the pattern probably does not find patients. With
# fewer slides than the count, that all have one crop may be chance.
MOSTLY_SINGLE, FEW_SLIDES = 0.9, 10


class ManifestRow(NamedTuple):
    """A row of the manifest: one crop.

    Attributes:
        path: relative to the dataset's folder, as it is on disk.
        label: the label that is used.
        sha256: the digest of the file.
        pixels_sha256: the digest of the picture; files of one picture may differ in the first only.
        published: the label before the card's corrections, if it had one.
        readings: the label by each reader, if the card names several.
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
    readings: CropReadings = ()


class NoConsensus(NamedTuple):
    """A crop without a label, because its readers have no consensus."""

    path: str
    slide: str
    site: str
    readings: CropReadings


class Unreadable(NamedTuple):
    """An image that does not open, its label, and why."""

    path: str
    label: int
    reason: str


class Manifest(NamedTuple):
    """The crops of a dataset, each list sorted by path."""

    rows: list[ManifestRow]
    unreadable: list[Unreadable]
    no_consensus: list[NoConsensus]

    @property
    def crops_read(self) -> list[ManifestRow | NoConsensus]:
        """The crops with readings, also those that are left out for lack of a consensus."""
        return [*self.rows, *self.no_consensus]


def make_manifest(
    dataset: Dataset,
    unreadable_list: Path,
    skip_unreadable: bool = False,
    consensus: Consensus = MAJORITY,
    files: Files | None = None,
) -> Manifest:
    """Return a row per image of `dataset`, and the images that do not open or have no consensus.

    Args:
        unreadable_list: the file that will list the images that do not open, for the warning.
        skip_unreadable: whether to skip them with a warning instead of an error.
        consensus: how a label follows from those of several readers, except where the card's
            corrections have one.
        files: what is in the dataset's folder; None to open all images now.

    Raises:
        UserError: images and labels do not match one to one, a label is neither 0 nor 1, some
            images do not open, no image has a label, or the same image has both labels; names all
            of them.
    """
    files = files or open_files(dataset.folder)
    paths = [crop.path for crop in files.crops]
    listing = Listing(dataset.folder, paths, [*files.others], files.ignored, {})
    tables = (dataset.card.labels, dataset.card.corrections)
    warn(LEFT_OUT, [path for path in listing.others if path not in tables])
    labels, groups, readings = (
        TableLabels(labels_from_folders(dataset, paths), {}, {})
        if dataset.card.labels is None
        else labels_from_table(dataset, listing, consensus)
    )
    slides = assign_slides(dataset, paths, groups)
    corrected = labels | read_corrections(dataset, paths)
    no_consensus = [
        NoConsensus(path, *slides[path], readings[path]) for path in paths if path not in corrected
    ]
    if not corrected:
        raise UserError(
            f"{dataset.folder}: no crop has a label by manifest.consensus {str(consensus)!r}; use "
            "another rule, or name a table of corrections in the card"
        )
    labeled = [crop for crop in files.crops if crop.path in corrected]
    unreadable = [
        Unreadable(crop.path, corrected[crop.path], crop.problem)
        for crop in labeled
        if crop.problem
    ]
    rows = [
        ManifestRow(
            crop.path,
            corrected[crop.path],
            *slides[crop.path],
            crop.width,
            crop.height,
            crop.sha256,
            crop.pixels_sha256,
            labels.get(crop.path, corrected[crop.path]),
            readings.get(crop.path, ()),
        )
        for crop in labeled
        if not crop.problem
    ]
    doubts = [f"{dataset.folder / crop.path}: {one}" for crop in labeled for one in crop.doubts]
    if not (skip_unreadable and rows):
        refuse([image.reason for image in unreadable])
    warn(f"skipped, listed in {unreadable_list}", [image.reason for image in unreadable])
    warn("read, but check it", doubts)
    _check_copies(rows)
    return Manifest(rows, unreadable, no_consensus)


def write_manifest(path: Path, readers: Sequence[str], rows: Iterable[ManifestRow]) -> None:
    """Write the manifest, with a column per reader if there are several."""
    columns = (*ManifestRow._fields[:-1], *reader_columns(readers))
    write_table(path, columns, ((*row[:-1], *as_cells(row.readings)) for row in rows))


def write_no_consensus(path: Path, readers: Sequence[str], crops: Sequence[NoConsensus]) -> None:
    """Write the crops that are left out because their readers have no consensus, and warn."""
    columns = (*NoConsensus._fields[:-1], *reader_columns(readers))
    write_table(path, columns, ((*crop[:-1], *as_cells(crop.readings)) for crop in crops))
    warn(f"no consensus, left out, listed in {path}", [crop.path for crop in crops])


def _check_copies(rows: list[ManifestRow]) -> None:
    """Report files with the same pixels; refuse them if their labels differ."""
    counts = Counter(row.pixels_sha256 for row in rows)
    copies = defaultdict(list)
    for row in rows:
        if counts[row.pixels_sha256] > 1:
            copies[row.pixels_sha256].append(row)
    refuse(
        f"{' and '.join(row.path for row in same)}: the same image under both labels"
        for same in copies.values()
        if len({row.label for row in same}) == 2
    )
    warn(
        "the same image, which the split will keep together",
        [" = ".join(row.path for row in same) for same in copies.values()],
    )


def assign_slides(
    dataset: Dataset, paths: Iterable[str], groups: Groups
) -> dict[str, tuple[str, str]]:
    """Return (slide, site) of each path, from the table of labels or else from the file's name.

    Args:
        groups: (slide, site) by path, as far as the table has columns for them.
    """
    paths, pattern = list(paths), dataset.card.pattern
    try:
        named = pattern.match_all(paths) if pattern else {}
    except UserError as error:
        raise dataset.error("group", str(error)) from None
    slides, slide_sites = {}, defaultdict(set)
    each_apart = dataset.card.group == NO_GROUP
    for path in paths:
        of_table, of_name = groups.get(path, ("", "")), named.get(path, ("", ""))
        slide, site = (one or other for one, other in zip(of_table, of_name))
        if not slide and each_apart:
            slide = nfc(path)
        slides[path] = (sys.intern(slide), sys.intern(site))
        slide_sites[slide].add(site)
    if unmatched := [path for path, (slide, _) in slides.items() if not slide]:
        count = f" ({len(unmatched)} of {len(slides)} names do not)" if len(unmatched) > 1 else ""
        raise dataset.error("group", f"it does not match {unmatched[0]}{count}")
    _refuse_unknown(dataset, slides)
    if pattern and pattern.of_path:
        _refuse_class_in_slide(dataset, slide_sites)
    # Keeping sites apart would tear apart a slide of several sites.
    refuse(
        f"slide {slide} is of several sites: {', '.join(sorted(sites))}"
        for slide, sites in sorted(slide_sites.items())
        if len(sites) > 1
    )
    _check_sizes(dataset, slides)
    if not each_apart:
        warn("slides that are kept apart, but may be the same", written_alike(slide_sites))
    all_sites = {site for sites in slide_sites.values() for site in sites}
    warn("sites that are kept apart, but may be the same", written_alike(all_sites))
    return slides


def _error_of(dataset: Dataset, kind: Literal["slide", "site"], message: str) -> UserError:
    """Return an error that quotes the card's line on slides or sites: `columns` or `group`."""
    in_table = dataset.card.columns and getattr(dataset.card.columns, kind)
    return dataset.error(f"columns.{kind}" if in_table else "group", message)


def _refuse_unknown(dataset: Dataset, slides: dict[str, tuple[str, str]]) -> None:
    """Refuse unknown slides and sites, such as NA: all of them would be one patient."""
    kinds: tuple[Literal["slide", "site"], ...] = ("slide", "site")
    for place, kind in enumerate(kinds):
        names = {pair[place] for pair in slides.values()}
        if unknown := {name for name in names if name and is_no_name(name)}:
            paths = [path for path, pair in slides.items() if pair[place] in unknown]
            texts = " or ".join(map(quoted, sorted(unknown)))
            what = "slide (or patient)" if kind == "slide" else kind
            raise _error_of(
                dataset,
                kind,
                f"the {kind} of {len(paths)} of {len(slides)} crops is {texts}, such as of "
                f"{paths[0]}, which means unknown; name the {what} of each, or leave them out",
            )


def _check_sizes(dataset: Dataset, slides: dict[str, tuple[str, str]]) -> None:
    """Refuse slides of one crop each, which would put a patient's crops on both sides of a split.

    A card may say that each crop is of another patient; then no slide may have two.
    """
    counts = Counter(slide for slide, _ in slides.values())
    if dataset.card.group == NO_GROUP:
        if shared := [path for path, (slide, _) in slides.items() if counts[slide] > 1]:
            slide = quoted(slides[shared[0]][0])
            raise dataset.error(
                "group",
                f"{shared[0]} shares its slide, {slide}, with another crop; remove the line",
            )
    elif FEW_SLIDES <= len(counts) == len(slides):
        path, (slide, _) = next(iter(slides.items()))
        raise _error_of(
            dataset,
            "slide",
            f"each of the {len(slides)} crops is a separate slide, such as {quoted(slide)} of "
            f"{path}, so that nothing keeps a patient's crops together; name what they share, or "
            f"write `group: {NO_GROUP}` if no two crops are of one patient",
        )
    elif (single := sum(count == 1 for count in counts.values())) > max(
        1, MOSTLY_SINGLE * len(counts)
    ):
        warn(
            "do slides (or patients) have so few crops",
            [f"{single} of {len(counts)} have one, of {len(slides)} crops"],
        )


def _refuse_class_in_slide(dataset: Dataset, slides: Iterable[str]) -> None:
    """Refuse a pattern that takes the class folder into the slide: a patient would become two."""
    names = dataset.card.classes or [] if dataset.card.labels is None else []
    classes = {nfc(part) for name in names for part in PurePosixPath(name).parts} - {"*"}
    without: dict[str, str] = {}
    for slide in sorted(slides):
        rest = "/".join(part for part in slide.split("/") if part not in classes)
        if rest != slide and (other := without.setdefault(rest, slide)) != slide:
            raise dataset.error(
                "group",
                f"the slide includes the class folder: {quoted(other)} and {quoted(slide)} would "
                "be two slides; match only the folder of the patient",
            )
