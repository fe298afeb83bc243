"""What each reader says of each crop: the columns `reader:<name>` of a table, one per reader."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from stages.base.files import damaged, from_cell, read_table

# The crops that are left out because their readers have no consensus.
NO_CONSENSUS = Path("metrics/no_consensus.csv")
PREFIX = "reader:"
NOT_READ = -1
# The labels of one crop, 0, 1 or NOT_READ, by each reader in the order of the card.
CropReadings = tuple[int, ...]


class Readings(NamedTuple):
    """The names of the readers, and their labels of each crop."""

    readers: list[str]
    of_crops: list[CropReadings]


def reader_columns(readers: Iterable[str]) -> list[str]:
    """Return the names of the columns."""
    return [PREFIX + reader for reader in readers]


def as_cells(labels: CropReadings) -> list[int | str]:
    """Return the cells of one crop, empty where a reader has not read it."""
    return ["" if label == NOT_READ else label for label in labels]


def read_readings(path: Path) -> Readings:
    """Return the readings in a table that a stage wrote, without readers if it has none.

    Raises:
        UserError: the table is damaged.
    """
    with open(path, encoding="utf-8", newline="") as file:
        columns = [name for name in next(csv.reader(file), []) if name.startswith(PREFIX)]
    cells = read_table(path, columns)
    if wrong := {cell for column in cells for cell in column} - {"", "0", "1"}:
        raise damaged(path, f"a reader's label is {min(wrong)!r}")
    labels = [[int(cell) if cell else NOT_READ for cell in column] for column in cells]
    readers = [from_cell(column).removeprefix(PREFIX) for column in columns]
    return Readings(readers, list(zip(*labels)))
