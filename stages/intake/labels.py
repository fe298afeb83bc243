"""The label of each image: from its folder or from a table, and as corrected."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import translate
from pathlib import Path, PurePosixPath

from stages.base.errors import UserError, refuse, warn
from stages.base.files import from_cell
from stages.base.parameters import quoted
from stages.dataset.card import Dataset, as_key
from stages.dataset.cohort import CLASS_NAMES
from stages.dataset.polarity import names_the_others
from stages.dataset.readings import NOT_READ, CropReadings
from stages.dataset.slides import nfc
from stages.images.archives import is_ignored
from stages.intake.listing import find_table
from stages.intake.names import Names
from stages.intake.tables import read_laboratory_table

# What spreadsheets and databases write for 1 and 0.
WORDS = {"true": 1, "false": 0, "t": 1, "f": 0, "yes": 1, "no": 0, "y": 1, "n": 0}
# Of more texts that are no labels, or different ones, the rest is only counted.
LISTED = 5
# The columns of names and of labels, unless others are given. Every table may have either or both.
NAME_COLUMNS, LABEL_COLUMNS = ("name", "path"), ("label", "ground truth")
PIXELS_COLUMN = "pixels_sha256"  # Of the picture that was labeled.


class Labels:
    """The labels that the rows of a table give to files: one row per file."""

    def __init__(
        self,
        table: Path,
        names: Names,
        words: Mapping[str, int] | None = None,
        hint: str = "",
    ):
        """
        Args:
            words: the labels that texts mean, by `as_key`; None for 0, 1 and what is written so.
            hint: what to do about other texts.
        """
        self.table, self.names, self.words, self.hint = table, names, words, hint
        self.allowed = "0 or 1" if words is None else " or ".join(map(quoted, words))
        # Texts that mean no label, how often each occurs, and what is said of the first ones.
        self.others: Counter[str] = Counter()
        self.of_others: list[str] = []
        self.labels: dict[str, int] = {}
        self.readings: dict[str, CropReadings] = {}
        self.problems: list[str] = []
        self.texts: dict[str, int] = {}
        # Files that a row nearly names; the problem of that row already mentions them.
        self.nearly: set[str] = set()

    def add(self, line: int, name: str, text: str) -> str | None:
        """Take a row, or note what is wrong with it; return the path of the file that it labels."""
        path, text = self._find(line, name), text.strip()
        label = self._label(text)
        if path is None:
            return None
        if label is None:
            self._note_other(line, f"the label of {name} is", text, self.allowed)
        elif path in self.labels:
            both = ", under both labels" if self.labels[path] != label else ""
            self.note(line, f"{name} appears twice{both}")
        else:
            self.labels[path] = self.texts[text] = label
        return path

    def add_readings(self, line: int, name: str, texts: dict[str, str]) -> str | None:
        """Take a row like `add`, with the text of each reader, empty without a label."""
        if (path := self._find(line, name)) is None:
            return None
        labels = {reader: self._label(text.strip()) for reader, text in texts.items()}
        for reader, text in texts.items():
            if (label := labels[reader]) is not None:
                self.texts[text.strip()] = label
            elif text.strip():
                said = f"the label of {name} by {reader} is"
                self._note_other(line, said, text.strip(), f"{self.allowed}, or empty")
        if path in self.readings:
            self.note(line, f"{name} appears twice")
        elif not any(map(str.strip, texts.values())):
            self.note(line, f"no reader has a label of {name}; at least one must")
        self.readings[path] = tuple(NOT_READ if one is None else one for one in labels.values())
        return path

    def _find(self, line: int, name: str) -> str | None:
        found = self.names.find(name)
        if len(found) == 1:
            return found[0]
        self.note(line, self.names.problem(name))
        self.nearly.update(self.names.likely(name))
        return None

    def _label(self, text: str) -> int | None:
        return as_label(text) if self.words is None else self.words.get(as_key(text))

    def _note_other(self, line: int, said: str, text: str, allowed: str) -> None:
        self.others[text] += 1
        if len(self.of_others) <= LISTED:
            problem = f"{said} {quoted(text)}; it must be {allowed}"
            self.of_others.append(f"{self.table}, line {line}: {problem}")

    def _other_texts(self) -> list[str]:
        """Return a line for each text that is no label, or one line for all if they are many."""
        if len(self.of_others) <= LISTED:
            return self.of_others
        listed = [
            f"{quoted(text) if text else 'empty'} ({count})"
            for text, count in self.others.most_common(LISTED)
        ]
        more = f" and {rest} more" if (rest := len(self.others) - LISTED) > 0 else ""
        return [
            f"{self.table}: {self.others.total()} labels are not {self.allowed}: "
            f"{', '.join(listed)}{more}{self.hint}"
        ]

    def note(self, line: int, problem: str) -> None:
        self.problems.append(f"{self.table}, line {line}: {problem}")

    def finish(self, further: Iterable[str] = ()) -> dict[str, int]:
        """Return the labels by path; refuse everything that was wrong, and `further` problems."""
        refuse([*self.problems, *self._other_texts(), *further])
        if self.words is None and (words := self.texts.keys() - {"0", "1"}):
            said = ", ".join(f"{quoted(text)} as {self.texts[text]}" for text in sorted(words))
            warn(f"{self.table}: read {said}")
        return self.labels


def as_label(text: str) -> int | None:
    """Return the label that a text clearly means, such as 1, 1.0, TRUE or yes; else None.

    >>> [as_label(text) for text in ("1", "0.0", "TRUE", "no", "2", "")]
    [1, 0, 1, 0, None, None]
    """
    if re.fullmatch(r"[01]([.,]0*)?", text, re.ASCII):
        return int(text[0])
    return WORDS.get(text.casefold())


def read_labels(
    table: Path,
    names: Names,
    name_column: str | None = None,
    label_column: str | None = None,
    *,
    of_all: bool = False,
    pixels: Mapping[str, str | None] | None = None,
) -> dict[str, int]:
    """Return the labels that a table gives to files, by path.

    Args:
        table: has the column `name` or `path`, and `label` or `ground truth`; if it has both of a
            kind, they must agree where neither is empty.
        names: the files.
        name_column: read instead of `name` and `path`.
        label_column: read instead of `label` and `ground truth`.
        of_all: whether each file must have a label, and rows of other files are ignored. Otherwise
            each row must name one of the files.
        pixels: the `pixel_digest` of each file, by path, empty if unknown. A digest in the table,
            as `adopt` writes it, must be the same: nobody has labeled another picture.

    Raises:
        UserError: the table or a column is missing, columns disagree, a label is neither 0 nor 1,
            a row matches several files or another picture, or a file has two labels.
    """
    if label_column and names_the_others(label_column):
        raise UserError(
            f"{table}: the 1 of the column {quoted(label_column)} seems to mean not sclerotic; "
            "a column of labels must hold 1 for the sclerotic glomeruli, and be named so"
        )
    wanted = (
        (name_column,) if name_column else NAME_COLUMNS,
        (label_column,) if label_column else LABEL_COLUMNS,
    )
    try:
        rows = read_laboratory_table(table, wanted, [PIXELS_COLUMN] if pixels else []).rows
    except FileNotFoundError:
        raise UserError(f"{table} does not exist") from None
    labels = Labels(table, names)
    elsewhere: dict[str, str] = {}
    for line, fields in rows:
        in_columns = [{one: fields[one] for one in kind if one in fields} for kind in wanted]
        name, differ = _agreed(in_columns[0], lambda text: set(names.find(text)))
        if of_all and not (differ or names.find(name)):
            hint = f"; did you mean line {line}, {quoted(name)}?"
            elsewhere |= dict.fromkeys(names.likely(name), hint)
            continue
        text, labels_differ = _agreed(in_columns[1], lambda text: {as_label(text.strip())})
        if problem := differ or labels_differ:
            labels.note(line, problem)
        elif path := labels.add(line, name, text):
            digest = from_cell(fields.get(PIXELS_COLUMN, "")).strip().lower()
            if digest and pixels and digest != (pixels[path] or digest):
                labels.note(
                    line,
                    f"{quoted(name)} is another picture than the one that was corrected; review it "
                    f"and remove the line, or empty its {PIXELS_COLUMN}",
                )
    # Problems of rows explain why crops have no label.
    lacking = names.paths if of_all and not (labels.problems or labels.others) else []
    return labels.finish(
        f"{table}: no label of {path}{elsewhere.get(path, '')}"
        for path in lacking
        if path not in labels.labels
    )


def _agreed(fields: dict[str, str], meanings: Callable[[str], set]) -> tuple[str, str]:
    """Return the text of the columns of one kind in a row, and how they disagree, if they do.

    Args:
        fields: the texts, by column; an empty one counts only if all are empty.
        meanings: returns what a text may mean. Two texts agree if they may mean the same.
    """
    filled = {column: text for column, text in fields.items() if text.strip()} or fields
    texts = list(filled.values())
    possible = [meanings(text) for text in texts]
    if any(possible) and not set.intersection(*possible):
        said = [f"{column} is {quoted(text.strip())}" for column, text in filled.items()]
        return texts[0], f"{' and '.join(said)}; they must agree, or keep one of the columns"
    # The text with the fewest meanings: a path, if the other is only the last part of it.
    return min(zip(texts, possible), key=lambda pair: len(pair[1]))[0], ""


def read_corrections(dataset: Dataset, pixels: Mapping[str, str | None]) -> dict[str, int]:
    """Return the labels, by path, in the table of corrections that the card names, if it does.

    Args:
        pixels: the `pixel_digest` of each image, by path; empty if unknown.

    Raises:
        UserError: as `read_labels`.
    """
    if dataset.card.corrections is None:
        return {}
    table = find_table(dataset, "corrections")
    return read_labels(table, Names(pixels, dataset.folder), pixels=pixels)


def labels_from_folders(dataset: Dataset, images: Sequence[str]) -> dict[str, int]:
    """Return the label of each image: that of the deepest class folder that it is in.

    Raises:
        UserError: a class folder does not exist or is ignored, an image is in neither or both, or
            an image of the same name is in both and only the name tells the slide.
    """
    classes = dataset.card.classes or []
    matchers = [_matcher(name) for name in classes]
    labels, stray = {}, []
    depths: dict[PurePosixPath, list[int]] = {}
    for path in images:
        folder = PurePosixPath(path).parent
        if folder not in depths:
            around = [PurePosixPath(nfc(str(one))) for one in (folder, *folder.parents)]
            depths[folder] = [
                max((len(one.parts) for one in around if fits(one)), default=-1)
                for fits in matchers
            ]
        of_0, of_1 = depths[folder]
        if of_0 != of_1:
            labels[path] = int(of_1 > of_0)
        else:
            where = f"{'both' if of_0 >= 0 else 'neither'} of the class folders"
            stray.append(f"{dataset.folder / path} is in {where} {' and '.join(classes)}")
    _refuse_missing_folders(dataset, labels)
    refuse(stray)
    if dataset.card.pattern and not dataset.card.pattern.of_path:
        by_name = defaultdict(list)
        for path in labels:
            by_name[nfc(PurePosixPath(path).name)].append(path)
        refuse(
            f"{dataset.folder / paths[0]} and {paths[-1]}: the same file name under both "
            "labels; if these are two glomeruli, let `group:` match the folders, with a /"
            for paths in by_name.values()
            if len({labels[path] for path in paths}) == 2
        )
    print_counts(labels, [f"in {dataset.folder / name}" for name in classes])
    return labels


def print_counts(labels: dict[str, int], where: Sequence[str]) -> None:
    """Print what each label stands for, with an example: nothing else shows an inversion."""
    for label, name in enumerate(CLASS_NAMES):
        paths = [path for path, one in labels.items() if one == label]
        example = f", such as {min(paths)}" if paths else ""
        name = name.replace("_", " ")
        print(f"label {label}, {name}: {len(paths)} {where[label]}{example}", flush=True)


def _matcher(name: str) -> Callable[[PurePosixPath], bool]:
    """Return whether a folder is the class folder `name`, in which * stands for any folder."""
    parts = [
        re.compile(translate(re.sub(r"([?[])", r"[\1]", part)))
        for part in PurePosixPath(nfc(name)).parts
    ]
    return lambda folder: (
        len(folder.parts) == len(parts) and all(map(re.Pattern.match, parts, folder.parts))
    )


def _refuse_missing_folders(dataset: Dataset, labels: dict[str, int]) -> None:
    for label, name in enumerate(dataset.card.classes or []):
        if label in labels.values():
            continue
        if ignored := [part for part in PurePosixPath(name).parts if is_ignored(part)]:
            raise dataset.error(
                "classes", f"{ignored[0]} is ignored, as all hidden and system files are; rename it"
            )
        entries = [entry for entry in dataset.folder.rglob("*") if entry.is_dir()]
        folders = [entry.relative_to(dataset.folder) for entry in entries]
        is_class = _matcher(name)
        if not any(is_class(PurePosixPath(nfc(one.as_posix()))) for one in [Path("."), *folders]):
            top = [one.name for one in folders if len(one.parts) == 1]
            there = ", ".join(sorted(one for one in top if not is_ignored(one))) or "none"
            deeper = any(nfc(one.name) == nfc(name) for one in folders)
            hint = f"write '*/{name}' for deeper ones" if deeper else f"the folders are {there}"
            raise dataset.error("classes", f"{dataset.folder / name} does not exist; {hint}")
        warn(f"no image of label {label}", [str(dataset.folder / name)])
