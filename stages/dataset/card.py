"""The card of a dataset, data/<name>.yaml: where labels, slides and sites come from."""

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator, model_validator

from stages.base.errors import UserError, refuse
from stages.base.parameters import DatasetName, Parameters, check, read_yaml
from stages.dataset.polarity import names_the_others, order_doubt
from stages.dataset.slides import NO_GROUP, SlidePattern, nfc, slide_pattern

# The folder in data/ of the tables of labels that git keeps.
TABLES = "labels"
# Folders and columns are often called 0 and 1, which without quotes are numbers in YAML.
Name = Annotated[str, BeforeValidator(lambda value: str(value) if type(value) is int else value)]
# What only the card of a joined dataset has, for all of its shards, and what both cards may have.
# Only those of the shards have the rest.
OF_THE_WHOLE = ("shards", "locked_test", "drawn")
ORIGIN = ("source", "license", "citation")


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
    """The fields of a card: `classes`, `labels` or both; `group` or `columns.slide`; or `shards`.

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
        shards: the folders in the dataset's folder that it joins, each of which has a card there.
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
    shards: list[DatasetName] | None = Field(default=None, min_length=1)

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

    @field_validator("shards")
    @classmethod
    def _apart(cls, shards: list[str] | None) -> list[str] | None:
        keys = [as_key(name) for name in shards or []]
        if twice := [name for name, key in zip(shards or [], keys) if keys.count(key) > 1]:
            raise ValueError(f"{' and '.join(twice)} are one name, or differ only by case")
        return shards

    @model_validator(mode="after")
    def _labels_and_slides(self) -> "CardFields":
        if self.shards is not None:
            of_shards = CardFields.model_fields.keys() - {"title", *ORIGIN, *OF_THE_WHOLE}
            if given := [key for key, value in self if key in of_shards and value is not None]:
                raise ValueError(
                    f"`{given[0]}:` does not go with `shards:`; it belongs in the card of each "
                    f"shard, such as {self.shards[0]}.yaml"
                )
            return self
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
    """A folder of images with its card, or several that are joined.

    Attributes:
        tables: the folder of its tables that git keeps, such as data/labels/mine/.
        shards: the datasets that this one joins, in `folder`; empty if it has none.
    """

    name: str
    folder: Path
    card_path: Path
    card: CardFields
    tables: Path
    shards: tuple["Dataset", ...] = ()

    @property
    def parts(self) -> tuple["Dataset", ...]:
        """The datasets with images: the shards, or this one."""
        return self.shards or (self,)

    @property
    def readers(self) -> list[str]:
        """The columns of several readers' labels, of all parts."""
        return list(dict.fromkeys(reader for part in self.parts for reader in part.card.readers))

    def error(self, key: str, message: str) -> UserError:
        """Return an error that quotes the card's line of `key`, such as `columns.slide`."""
        node: Any = read_yaml(self.card_path, round_trip=True)
        *parents, last = key.split(".")
        for parent in parents:
            node = node[parent]
        line = node.lc.key(last)[0]
        text = self.card_path.read_text(encoding="utf-8").split("\n")[line].strip()
        return UserError(f"{self.card_path}, line {line + 1}: `{text}`: {message}")


def read_dataset(name: str, root: str | Path = "data", asked: str | None = None) -> Dataset:
    """Return the dataset data/<name>/ with its card data/<name>.yaml, and with its shards.

    Args:
        asked: what names the dataset, for an error; by default `data` in params.yaml.

    Raises:
        UserError: the folder or the card of it or of a shard does not exist, a card is invalid, or
            the shards cannot be joined.
    """
    root = Path(root)
    if name == TABLES:
        raise UserError(f"{root / TABLES}: it holds tables; name the dataset otherwise")
    dataset = _read_dataset(name, root, root, asked or f"params.yaml: data is {name!r}")
    shards = []
    for shard in dataset.card.shards or []:
        listed = f"{dataset.card_path}: shards has {shard!r}"
        shards.append(one := _read_dataset(shard, dataset.folder, root, listed))
        for key in OF_THE_WHOLE:
            if key in one.card.model_fields_set:
                raise one.error(key, f"it belongs in {dataset.card_path}, for all shards")
    joined = replace(dataset, shards=tuple(shards))
    with_readers = [part.name for part in joined.parts if part.card.readers]
    if with_readers and (without := {part.name for part in joined.parts} - {*with_readers}):
        raise UserError(
            f"{dataset.card_path}: {with_readers[0]} has the labels of several readers, and "
            f"{min(without)} has not; all shards must have them, or none"
        )
    spelled = {as_key(reader): reader for reader in joined.readers}
    refuse(
        f"{dataset.card_path}: shards have the readers {one!r} and {spelled[as_key(one)]!r}; spell "
        "them alike if they are the same, or more differently"
        for one in joined.readers
        if spelled[as_key(one)] != one
    )
    return joined


def read_dataset_in(folder: Path) -> Dataset:
    """Return the dataset in a folder such as data/mine, or the shard in data/network/hospital-a."""
    whole = folder.parent
    if not Path(f"{whole}.yaml").is_file():
        apart = read_dataset(folder.name, whole, f"asked for is {folder}")
        # A shard of a dataset that has no card yet: its tables are where they will be then.
        tables = whole.parent / TABLES / whole.name / folder.name
        is_shard = whole.parent.name == "data" and whole.name != "data"
        return replace(apart, tables=tables) if is_shard else apart
    joined = read_dataset(whole.name, whole.parent)
    for shard in joined.shards:
        if shard.name == folder.name:
            return shard
    raise UserError(f"{folder}: {joined.card_path} does not list it in `shards:`")


def _read_dataset(name: str, parent: Path, root: Path, asked: str) -> Dataset:
    folder, card_path = parent / name, parent / f"{name}.yaml"
    if not card_path.is_file():
        cards = ", ".join(sorted(path.stem for path in parent.glob("*.yaml"))) or "none"
        raise UserError(
            f"{card_path} does not exist; {asked}, and the datasets with a card are: {cards}"
        )
    card = check(read_yaml(card_path), CardFields, str(card_path))
    if card.classes and card.positive is not None and nfc(card.positive) == nfc(card.classes[0]):
        card = card.model_copy(update={"classes": card.classes[::-1]})
    if not (folder.is_dir() or card.shards):
        tracked = Path(f"{folder}.dvc")
        pull = f"`dvc pull {tracked}` brings it (unless .dvcignore holds a line for it: see there)"
        pull = f"{pull}; or " if tracked.is_file() else ""
        source = f" (source: {card.source})" if card.source else ""
        raise UserError(
            f"{folder} is not a folder; {pull}bring the images that {card_path} describes{source} "
            f"there, and `dvc add {folder}`"
        )
    return Dataset(name, folder, card_path, card, root / TABLES / folder.relative_to(root))
