"""What the card of a dataset could say, guessed from the names of its files and columns."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from stages.base.errors import UserError, warn
from stages.dataset.card import as_key
from stages.dataset.polarity import names_the_others, order_doubt
from stages.dataset.slides import nfc, slide_pattern
from stages.intake.labels import LABEL_COLUMNS, as_label
from stages.intake.names import Names
from stages.intake.tables import MissingColumn, read_laboratory_table

NAME_COLUMNS = ("name", "path", "file", "filename", "file name", "image", "crop", "datei")
# The patient first: the slides of a patient must stay together.
SLIDE_COLUMNS = ("patient", "case", "fall", "specimen", "biopsy", "präparat", "slide")
SITE_COLUMNS = ("site", "hospital", "center", "centre", "laboratory", "zentrum")
_SCLEROSIS = re.compile(r"n?(gs|gsg|ggs)|(n|non|un)?(glomerulo|nephro|e)?s[ck]lero[st]\w*")
_FILLER = re.compile(r"is|label|class|gloms?|glomerul(us|i|ar|are)")
# Patients and sites are numbered, too, or have a letter.
_NUMBER_OR_LETTER = re.compile(r"\d+|(?<![^\W\d_])[^\W\d_](?![^\W\d_])")
# From the most to the least specific; of folders, if names say nothing.
TEMPLATES = ("{slide}-{number}", "{slide}_{number}", "{slide} {number}", "{slide}.{number}")
OF_FOLDERS = ("*/{slide}/*", "{slide}/*/*")
ANY_END = ("{slide}_*", "{slide}-*")


class TableColumns(NamedTuple):
    """A table of labels: its name in the folder, its columns, and the texts of its labels.

    Attributes:
        slides: the columns that may name the slide or patient, the one to take first.
    """

    table: str
    name: str
    label: str
    slides: list[str]
    site: str | None
    texts: Counter[str]


def propose_labels(
    folder: Path, tables: Sequence[str], images: Sequence[str], given: list[str] | None
) -> list[str] | TableColumns:
    """Return the class folders, that of label 0 first, or the columns of the table of labels.

    Args:
        given: the class folders, or the words in the table, if the user has given them.

    Raises:
        UserError: neither class folders nor a table give labels, or several do.
    """
    found, problems = _tables_of_labels(folder, tables, images)
    if given is None:
        classes = propose_classes(images)
    else:
        classes = given if not tables or _are_folders(given, images) else None
    if classes:
        for table in found:
            words = {as_key(text) for text in table.texts}
            if given is None or words >= set(map(as_key, given)):
                raise UserError(
                    f"{folder}: the folders {' and '.join(classes)} and the column "
                    f"{table.label!r} of {table.table} both give labels; move the table elsewhere, "
                    "or give --classes with the folders or with the two texts of the column, that "
                    "of the sclerotic ones last"
                )
            problems.append(f"{folder / table.table}: not used")
        warn("the labels are from the class folders", problems)
        return classes
    if len(found) == 1:
        return found[0]
    several = f"{folder}: {' and '.join(one.table for one in found)} have labels; remove one"
    missing = (
        f"{folder}: neither two class folders whose names tell the sclerotic one (otherwise give "
        "--classes with the other folder first) nor a table of labels"
    )
    raise UserError(several if found else "\n".join([missing, *problems]))


def propose_classes(paths: Iterable[str]) -> list[str] | None:
    """Return the two class folders, that of label 0 first; None unless their names tell it.

    `*/name` is the folder `name` in any folder, for example of a slide or site.

    Raises:
        UserError: the folders of several levels could be the classes.
    """
    parents = [PurePosixPath(path).parts[:-1] for path in paths]
    found = []
    for level in range(min(map(len, parents), default=0)):
        names = {"*/" * level + one[level] for one in parents}
        if len(names) == 2 and (classes := _in_order(*sorted(names))):
            found.append(classes)
    # Of case/GS and control/nonGS, the inner ones.
    of_sclerosis = [one for one in found if any(_speaks_of_sclerosis([name]) for name in one)]
    found = of_sclerosis or found
    if len(found) > 1:
        pairs = " or ".join(" ".join(one) for one in found)
        raise UserError(f"the class folders may be {pairs}; give --classes with the right two")
    return found[0] if found else None


def _are_folders(names: Iterable[str], paths: Iterable[str]) -> bool:
    """Return whether each name is a folder of the paths; * stands for any folder."""
    folders = {one.parts for path in paths for one in PurePosixPath(nfc(path)).parents}
    wanted = [PurePosixPath(nfc(name)).parts for name in names]
    return all(
        any(len(one) == len(parts) and all(map(fnmatchcase, one, parts)) for one in folders)
        for parts in wanted
    )


def _in_order(one: str, other: str) -> list[str] | None:
    """Return two classes, that of label 0 first; None if their words do not tell the order."""
    words = [_NUMBER_OR_LETTER.sub(" ", name) for name in (one, other)]
    if order_doubt(*words):
        return [other, one]
    return [one, other] if order_doubt(*reversed(words)) else None


def _tables_of_labels(
    folder: Path, tables: Iterable[str], images: Sequence[str]
) -> tuple[list[TableColumns], list[str]]:
    """Return the tables that label the images, and what the other tables lack."""
    found, problems = [], []
    names = Names(images, folder)
    for table in tables:
        try:
            read = read_laboratory_table(folder / table, (NAME_COLUMNS,))
        except MissingColumn as error:
            problems.append(f"{folder / table}: no column of file names; {error.columns}")
            continue
        except UserError as error:
            problems.append(str(error))
            continue
        header = [str(one) for one in read.header]
        columns = {
            column: Counter(str(row[place]) for row in read.values)
            for place, column in enumerate(header)
        }
        name = _named(header, NAME_COLUMNS)[0]
        labels = [one for one in header if one != name and _may_be_labels(one, columns[one])]
        if len(labels) != 1:
            said = (
                f"{' and '.join(map(repr, labels))} may be the labels; keep one of these columns"
                if labels
                else f"no column `label` of two values; it has {', '.join(header)}"
            )
            problems.append(f"{folder / table}: {said}")
            continue
        unknown = [one for one in columns[name] if len(names.find(one)) != 1]
        if unknown:
            problems.append(f"{folder / table}: {names.problem(unknown[0])}")
            continue
        slides, sites = _named(header, SLIDE_COLUMNS), _named(header, SITE_COLUMNS)
        site = sites[0] if sites else None
        found.append(TableColumns(table, name, labels[0], slides, site, columns[labels[0]]))
    return found, problems


def propose_words(columns: TableColumns) -> list[str] | None:
    """Return the words for labels 0 and 1, in this order; None if the table has 0 and 1, or yes
    and no.

    Raises:
        UserError: by its name, 1 in the column means not sclerotic; or the words do not tell.
    """
    if names_the_others(columns.label):
        raise UserError(
            f"{columns.table}: the column {columns.label!r} seems to be of glomeruli that are not "
            "sclerotic; write the card by hand, with `positive:`"
        )
    if all(as_label(text.strip()) is not None for text in columns.texts):
        return None
    one, other = sorted({as_key(text): text for text in columns.texts}.values())
    if words := _in_order(one, other):
        return words
    raise UserError(
        f"{one} and {other}: it cannot be told which is for the globally sclerotic glomeruli; give "
        f"--classes and the other class first, such as `--classes {one} {other}`"
    )


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


def _named(header: Iterable[str], wanted: Sequence[str]) -> list[str]:
    """Return the columns of wanted names, in that order; `patient_id` is `patient`."""
    columns = [*reversed([*header])]
    known = {re.sub("[ _-]?id$", "", as_key(column)): column for column in columns}
    known |= {as_key(column): column for column in columns}
    return [known[name] for name in wanted if name in known]


def _may_be_labels(column: str, texts: Counter[str]) -> bool:
    """Return whether a column has two texts, or 0 and 1, and it or they speak of sclerosis."""
    keys = {as_key(text) for text in texts}
    if "" in keys or not (len(keys) == 2 or all(as_label(key) is not None for key in keys)):
        return False
    return (
        as_key(column) in LABEL_COLUMNS
        or names_the_others(column)
        # Segmental sclerosis is not global.
        or (_speaks_of_sclerosis([column]) and "segment" not in as_key(column))
        or _speaks_of_sclerosis(texts)
    )


def _speaks_of_sclerosis(texts: Iterable[str]) -> bool:
    """Return whether texts have a word for sclerosis, and no word of unknown meaning."""
    plain = unicodedata.normalize(
        "NFKD", re.sub(r"([a-z])([A-Z])", r"\1 \2", " ".join(texts))
    ).casefold()
    letters = "".join(one for one in plain if not unicodedata.combining(one))
    words = re.findall(r"[^\W\d_]+", letters)
    return any(map(_SCLEROSIS.fullmatch, words)) and all(
        _SCLEROSIS.fullmatch(word) or _FILLER.fullmatch(word) or _in_order(word, "neutral")
        for word in words
    )
