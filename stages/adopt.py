"""Add labels that were saved on the page of `predict --html` to the corrections of a dataset.

    python -m stages.adopt data/mine page-labels-AB.csv page-labels-CD.csv

The card data/mine.yaml names the table, such as `corrections: corrections.csv`; it need not exist
yet, or may be an empty file in data/labels/mine/. Each row of it says who labeled the crop, when,
and whether blindly. Labels that confirm a published label are added, too. What changes in the
counts is printed. Nothing is written if labels contradict each other or earlier corrections, if a
crop is not in the dataset or has other pixels than on the page, or if the words for the classes
mean something else. Labels of a joined dataset go to the table of each shard.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from stages.base.arguments import argument_parser
from stages.base.errors import UserError, refuse, run_program
from stages.base.files import from_cell, refuse_outputs, write_table
from stages.base.parameters import quoted, read_params
from stages.dataset.card import Dataset, as_key, read_dataset_in
from stages.dataset.cohort import CLASS_NAMES
from stages.dataset.polarity import names_the_others, order_doubt
from stages.images.archives import locate
from stages.images.opening import load_image, pixel_digest
from stages.intake.crops import refuse_unlisted
from stages.intake.label_table import read_label_source
from stages.intake.labels import LABEL_COLUMNS, NAME_COLUMNS, PIXELS_COLUMN, read_corrections
from stages.intake.listing import Listing, find_table, list_crops, list_images
from stages.intake.names import Names
from stages.intake.parameters import ManifestParameters
from stages.intake.saved_labels import SavedLabel, by_crop, read_saved_labels
from stages.intake.tables import read_laboratory_table
from stages.workers.cores import on_all_cores

ABOUT = ("reader", "date", "blind", PIXELS_COLUMN)


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("folder", type=Path, help="the folder of the dataset, such as data/mine")
    parser.add_argument("files", type=Path, nargs="+", help="tables that the page has saved")
    arguments = parser.parse_args()
    dataset = read_dataset_in(arguments.folder)
    listing = list_crops(dataset.folder)
    labels = [one for file in arguments.files for one in read_saved_labels(file)]
    crops = find_crops(dataset, listing, labels)
    refuse_unlisted(dataset, crops)
    adopted = []
    for part in dataset.parts:
        start = f"{part.name}/" if dataset.shards else ""
        own = {path[len(start) :]: crops[path] for path in crops if path.startswith(start)}
        if own:
            adopted.append(adopt(part, own, arguments.files))
    for one in adopted:
        rows = ([path, *one.rows[path]] for path in sorted(one.rows))
        write_table(one.table, ("path", "label", *ABOUT), rows)
        say(one.dataset, one.before, one.given)
        in_git = one.table.is_relative_to(one.dataset.tables)
        keep = f"git add {one.table}" if in_git else f"dvc add {one.dataset.folder}"
        print(f"written: {one.table}; next: {keep}", file=sys.stderr)


class Adopted(NamedTuple):
    """New corrections of a dataset, by path."""

    dataset: Dataset
    table: Path
    rows: dict[str, tuple[str, ...]]  # of the table
    before: dict[str, int]  # as far as crops had labels
    given: dict[str, int]


def adopt(dataset: Dataset, crops: dict[str, list[SavedLabel]], files: Sequence[Path]) -> Adopted:
    """Return the corrections of a dataset with the labels of `crops`; refuse those in doubt.

    Args:
        files: the tables that the page has saved.
    """
    if dataset.card.corrections is None:
        raise UserError(
            f"{dataset.card_path} names no table of corrections; add the line "
            "`corrections: corrections.csv` to it"
        )
    table = find_table(dataset, "corrections", must_exist=False)
    if table.suffix.lower() != ".csv":
        raise UserError(
            f"{dataset.card_path}: corrections is {dataset.card.corrections}; adopt writes CSV, so "
            "save the table as .csv, and name that"
        )
    refuse_outputs({"corrections": table}, files)
    refuse_words(dataset, [one for own in crops.values() for one in own])
    listing = list_images(dataset.folder)
    rule = read_params("manifest", ManifestParameters).rule
    before = read_label_source(dataset, listing, rule).labels
    rows = read_adopted(dataset, listing) if table.exists() and table.stat().st_size else {}
    earlier = {path: int(row[0]) for path, row in rows.items()}
    refuse(
        f"{table}: label {earlier[path]} of {path}, and {own[0].label} by {own[0].reader} in "
        f"{own[0].table}; remove one of the two rows"
        for path, own in crops.items()
        if earlier.get(path, own[0].label) != own[0].label
    )
    for path, own in crops.items():
        if not rows.get(path, ("", ""))[1]:
            rows[path] = as_row(own)
    given = {path: own[0].label for path, own in crops.items()}
    return Adopted(dataset, table, rows, before | earlier, given)


def refuse_words(dataset: Dataset, labels: Iterable[SavedLabel]) -> None:
    """Refuse classes that have no word of the card, no default, and none that clearly means it."""
    ours, standard = (
        [PurePosixPath(name).name.replace("_", " ") for name in names]
        for names in (dataset.card.classes or CLASS_NAMES, CLASS_NAMES)
    )
    words = {(one.table, one.word, one.label): None for one in labels}
    refuse(
        f"{table}: class is {quoted(word)} for {label}; in {dataset.card_path} it is "
        f"{quoted(ours[label])}"
        for table, word, label in words
        if as_key(word) not in (as_key(ours[label]), as_key(standard[label]))
        and not (order_doubt(word, "") if label else names_the_others(word))
    )


def find_crops(
    dataset: Dataset, listing: Listing, labels: Sequence[SavedLabel]
) -> dict[str, list[SavedLabel]]:
    """Return the labels of each crop by its path in the dataset; refuse any that do not fit."""
    names = Names(listing.images, dataset.folder, what="crops", unread=listing.unread)
    refuse(
        f"{one.table}: {names.problem(one.path)}"
        for one in labels
        if len(names.find(one.path)) != 1
    )
    crops = by_crop(one.model_copy(update={"path": names.find(one.path)[0]}) for one in labels)
    problems = []
    for path, own in crops.items():
        by_label = {one.label: f"{one.label} by {one.reader} in {one.table}" for one in own}
        if len(by_label) > 1:
            said = " and ".join(by_label[label] for label in (0, 1))
            problems.append(f"{path} is {said}; decide it together, and give one label")
    digests = on_all_cores(
        lambda path: pixel_digest(load_image(locate(dataset.folder, path))),
        [(path,) for path in crops],
        "checking",
    )
    problems += [
        f"{own[0].table}: {path} had other pixels on the page than {dataset.folder / path}"
        for (path, own), digest in zip(crops.items(), digests)
        if own[0].pixels_sha256 != digest
    ]
    refuse(problems)
    return crops


def read_adopted(dataset: Dataset, listing: Listing) -> dict[str, tuple[str, ...]]:
    """Return the label of each earlier correction and what is known about it, by path."""
    labels = read_corrections(dataset, dict.fromkeys(listing.images))
    table = find_table(dataset, "corrections")
    found = read_laboratory_table(table, (NAME_COLUMNS, LABEL_COLUMNS))
    header = [column.strip() for column in found.header]
    if more := set(header) - {*NAME_COLUMNS, *LABEL_COLUMNS, *ABOUT, ""}:
        raise UserError(
            f"{table}: the column {quoted(min(more))} would be lost; a table that adopt writes has "
            f"path, label, {', '.join(ABOUT)}"
        )
    names, rows = Names(listing.images, dataset.folder), {}
    for row in found.values:
        cells = dict(zip(header, row))
        named = next(cells[name] for name in NAME_COLUMNS if cells.get(name))
        (path,) = names.find(named)
        rows[path] = (str(labels[path]), *(from_cell(cells.get(name, "")) for name in ABOUT))
    return rows


def as_row(own: Sequence[SavedLabel]) -> tuple[str, ...]:
    """Return the row of a crop whose labels agree."""
    readers, date = sorted({one.reader for one in own}), max(one.date for one in own)
    blind = int(all(one.blind for one in own))
    return (str(own[0].label), ", ".join(readers), str(date), str(blind), own[0].pixels_sha256)


def say(dataset: Dataset, before: dict[str, int], given: dict[str, int]) -> None:
    """Print what the labels change."""
    changed = Counter((before.get(path), label) for path, label in given.items())
    kinds = {
        "confirm": changed[0, 0] + changed[1, 1],
        "change 0 to 1": changed[0, 1],
        "change 1 to 0": changed[1, 0],
        "are the first of their crop": changed[None, 0] + changed[None, 1],
    }
    print(f"{len(given)} labels: {', '.join(f'{count} {kind}' for kind, count in kinds.items())}")
    after = before | given
    print(
        f"{dataset.folder}: {sum(before.values())} of {len(before)} crops were globally sclerotic; "
        f"now {sum(after.values())} of {len(after)}"
    )


if __name__ == "__main__":
    run_program(main)
