"""The manifest of a dataset: every image with its label, slide and site."""

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from stages.base.errors import UserError, refuse, warn
from stages.base.files import write_table
from stages.dataset.card import Dataset
from stages.dataset.crops import Files
from stages.dataset.readings import NOT_READ, CropReadings, as_cells, reader_columns
from stages.images.archives import is_archive
from stages.intake.label_table import read_label_source
from stages.intake.labels import read_corrections
from stages.intake.listing import Listing, no_image
from stages.intake.opened import open_files
from stages.intake.readers import MAJORITY, Consensus
from stages.intake.slides import assign_slides, check_joined
from stages.intake.source import LEFT_OUT

# A shard's folder, its card, DVC's note of it, and the outlines of `extract`.
BESIDE = ("", ".yaml", ".dvc", ".geojson")


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


Crop = TypeVar("Crop", ManifestRow, NoConsensus)


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

    Those of a joined dataset are the rows of its shards, each made by its own card.

    Args:
        unreadable_list: the file that will list the images that do not open, for the warning.
        skip_unreadable: whether to skip them with a warning instead of an error.
        consensus: how a label follows from those of several readers, except where the card's
            corrections have one.
        files: what is in the dataset's folder; None to open all images now.

    Raises:
        UserError: images and labels do not match one to one, a label is neither 0 nor 1, some
            images do not open, no image has a label, or the same image has both labels; names all
            of them; or something that is in no shard lies next to the shards.
    """
    files = files or open_files(dataset.folder)
    refuse_unlisted(dataset, [*files.others, *(crop.path for crop in files.crops)])
    made, problems = Manifest([], [], []), []
    for part in dataset.parts:
        own = files.below(part.name) if dataset.shards else files
        try:
            found = _make_part(part, own, unreadable_list, skip_unreadable, consensus)
        except UserError as error:
            problems.append(str(error))
            continue
        if dataset.shards:
            found = _with_shard(found, dataset, part)
        made.rows.extend(found.rows)
        made.unreadable.extend(found.unreadable)
        made.no_consensus.extend(found.no_consensus)
    refuse(problems)
    _check_copies(made.rows)
    check_joined(dataset, {row.path: row.slide for row in made.rows})
    # Shards may be listed in any order.
    return Manifest(sorted(made.rows), sorted(made.unreadable), sorted(made.no_consensus))


def _make_part(
    dataset: Dataset,
    files: Files,
    unreadable_list: Path,
    skip_unreadable: bool,
    consensus: Consensus,
) -> Manifest:
    if not files.crops:
        raise no_image(dataset.folder)
    paths = [crop.path for crop in files.crops]
    listing = Listing(dataset.folder, paths, [*files.others], files.ignored, {})
    tables = (dataset.card.labels, dataset.card.corrections)
    warn(LEFT_OUT, [path for path in listing.others if path not in tables])
    labels, groups, readings = read_label_source(dataset, listing, consensus)
    slides = assign_slides(dataset, paths, groups)
    corrections = (
        read_corrections(dataset, {crop.path: crop.pixels_sha256 for crop in files.crops})
        if dataset.card.corrections
        else {}
    )
    corrected = labels | corrections if corrections else labels
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
    return Manifest(rows, unreadable, no_consensus)


def _with_shard(made: Manifest, dataset: Dataset, shard: Dataset) -> Manifest:
    """Return the crops of a shard by the names that they have in the joined dataset."""

    def named(crop: Crop) -> Crop:
        readings = dict(zip(shard.card.readers, crop.readings))
        return crop._replace(
            path=f"{shard.name}/{crop.path}",
            slide=sys.intern(f"{shard.name}/{crop.slide}"),
            site=sys.intern(f"{shard.name}/{crop.site}" if crop.site else shard.name),
            readings=tuple(readings.get(reader, NOT_READ) for reader in dataset.readers),
        )

    return Manifest(
        [*map(named, made.rows)],
        [one._replace(path=f"{shard.name}/{one.path}") for one in made.unreadable],
        [*map(named, made.no_consensus)],
    )


def refuse_unlisted(dataset: Dataset, paths: Iterable[str]) -> None:
    """Refuse what lies next to the shards: an unlisted hospital would silently be left out."""
    if not dataset.shards:
        return
    known = {f"{shard.name}{suffix}" for shard in dataset.shards for suffix in BESIDE}
    found = {path.split("/")[0] for path in paths}
    # Their images have paths without the name of the archive, perhaps below that of a shard.
    found |= {path.name for path in dataset.folder.iterdir() if is_archive(path.name)}
    refuse(
        f"{dataset.folder / name}: {dataset.card_path} does not list it; add the shard, or move "
        "this elsewhere"
        for name in sorted(found - known)
    )


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
