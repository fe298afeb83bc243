"""Check a dataset and list it: data/<name>/ and its card -> data/manifest.csv, one row an image, sorted by path.

Every image is opened once here, so that a folder's faults are found in the first minute and all in one go. The stage is
apart from `split` so that another fold, seed or `split.by` reads no image again.
"""

import csv
import io
import os
import re
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

from stages.base.errors import SHOWN, UserError, refuse, run_stage
from stages.base.files import sha256, write_table
from stages.base.parameters import Parameters, read_dataset_name, read_params, shown
from stages.dataset.card import Dataset, read_dataset
from stages.dataset.cohort import MANIFEST
from stages.images.opening import SUFFIXES, load_image
from stages.workers.cores import on_all_cores

CROP_SIZES = Path("metrics/plots/crop_sizes.csv")
UNREADABLE = Path("metrics/unreadable.csv")
DRAWN_SIZES = 2000
CLUTTER = ("thumbs.db", "desktop.ini")


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


def main() -> None:
    params = read_params("manifest", ManifestParameters)
    dataset = read_dataset(read_dataset_name())
    rows, unreadable = make_manifest(dataset, skip_unreadable=params.unreadable == "skip")
    write_table(MANIFEST, Glomerulus._fields, rows)
    write_table(UNREADABLE, ("path", "label", "reason"), unreadable)
    # A scatter of a million points is no picture: every n-th row, so that at most 2,000 are drawn.
    drawn = rows[:: -(-len(rows) // DRAWN_SIZES)]
    write_table(CROP_SIZES, ("width", "height", "label"), ((row.width, row.height, row.label) for row in drawn))
    positives = sum(row.label for row in rows)
    slides = len({row.slide for row in rows})
    corrected = sum(row.label != row.published for row in rows)
    labels = f"; {corrected} labels corrected by {dataset.card.corrections}" if corrected else ""
    print(f"{dataset.card.title}: {len(rows)} glomeruli, {positives} of them globally sclerotic, {slides} slides{labels}")


def make_manifest(dataset: Dataset, skip_unreadable: bool = False) -> tuple[list[Glomerulus], list[Unreadable]]:
    """Return a row for each image of `dataset`, sorted by path, and the images that were skipped as unreadable.

    Raises:
        UserError: with all the names, where images and labels do not fit together one to one, a label is neither 0
            nor 1, an image does not open (unless these are skipped), or the same image stands under both labels.
    """
    images, ignored = list_images(dataset.folder)
    if dataset.card.classes:
        labels = _labels_from_folders(dataset, images)
        groups = {}
    else:
        labels, groups = _labels_from_table(dataset, images)
    tables = (dataset.card.labels, dataset.card.corrections)
    _warn("left out, not images by their name", [name for name in ignored if name not in tables])
    if not labels:
        raise UserError(f"{dataset.folder} holds no image; formats that are read end in {', '.join(sorted(SUFFIXES))}")
    slides = _slides(dataset, sorted(labels), groups)
    corrected = labels | _corrections(dataset, labels)
    jobs = [(path, corrected[path], *slides[path], labels[path]) for path in sorted(labels)]
    rows, unreadable = _open_all(dataset.folder, jobs)
    if not (skip_unreadable and rows):
        refuse([image.reason for image in unreadable])
    _warn(f"skipped, listed in {UNREADABLE}", [image.reason for image in unreadable])
    _check_copies(rows)
    return rows, unreadable


def list_images(folder: Path) -> tuple[list[str], list[str]]:
    """Return the files below `folder` that are images by their name, and the others, as sorted relative paths.

    Hidden files and a file manager's own (Thumbs.db) are passed over. Paths have forward slashes on every system.

    Raises:
        UserError: a link leads out of the folder, or a name is not valid text.
        OSError: a folder cannot be read; what is in it must not be missing without a word.
    """

    def stop(error: OSError) -> None:
        raise error

    images, others, problems = [], [], []
    home = folder.resolve()
    for parent, folders, names in os.walk(folder, onerror=stop):
        for name in folders:
            if (Path(parent) / name).is_symlink():
                problems.append(f"{Path(parent) / name} is a link to a folder; links to folders are not followed")
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            file = Path(parent) / name
            if name.startswith(".") or name.lower() in CLUTTER:
                continue
            if file.is_symlink() and not _may_follow(file, home):
                problems.append(f"{shown(str(file))} is a link that leads out of {folder}")
            elif not file.is_file():
                problems.append(f"{shown(str(file))} is not a file")
            elif not name.isprintable():
                problems.append(f"{shown(str(file))} has a character in its name that is not printable text; rename it")
            else:
                relative = file.relative_to(folder).as_posix()
                (images if file.suffix.lower() in SUFFIXES else others).append(relative)
    refuse(sorted(problems))
    return sorted(images), sorted(others)


def _may_follow(link: Path, home: Path) -> bool:
    # With `cache.type = symlink`, DVC itself lays a dataset out as links into its cache, .../files/md5/ab/cdef...
    target = link.resolve()
    return target.is_relative_to(home) or target.parts[-4:-2] == ("files", "md5")


def _labels_from_folders(dataset: Dataset, images: Iterable[str]) -> dict[str, int]:
    labels, stray = {}, []
    classes = dataset.card.classes or []
    for name in classes:
        if not (dataset.folder / name).is_dir():
            present = sorted(entry.name for entry in dataset.folder.iterdir() if entry.is_dir())
            raise dataset.error(
                "classes", f"there is no folder {dataset.folder / name}; there are {', '.join(present) or 'none'}"
            )
    for path in images:
        inside = [label for label, name in enumerate(classes) if PurePosixPath(path).is_relative_to(name)]
        if inside:
            labels[path] = inside[-1]
        else:
            stray.append(f"{dataset.folder / path} is in neither of the class folders {' and '.join(classes)}")
    by_name = defaultdict(list)
    for path in labels:
        by_name[PurePosixPath(path).name].append(path)
    twice = [paths for paths in by_name.values() if len({labels[path] for path in paths}) == 2]
    refuse(
        stray + [f"{dataset.folder / paths[0]} and {paths[-1]}: the same file name stands under both labels" for paths in twice]
    )
    return labels


def _labels_from_table(dataset: Dataset, images: list[str]) -> tuple[dict[str, int], dict[str, tuple[str | None, str | None]]]:
    """Return the label of each image, and (slide, site) where the table has columns for them."""
    table = dataset.folder / str(dataset.card.labels)
    by_name = defaultdict(list)
    for path in images:
        by_name[_composed(path)].append(path)
        if "/" in path:
            by_name[_composed(PurePosixPath(path).name)].append(path)
    labels: dict[str, int] = {}
    groups: dict[str, tuple[str | None, str | None]] = {}
    problems = []
    without_row = set(images)
    for line, name, label, slide, site in _read_labels(dataset, table):
        # Names are looked up in the listing and never joined to a path: no row reaches outside the folder.
        found = by_name.get(_composed(name), [])
        if len(found) != 1:
            many = f"fits {len(found)} files: {', '.join(found[:3])}" if found else "is not in the folder"
            problems.append(f"{table}, line {line}: {shown(name)} {many}")
            continue
        without_row.discard(found[0])
        if label not in ("0", "1"):
            problems.append(f"{table}, line {line}: the label of {name} is {shown(label)}; it must be 0 or 1")
        elif found[0] in labels:
            both = labels[found[0]] != int(label)
            problems.append(f"{table}, line {line}: {name} stands there twice{', under both labels' if both else ''}")
        else:
            labels[found[0]] = int(label)
            groups[found[0]] = (slide, site)
    refuse(problems + [f"{dataset.folder / path} has no row in {table}" for path in sorted(without_row)])
    return labels, groups


def _composed(name: str) -> str:
    # A disk may hold an accented letter as two characters where the table, written elsewhere, holds it as one.
    return unicodedata.normalize("NFC", name)


def _read_labels(dataset: Dataset, table: Path) -> list[tuple[int, str, str, str | None, str | None]]:
    """Return (line, name, label, slide, site) for each row; comma, semicolon or tab between the columns."""
    columns = dataset.card.columns
    assert columns is not None
    try:
        text = table.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise dataset.error("labels", f"there is no file {table}") from None
    except UnicodeDecodeError:
        raise UserError(f"{table} is not UTF-8 text; save it as CSV UTF-8") from None
    rows, problems = [], []
    try:
        lines, header = open_columns(text, (columns.name, columns.label))
        for key in ("name", "label", "slide", "site"):
            if getattr(columns, key) and getattr(columns, key) not in header:
                there = ", ".join(map(shown, header))
                raise dataset.error(f"columns.{key}", f"{table} has no such column; it has {there}")
        for row in lines:
            if not any(field.strip() for field in row):
                continue
            if len(row) != len(header):
                problems.append(f"{table}, line {lines.line_num}: {len(row)} fields where the header has {len(header)}")
                continue
            field = dict(zip(header, row))
            slide = field[columns.slide].strip() if columns.slide else None
            site = field[columns.site].strip() if columns.site else None
            if slide == "" or site == "":
                problems.append(f"{table}, line {lines.line_num}: no {'slide' if slide == '' else 'site'}")
            rows.append((lines.line_num, field[columns.name].strip(), field[columns.label].strip(), slide, site))
    except csv.Error as error:
        raise UserError(f"{table} is not a table that can be read: {error}") from None
    refuse(problems)
    return rows


def open_columns(text: str, wanted: tuple[str, ...]) -> tuple[Any, list[str]]:
    """Return a reader behind the header, and the header: by the separator that gives the wanted columns, or by comma."""
    for separator in ",;\t,":
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        header = next(lines, [])
        if set(wanted) <= set(header):
            break
    return lines, header


def _corrections(dataset: Dataset, labels: dict[str, int]) -> dict[str, int]:
    """Return the labels that the card's table of corrections gives, by path."""
    if dataset.card.corrections is None:
        return {}
    table = dataset.folder / dataset.card.corrections
    try:
        lines, header = open_columns(table.read_text(encoding="utf-8-sig"), ("path", "label"))
        refuse([f"{table} has no column {name}; it has {', '.join(header)}" for name in ("path", "label") if name not in header])
        rows = [(lines.line_num, dict(zip(header, (field.strip() for field in row)))) for row in lines if any(row)]
    except FileNotFoundError:
        raise dataset.error("corrections", f"there is no file {table}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table} is not a table that can be read: {error}") from None
    corrections: dict[str, int] = {}
    problems = []
    for line, row in rows:
        path, label = row.get("path", ""), row.get("label", "")
        if path not in labels:
            problems.append(f"{table}, line {line}: {shown(path)} is not the path of an image in {dataset.folder}")
        elif label not in ("0", "1"):
            problems.append(f"{table}, line {line}: the label of {path} is {shown(label)}; it must be 0 or 1")
        elif path in corrections:
            problems.append(f"{table}, line {line}: {path} stands there twice")
        else:
            corrections[path] = int(label)
    refuse(problems)
    return corrections


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


if __name__ == "__main__":
    run_stage(main, __doc__)
