"""What the card of a dataset could say, guessed from the names of its files and columns."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from stages.base.errors import UserError
from stages.dataset.card import as_key
from stages.dataset.polarity import names_the_others, order_doubt
from stages.dataset.slides import nfc, slide_pattern
from stages.intake.names import Names
from stages.intake.tables import MissingColumn, read_laboratory_table

NAME_COLUMNS = ("name", "path", "file", "filename", "file name", "image", "crop", "datei")
LABEL_COLUMNS = ("label", "ground truth", "class", "diagnosis", "sclerotic", "klasse", "befund")
SLIDE_COLUMNS = ("slide", "patient", "case", "specimen", "biopsy", "fall", "präparat")
SITE_COLUMNS = ("site", "hospital", "center", "centre", "laboratory", "zentrum")
# From the most to the least specific; of folders, if names say nothing.
TEMPLATES = ("{slide}-{number}", "{slide}_{number}", "{slide} {number}", "{slide}.{number}")
OF_FOLDERS = ("*/{slide}/*", "{slide}/*/*")
ANY_END = ("{slide}_*", "{slide}-*")


class TableColumns(NamedTuple):
    """A table of labels: its name in the folder, its columns, and the texts of its labels."""

    table: str
    name: str
    label: str
    slide: str | None
    site: str | None
    texts: Counter[str]


def propose_classes(paths: Iterable[str]) -> list[str] | None:
    """Return the two class folders, of label 0 first; None unless there are exactly two.

    `*/name` is the folder `name` in the folder of any slide.

    Raises:
        UserError: which of the two is the sclerotic one cannot be told from their names.
    """
    parents = [PurePosixPath(path).parts[:-1] for path in paths]
    if not all(parents):
        return None
    for names in ({one[0] for one in parents}, {f"*/{one[-1]}" for one in parents if len(one) > 1}):
        if len(names) == 2:
            return in_order(*sorted(names))
    return None


def in_order(one: str, other: str) -> list[str]:
    """Return two classes, that of label 0 first. Raises `UserError` if it cannot be told."""
    if order_doubt(one, other):
        return [other, one]
    if order_doubt(other, one):
        return [one, other]
    raise UserError(
        f"{one} and {other}: it cannot be told which holds the globally sclerotic glomeruli; give "
        f"--classes and the other class first, such as `--classes {one} {other}`"
    )


def propose_columns(folder: Path, tables: Iterable[str], images: Sequence[str]) -> TableColumns:
    """Return the columns of the only table that names the images and has their labels.

    Raises:
        UserError: no table does, or several.
    """
    found, problems = [], []
    names = Names(images, folder)
    for table in tables:
        try:
            read = read_laboratory_table(folder / table, (NAME_COLUMNS,))
        except MissingColumn as error:
            problems.append(f"{folder / table}: no column of file names; {error.columns}")
            continue
        header = [str(one) for one in read.header]
        columns = {
            column: Counter(str(row[place]) for row in read.values)
            for place, column in enumerate(header)
        }
        name = _named(header, NAME_COLUMNS)
        label = _named(
            [one for one in header if one != name and _may_be_labels(columns[one])], LABEL_COLUMNS
        )
        if name and not label:
            pairs = [one for one in header if one != name and _may_be_labels(columns[one])]
            label = pairs[0] if len(pairs) == 1 else None
        if not (name and label):
            problems.append(f"{folder / table}: no column of labels; it has {', '.join(header)}")
            continue
        unknown = [one for one in columns[name] if len(names.find(one)) != 1]
        if unknown:
            problems.append(f"{folder / table}: {names.problem(unknown[0])}")
            continue
        slide, site = _named(header, SLIDE_COLUMNS), _named(header, SITE_COLUMNS)
        found.append(TableColumns(table, name, label, slide, site, columns[label]))
    if len(found) == 1:
        return found[0]
    several = f"{folder}: {' and '.join(one.table for one in found)} have labels; remove one"
    missing = f"{folder}: neither two class folders nor a table of labels"
    raise UserError(several if found else "\n".join([missing, *problems]))


def propose_words(columns: TableColumns) -> list[str] | None:
    """Return the words for labels 0 and 1, in this order; None if the table has 0 and 1.

    Raises:
        UserError: by its name, 1 in the column means not sclerotic; or the words do not tell.
    """
    if names_the_others(columns.label):
        raise UserError(
            f"{columns.table}: the column {columns.label!r} seems to be of glomeruli that are not "
            "sclerotic; write the card by hand, with `positive:`"
        )
    if all(text.strip() in ("0", "1") for text in columns.texts):
        return None
    return in_order(*sorted({as_key(text): text for text in columns.texts}.values()))


def propose_slides(paths: Sequence[str], classes: Sequence[str]) -> str | None:
    """Return a template by which the crops divide into slides of several crops; None without."""
    for templates in (TEMPLATES, OF_FOLDERS, ANY_END):
        fitting = {}
        for template in templates:
            found = slide_pattern(template).match_all(paths)
            slides = Counter(slide for slide, _ in found.values())
            # Neither a class nor the crop itself is a slide.
            if "" in slides or set(slides) & {nfc(PurePosixPath(one).name) for one in classes}:
                continue
            if 2 <= len(slides) <= 0.7 * len(paths):
                fitting[template] = len(slides)
        if fitting:
            # The one with the most slides; of equal ones, the first.
            return max(fitting, key=lambda one: fitting[one])
    return None


def _named(header: Iterable[str], wanted: Sequence[str]) -> str | None:
    known = {as_key(column): column for column in reversed([*header])}
    return next((known[name] for name in wanted if name in known), None)


def _may_be_labels(texts: Counter[str]) -> bool:
    """Return whether a column holds two texts, or only 0 and 1."""
    keys = {as_key(text) for text in texts}
    return "" not in keys and (len(keys) == 2 or keys <= {"0", "1"})
