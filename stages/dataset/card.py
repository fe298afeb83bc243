"""The card of a dataset, data/<name>.yaml: where labels, slides and sites come from."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator, model_validator

from stages.base.errors import UserError
from stages.base.parameters import Parameters, check, read_yaml
from stages.dataset.polarity import names_the_others, order_doubt
from stages.dataset.slides import NO_GROUP, SlidePattern, nfc, slide_pattern

# Folders and columns are often called 0 and 1, which without quotes are numbers in YAML.
TABLES = "labels"
Name = Annotated[str, BeforeValidator(lambda value: str(value) if type(value) is int else value)]


class Columns(Parameters):
    """The columns of the table of labels: file name, label (0 or 1), perhaps slide and site.

    Instead of `label`, several `readers` may each have a column, empty where they have no label.
    """

    name: Name
    label: Name | None = None
    readers: list[Name] | None = Field(default=None, min_length=2)
    slide: Name | None = None
    site: Name | None = None

    @model_validator(mode="after")
    def _labels_are_apart(self) -> "Columns":
        if (self.label is None) == (self.readers is None):
            raise ValueError(
                "it must have either `label:` or `readers:`, the columns of several readers' labels"
            )
        others = [one for one in (self.name, self.slide, self.site) if one is not None]
        if self.label in others:
            raise ValueError(
                f"label is {self.label!r}, as another column is; labels need a separate column"
            )
        if any(not name.strip() for name in self.of_readers):
            raise ValueError("readers has an empty name; each must name a column")
        # Columns are found in another case, too: two spellings could be one reader.
        keys = [as_key(name) for name in [*others, *self.of_readers]]
        for place, reader in enumerate(self.of_readers, len(others)):
            if keys[place] in keys[:place]:
                raise ValueError(
                    f"readers has {reader!r}, as another column is; each reader needs a separate "
                    "column"
                )
        return self

    @property
    def of_readers(self) -> list[str]:
        """The columns of the readers; empty if there is one column of labels."""
        return self.readers or []

    @property
    def of_labels(self) -> list[str]:
        """The columns that hold labels."""
        return [self.label] if self.label is not None else self.of_readers


class CardFields(Parameters):
    """The fields of a card: `classes`, `labels` or both; `group` or `columns.slide`.

    Attributes:
        classes: folders of labels 0 and 1; `*/sclerotic` is a folder in the folder of any patient.
            With `labels`, the words that the table has for labels 0 and 1.
        positive: the folder, or the value in the table, of the sclerotic ones.
        labels: a table in the dataset's folder, or else in data/labels/, as is `corrections`.
        corrections: a table of labels to use instead.
        group: a `SlidePattern`, or `none` if each crop is of another patient.
        locked_test: names of slides, or patterns such as `S26-*`, that no fold contains; see
            `split.test`.
        drawn: whether the crops are drawn, so that a model of them must not predict patients'.
    """

    title: str
    classes: list[Name] | None = Field(default=None, min_length=2, max_length=2)
    labels: str | None = None
    columns: Columns | None = None
    positive: Name | None = None
    corrections: str | None = None
    group: str | None = None
    locked_test: list[Name] | None = Field(default=None, min_length=1)
    source: str | None = None
    license: str | None = None
    citation: str | None = None
    drawn: bool = False

    @field_validator("classes")
    @classmethod
    def _folders(cls, classes: list[str] | None) -> list[str] | None:
        for name in classes or []:
            _check_inside(name)
        if classes and len({PurePosixPath(nfc(name)) for name in classes}) == 1:
            raise ValueError("label 0 and label 1 must differ")
        return classes

    @field_validator("labels", "corrections")
    @classmethod
    def _table(cls, table: str | None) -> str | None:
        if table is not None:
            _check_inside(table)
        return table

    @field_validator("group")
    @classmethod
    def _regular_expression(cls, group: str | None) -> str | None:
        if group is not None and group != NO_GROUP:
            slide_pattern(group)
        return group

    @model_validator(mode="after")
    def _labels_and_slides(self) -> "CardFields":
        if self.classes is None and self.labels is None:
            raise ValueError(
                "a card has either `classes: [folder of label 0, folder of label 1]` or "
                "`labels: <table>.csv`"
            )
        if self.labels and self.classes and len({as_key(name) for name in self.classes}) == 1:
            raise ValueError("the words of `classes` must differ by more than case and spaces")
        if (self.labels is None) != (self.columns is None):
            raise ValueError(
                "`columns:` (name and label, perhaps slide and site) goes with `labels:`, and only "
                "with it"
            )
        if self.group is None and not (self.columns and self.columns.slide):
            raise ValueError(
                "`group:` is missing: without it (or `columns.slide`) nothing keeps a patient's "
                "crops together"
            )
        return self

    @model_validator(mode="after")
    def _positive_class(self) -> "CardFields":
        if self.positive is not None:
            allowed = self.classes or ["0", "1"]
            if not any(nfc(self.positive) == nfc(name) for name in allowed):
                raise ValueError(
                    f"positive is {self.positive!r}; it must be {' or '.join(map(repr, allowed))}"
                )
        elif self.classes and (name := order_doubt(*self.classes)):
            first, second = self.classes
            raise ValueError(
                f"classes is [{first}, {second}], which makes {first!r} label 0, not sclerotic, "
                f"and {second!r} label 1; write [{second}, {first}], or which folder is the "
                f"sclerotic one: `positive: {name}`"
            )
        elif self.columns and (others := [*filter(names_the_others, self.columns.of_labels)]):
            key = "label is" if self.columns.label else "readers has"
            values = self.classes or ["0", "1"]
            raise ValueError(
                f"columns.{key} {others[0]!r}, whose 1 seems to be for glomeruli that "
                "are not sclerotic; say which value is for the sclerotic ones: `positive: "
                f"{values[0]}`, or `positive: {values[1]}`"
            )
        return self

    @property
    def inverted(self) -> bool:
        """Whether 0 in the table is the label of the sclerotic ones."""
        return self.words is None and self.labels is not None and self.positive == "0"

    @property
    def words(self) -> dict[str, int] | None:
        """The labels that words in the table mean, by `as_key`; None if it has 0 and 1."""
        if self.labels is None or self.classes is None:
            return None
        return {as_key(name): label for label, name in enumerate(self.classes)}

    @property
    def readers(self) -> list[str]:
        """The columns of several readers' labels; empty if each crop has one label."""
        return self.columns.of_readers if self.columns else []

    @property
    def pattern(self) -> SlidePattern | None:
        """The pattern of slides, if the card has one."""
        return None if self.group in (None, NO_GROUP) else slide_pattern(str(self.group))


def as_key(text: str) -> str:
    """Return a text without what spellings of one word differ by: case, spaces, Unicode forms."""
    return " ".join(nfc(text).split()).casefold()


def _check_inside(name: str) -> None:
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise ValueError("it must be a name inside the dataset's folder")


@dataclass(frozen=True)
class Dataset:
    """A folder of images with its card."""

    name: str
    folder: Path
    card_path: Path
    card: CardFields

    @property
    def tables(self) -> Path:
        """The folder of tables that git keeps, data/labels/, next to the dataset's own."""
        return self.folder.parent / TABLES

    def error(self, key: str, message: str) -> UserError:
        """Return an error that quotes the card's line of `key`, such as `columns.slide`."""
        node: Any = read_yaml(self.card_path, round_trip=True)
        *parents, last = key.split(".")
        for parent in parents:
            node = node[parent]
        line = node.lc.key(last)[0]
        text = self.card_path.read_text(encoding="utf-8").split("\n")[line].strip()
        return UserError(f"{self.card_path}, line {line + 1}: `{text}`: {message}")


def read_dataset(name: str, root: str | Path = "data") -> Dataset:
    """Return the dataset data/<name>/ with its card data/<name>.yaml.

    Raises:
        UserError: the folder or the card does not exist, or the card is invalid.
    """
    folder, card_path = Path(root) / name, Path(root) / f"{name}.yaml"
    if not card_path.is_file():
        cards = ", ".join(sorted(path.stem for path in Path(root).glob("*.yaml"))) or "none"
        raise UserError(
            f"{card_path} does not exist; params.yaml: data is {name!r}, and the datasets with a "
            f"card are: {cards}"
        )
    card = check(read_yaml(card_path), CardFields, str(card_path))
    if card.classes and card.positive is not None and nfc(card.positive) == nfc(card.classes[0]):
        card = card.model_copy(update={"classes": card.classes[::-1]})
    if not folder.is_dir():
        tracked = Path(f"{folder}.dvc")
        pull = f"`dvc pull {tracked}` brings it (unless .dvcignore holds a line for it: see there)"
        pull = f"{pull}; or " if tracked.is_file() else ""
        source = f" (source: {card.source})" if card.source else ""
        raise UserError(
            f"{folder} is not a folder; {pull}bring the images that {card_path} describes{source} "
            f"there, and `dvc add {folder}`"
        )
    return Dataset(name, folder, card_path, card)
