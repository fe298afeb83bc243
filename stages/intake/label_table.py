"""The table that a card names: the label of each image, by one column or by those of several
readers, and perhaps its slide and site.
"""

from typing import NamedTuple

from stages.base.errors import UserError
from stages.base.parameters import quoted
from stages.dataset.card import Dataset
from stages.dataset.readings import NOT_READ, CropReadings
from stages.dataset.slides import nfc
from stages.intake.labels import Labels, labels_from_folders, print_counts
from stages.intake.listing import Listing, find_table
from stages.intake.names import Names
from stages.intake.readers import MAJORITY, Consensus, warn_of_opposite
from stages.intake.spreadsheets import check_names
from stages.intake.tables import MissingColumn, read_laboratory_table

WORDS_IN_CARD = (
    "; if these are words for the classes, add `classes: [<word of label 0>, <word of label 1>]` "
    "to the card"
)
Groups = dict[str, tuple[str | None, str | None]]


class TableLabels(NamedTuple):
    """What a table of labels says of each image, by path.

    Attributes:
        labels: of the images that have one: with several readers, those with a consensus.
        groups: (slide, site), as far as the table has columns for them.
        readings: the label by each reader, if the card names several.
    """

    labels: dict[str, int]
    groups: Groups
    readings: dict[str, CropReadings]


def read_label_source(
    dataset: Dataset, listing: Listing, consensus: Consensus = MAJORITY
) -> TableLabels:
    """Return the label of each image by what the card names: a table, or else class folders."""
    if dataset.card.labels is None:
        return TableLabels(labels_from_folders(dataset, listing.images), {}, {})
    return labels_from_table(dataset, listing, consensus)


def labels_from_table(
    dataset: Dataset, listing: Listing, consensus: Consensus = MAJORITY
) -> TableLabels:
    """Return what the table of labels says of each image.

    Args:
        consensus: the rule by which the labels of several readers become one.
    """
    columns = dataset.card.columns
    assert columns is not None
    readers = columns.of_readers
    if readers and consensus.reader and consensus.reader not in readers:
        raise UserError(
            f"params.yaml: manifest.consensus is {quoted(str(consensus))}; the readers in "
            f"{dataset.card_path} are {', '.join(map(quoted, readers))}"
        )
    named = columns.model_dump(exclude={"readers"}, exclude_none=True)
    table = find_table(dataset, "labels")
    try:
        rows = read_laboratory_table(table, list(dict.fromkeys([*named.values(), *readers]))).rows
    except MissingColumn as error:
        keys = [key for key, column in named.items() if column == error.wanted]
        what = "such column" if keys else f"column {error.wanted!r}"
        key = keys[0] if keys else "readers"
        raise dataset.error(f"columns.{key}", f"{table} has no {what}; {error.columns}") from None
    for key in ("slide", "site"):
        if column := named.get(key):
            cells = ((row.fields[column].strip(), f"{table}, line {row.line}") for row in rows)
            check_names(column, cells)
    names = Names(listing.images, "the folder", unread=listing.unread)
    labels = Labels(table, names, dataset.card.words, WORDS_IN_CARD)
    groups: Groups = {}
    without_row, problems = set(listing.images), []
    for line, fields in rows:
        slide, site = (
            nfc(fields[named[key]].strip()) if key in named else None for key in ("slide", "site")
        )
        if slide == "" or site == "":
            problems.append(f"{table}, line {line}: no {'slide' if slide == '' else 'site'}")
        name = fields[named["name"]]
        path = (
            labels.add_readings(line, name, {reader: fields[reader] for reader in readers})
            if readers
            else labels.add(line, name, fields[named["label"]])
        )
        if path:
            without_row.discard(path)
            groups[path] = (slide, site)
    problems += [
        f"{dataset.folder / path} has no row in {table}"
        for path in sorted(without_row - labels.nearly)
    ]
    found, readings, inverted = labels.finish(problems), labels.readings, dataset.card.inverted
    if inverted:
        found = {path: 1 - label for path, label in found.items()}
        readings = {
            path: tuple(one if one == NOT_READ else 1 - one for one in row)
            for path, row in readings.items()
        }
    if readers:
        warn_of_opposite(table, readers, readings)
        decided = {path: consensus.label(readers, row) for path, row in readings.items()}
        found = {path: label for path, label in decided.items() if label is not None}
        where = f"in the columns {', '.join(map(quoted, readers))} of {table}, by {consensus}"
    else:
        where = f"in the column {quoted(columns.label)} of {table}"
    texts = [
        " or ".join(text for text, meant in sorted(labels.texts.items()) if meant == one ^ inverted)
        for one in (0, 1)
    ]
    print_counts(found, [f"with {text or 'nothing'} {where}" for text in texts])
    return TableLabels(found, groups, readings)
