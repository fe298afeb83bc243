"""The tables of labels that readers save on the page of `predict --html`."""

import datetime
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from stages.base.errors import refuse
from stages.base.files import Sha256, from_cell
from stages.base.parameters import quoted
from stages.dataset.card import as_key
from stages.intake.tables import MissingColumn, read_laboratory_table

Text = Annotated[str, Field(min_length=1)]


class SavedLabel(BaseModel):
    """The label of a crop by a reader.

    Attributes:
        word: the class of the label in the words of the page.
        slide: empty if unknown.
        blind: whether the reader had not seen what is predicted.
        marked: how many crops of the page the reader has labeled, such as `12 of 60`.
        model: the first digits of the SHA-256 of its model.json.
        table: the file, for messages.
    """

    path: Text
    label: int = Field(ge=0, le=1)
    word: Text = Field(alias="class")
    slide: str
    reader: Text
    date: datetime.date
    blind: bool
    marked: str = Field(pattern=r"^\d+ of \d+$")
    model: Text
    pixels_sha256: Sha256
    table: Path

    @property
    def all_marked(self) -> bool:
        """Whether the reader has labeled all crops of the page."""
        marked, crops = map(int, self.marked.split(" of "))
        return marked >= crops


COLUMNS = [
    field.alias or name for name, field in SavedLabel.model_fields.items() if name != "table"
]


def read_saved_labels(table: Path) -> list[SavedLabel]:
    """Return the rows of a saved table.

    Raises:
        UserError: it is not as the page saves it, or one word stands for both labels.
    """
    found, problems = [], []
    try:
        rows = read_laboratory_table(table, COLUMNS).rows
    except FileNotFoundError:
        refuse([f"{table} does not exist"])
    for line, fields in rows:
        cells = {name: from_cell(text.strip()) for name, text in fields.items()}
        try:
            found.append(SavedLabel.model_validate(cells | {"table": table}))
        except ValidationError as error:
            first = error.errors()[0]
            column = str(first["loc"][0])
            said = f"{column} is {quoted(cells[column])}: {first['msg']}"
            problems.append(f"{table}, line {line}: {said}; save it on the page again")
    words = {(as_key(one.word), one.label) for one in found}
    if len({word for word, _ in words}) < len(words) or len(words) > 2:
        said = ", ".join(f"{quoted(word)} for {label}" for word, label in sorted(words))
        problems.append(f"{table}: class is {said}; each label must have one word")
    refuse(problems)
    return found


def find_saved_labels(table: Path) -> list[SavedLabel]:
    """Return the rows of a table that a page has saved; none of any other table."""
    try:
        return read_saved_labels(table)
    except MissingColumn:
        return []


def by_crop(labels: Iterable[SavedLabel]) -> dict[str, list[SavedLabel]]:
    """Return the labels of each crop, by its path, sorted.

    Raises:
        UserError: those of a crop are of other pixels or slides, or contradict each other and are
            by one reader.
    """
    crops: dict[str, list[SavedLabel]] = {}
    for one in labels:
        crops.setdefault(one.path, []).append(one)
    problems = []
    for path, own in crops.items():
        tables = " and ".join(dict.fromkeys(str(one.table) for one in own))
        for what, values in {
            "crops (pixels_sha256)": [one.pixels_sha256 for one in own],
            "slides": [one.slide for one in own],
        }.items():
            if len({*values}) > 1:
                problems.append(f"{tables}: {path} is of different {what}; give one of them")
        for reader in {one.reader for one in own}:
            if len({one.label for one in own if one.reader == reader}) > 1:
                problems.append(f"{tables}: {reader} has labeled {path} as 0 and as 1; keep one")
    refuse(sorted(problems))
    return dict(sorted(crops.items()))
