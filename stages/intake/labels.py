"""The label of each image: from its folder or from a table, and as corrected."""

import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from fnmatch import translate
from pathlib import Path, PurePosixPath

from stages.base.errors import UserError, refuse, warn
from stages.base.parameters import quoted
from stages.dataset.card import Dataset
from stages.dataset.cohort import CLASS_NAMES
from stages.dataset.polarity import names_the_others
from stages.dataset.slides import nfc
from stages.intake.listing import Listing, is_left_behind, refuse_leading_out
from stages.intake.names import Names
from stages.intake.spreadsheets import check_names
from stages.intake.tables import MissingColumn, missing, read_rows

# What spreadsheets and databases write for 1 and 0.
WORDS = {"true": 1, "false": 0, "t": 1, "f": 0, "yes": 1, "no": 0, "y": 1, "n": 0}
# The columns of a table of labels, and of one of corrections, such as the page of judged crops
# saves.
LABELS, CORRECTIONS = ("name", "ground truth"), ("path", "label")
Groups = dict[str, tuple[str | None, str | None]]


class Labels:
    """The labels that a table gives to files: each file one, each row one file."""

    def __init__(self, table: Path, names: Names):
        self.table, self.names = table, names
        self.labels: dict[str, int] = {}
        self.problems: list[str] = []
        self.texts: dict[str, int] = {}
        # The files of which a row nearly has the name: that is said already.
        self.nearly: set[str] = set()

    def add(self, line: int, name: str, text: str) -> str | None:
        """Take a row, or note what is wrong with it; return the path of the file that it labels."""
        found = self.names.find(name)
        here = f"{self.table}, line {line}: "
        if len(found) != 1:
            self.problems.append(here + self.names.problem(name))
            self.nearly.update(self.names.likely(name))
            return None
        path, text = found[0], text.strip()
        label = as_label(text)
        if label is None:
            self.problems.append(f"{here}the label of {name} is {quoted(text)}; it must be 0 or 1")
        elif path in self.labels:
            both = self.labels[path] != label
            self.problems.append(
                f"{here}{name} stands there twice{', under both labels' if both else ''}"
            )
        else:
            self.labels[path] = self.texts[text] = label
        return path

    def finish(self, further: Sequence[str] = ()) -> dict[str, int]:
        """Return the labels by path; raise `UserError` for all that was wrong, and `further`
        problems.
        """
        refuse([*self.problems, *further])
        if taken := self.texts.keys() - {"0", "1"}:
            words = ", ".join(f"{quoted(text)} for {self.texts[text]}" for text in sorted(taken))
            print(f"warning: {self.table}: as labels are taken {words}", file=sys.stderr)
        return self.labels


def as_label(text: str) -> int | None:
    """Return the label that a text means without a doubt: 1, 1.0, TRUE, yes; None of any other.

    >>> [as_label(text) for text in ("1", "0.0", "TRUE", "no", "2", "")]
    [1, 0, 1, 0, None, None]
    """
    if re.fullmatch(r"[01]([.,]0*)?", text, re.ASCII):
        return int(text[0])
    return WORDS.get(text.casefold())


def labels_from_folders(dataset: Dataset, images: Sequence[str]) -> dict[str, int]:
    """Return the label of each image by the deepest of the class folders that it is in.

    Raises:
        UserError: a class folder is not there or not read, an image is in none or in both, or an
            image of one name, where the name tells the slide, stands in both.
    """
    classes = [_matcher(name) for name in dataset.card.classes or []]
    labels, stray = {}, []
    depths: dict[PurePosixPath, list[int]] = {}
    for path in images:
        folder = PurePosixPath(path).parent
        if folder not in depths:
            around = [PurePosixPath(nfc(str(one))) for one in (folder, *folder.parents)]
            depths[folder] = [
                max((len(one.parts) for one in around if fits(one)), default=-1) for fits in classes
            ]
        of_0, of_1 = depths[folder]
        if of_0 != of_1:
            labels[path] = int(of_1 > of_0)
        else:
            where = "both of" if of_0 >= 0 else "neither of"
            stray.append(
                f"{dataset.folder / path} is in {where} the class folders {' and '.join(dataset.card.classes or [])}"
            )
    _refuse_missing(dataset, labels)
    refuse(stray)
    if dataset.card.pattern and not dataset.card.pattern.of_path:
        _refuse_same_names(dataset, labels)
    _say(labels, [f"in {dataset.folder / name}" for name in dataset.card.classes or []])
    return labels


def _say(labels: dict[str, int], where: Sequence[str]) -> None:
    """Print what stands for label 0 and for label 1, with counts and an example: nothing else shows
    that they are inverted.
    """
    for label, name in enumerate(CLASS_NAMES):
        paths = [path for path, one in labels.items() if one == label]
        example = f", such as {min(paths)}" if paths else ""
        print(
            f"label {label}, {name.replace('_', ' ')}: {len(paths)} {where[label]}{example}",
            flush=True,
        )


def _matcher(name: str) -> Callable[[PurePosixPath], bool]:
    """Return what tells whether a folder is the class folder `name`, in which * stands for any
    folder.
    """
    parts = [
        re.compile(translate(re.sub(r"([?[])", r"[\1]", part)))
        for part in PurePosixPath(nfc(name)).parts
    ]
    return lambda folder: (
        len(folder.parts) == len(parts) and all(map(re.Pattern.match, parts, folder.parts))
    )


def _refuse_missing(dataset: Dataset, labels: dict[str, int]) -> None:
    for label, name in enumerate(dataset.card.classes or []):
        if label in labels.values():
            continue
        if hidden := [part for part in PurePosixPath(name).parts if is_left_behind(part)]:
            raise dataset.error(
                "classes",
                f"{hidden[0]} is passed over, as all that is hidden or that file systems leave behind",
            )
        folders = [entry for entry in dataset.folder.rglob("*") if entry.is_dir()]
        inside = [folder.relative_to(dataset.folder) for folder in folders]
        if not any(
            _matcher(name)(PurePosixPath(nfc(folder.as_posix()))) for folder in [Path("."), *inside]
        ):
            deeper = any(nfc(folder.name) == nfc(name) for folder in inside)
            present = (
                ", ".join(
                    sorted(
                        str(folder)
                        for folder in inside
                        if len(folder.parts) == 1 and not is_left_behind(folder.name)
                    )
                )
                or "none"
            )
            hint = (
                f"; further down there are some: '*/{name}' names them"
                if deeper
                else f"; there are {present}"
            )
            raise dataset.error("classes", f"there is no folder {dataset.folder / name}{hint}")
        warn(f"no image of label {label}", [str(dataset.folder / name)])


def _refuse_same_names(dataset: Dataset, labels: dict[str, int]) -> None:
    by_name = defaultdict(list)
    for path in labels:
        by_name[nfc(PurePosixPath(path).name)].append(path)
    refuse(
        [
            f"{dataset.folder / paths[0]} and {paths[-1]}: the same file name stands under both labels; if these are two "
            "glomeruli, let `group:` see the folders, with a /"
            for paths in by_name.values()
            if len({labels[path] for path in paths}) == 2
        ]
    )


def labels_from_table(dataset: Dataset, listing: Listing) -> tuple[dict[str, int], Groups]:
    """Return the label of each image, and (slide, site) where the table has columns for them."""
    table, columns = dataset.folder / str(dataset.card.labels), dataset.card.columns
    assert columns is not None
    named = {key: column for key, column in columns.model_dump().items() if column is not None}
    refuse_leading_out(dataset, "labels", table)
    try:
        rows = read_rows(table, list(dict.fromkeys(named.values())))
    except FileNotFoundError:
        raise dataset.error("labels", f"there is no file {table}") from None
    except MissingColumn as error:
        key = next(key for key, column in named.items() if column == error.column)
        raise dataset.error(
            f"columns.{key}", f"{table} has no such column; {error.there}"
        ) from None
    labels = Labels(table, Names(listing.images, "the folder", unread=listing.unread))
    groups: Groups = {}
    without_row, problems = set(listing.images), []
    for key in ("slide", "site"):
        if key in named:
            check_names(
                named[key],
                ((row.fields[named[key]].strip(), f"{table}, line {row.line}") for row in rows),
            )
    for line, field in rows:
        slide, site = (
            nfc(field[named[key]].strip()) if key in named else None for key in ("slide", "site")
        )
        if slide == "" or site == "":
            problems.append(f"{table}, line {line}: no {'slide' if slide == '' else 'site'}")
        if path := labels.add(line, field[named["name"]], field[named["label"]]):
            without_row.discard(path)
            groups[path] = (slide, site)
    problems += [
        f"{dataset.folder / path} has no row in {table}"
        for path in sorted(without_row - labels.nearly)
    ]
    found, inverted = labels.finish(problems), dataset.card.inverted
    if inverted:
        found = {path: 1 - label for path, label in found.items()}
    texts = [
        " or ".join(text for text, meant in sorted(labels.texts.items()) if meant == one ^ inverted)
        for one in (0, 1)
    ]
    _say(
        found,
        [
            f"with {text or 'nothing'} in the column {quoted(columns.label)} of {table}"
            for text in texts
        ],
    )
    return found, groups


def read_corrections(dataset: Dataset, labels: dict[str, int]) -> dict[str, int]:
    """Return the labels that the card's table of corrections gives, by path."""
    if dataset.card.corrections is None:
        return {}
    table = dataset.folder / dataset.card.corrections
    corrections = Labels(table, Names(labels, dataset.folder))
    refuse_leading_out(dataset, "corrections", table)
    try:
        rows = read_rows(table, CORRECTIONS)
    except FileNotFoundError:
        raise dataset.error("corrections", f"there is no file {table}") from None
    for line, row in rows:
        corrections.add(line, row["path"], row["label"])
    return corrections.finish()


def read_few_labels(
    table: Path, name_column: str, label_column: str, paths: Sequence[str]
) -> dict[str, int]:
    """Return the labels that a table gives to some crops; each of its rows must fit one. Raises
    `UserError` as `read_labels`.
    """
    labels = Labels(table, Names(paths, "the folder of the crops", what="crops"))
    for line, name, label in _rows_of(table, name_column, label_column):
        labels.add(line, name, label)
    return labels.finish()


def _rows_of(table: Path, name_column: str, label_column: str) -> Iterator[tuple[int, str, str]]:
    """Return (line, name, label) of a table's rows; of one of corrections, too, where no other
    columns were asked for.
    """
    columns = (name_column, label_column)
    if names_the_others(label_column):
        raise UserError(
            f"{table}: the 1 of the column {quoted(label_column)} seems to be for glomeruli that are not sclerotic; "
            "a column of labels must hold 1 for the sclerotic ones, and be called so"
        )
    try:
        try:
            rows = read_rows(table, columns)
        except MissingColumn as error:
            if columns != LABELS or missing(error.header, CORRECTIONS):
                raise
            columns = CORRECTIONS
            rows = read_rows(table, columns)
    except FileNotFoundError:
        raise UserError(f"there is no file {table}") from None
    return ((line, row[columns[0]], row[columns[1]]) for line, row in rows)


def read_labels(
    table: Path, name_column: str, label_column: str, paths: Sequence[str]
) -> dict[str, int]:
    """Return the labels of crops, from a table that may hold more.

    Raises:
        UserError: the table or a column is missing, a label is neither 0 nor 1, a row fits several
            crops, or a crop has no label or two.
    """
    names = Names(paths, table.parent, what="crops")
    labels = Labels(table, names)
    elsewhere: dict[str, str] = {}
    for line, name, label in _rows_of(table, name_column, label_column):
        if names.find(name):
            labels.add(line, name, label)
        else:
            elsewhere |= {
                path: f"; is that of line {line}, {quoted(name)}, meant?"
                for path in names.likely(name)
            }
    lacking = [path for path in paths if path not in labels.labels] if not labels.problems else []
    return labels.finish(
        [f"{table} has no label of {path}{elsewhere.get(path, '')}" for path in lacking]
    )
