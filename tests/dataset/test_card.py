"""A card that says something impossible is refused with its line."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.base.errors import UserError
from stages.dataset.card import read_dataset
from tests.repositories import PROJECT

TABLE = "title: t\nlabels: l.csv\ncolumns: {name: n, label: y}\n"


def write_card(text: str) -> None:
    Path("data/d").mkdir(exist_ok=True)
    Path("data/d.yaml").write_text(text)


@pytest.mark.parametrize("name", ["demo", "aidpath", "kpmp"])
def test_the_committed_cards_are_valid(name, tmp_path):
    root = PROJECT / "data"
    (tmp_path / f"{name}.yaml").write_text((root / f"{name}.yaml").read_text())
    (tmp_path / name).mkdir()
    assert read_dataset(name, tmp_path).card.title


def test_a_card_of_five_lines(workplace):
    write_card(TABLE + "group: '(?P<slide>[^_]+)'\nsource: our archive\n")
    assert read_dataset("d").card.columns.label == "y"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("classes: [a, b]\ngroup: '(?P<slide>.)'\n", "title is missing"),
        ("title: t\nclasses: [a, b]\n", "`group:` is missing"),
        ("title: t\ngroup: '(?P<slide>.)'\n", "either `classes:"),
        (
            "title: t\nclasses: [a b, A  B]\nlabels: l.csv\ncolumns: {name: n, label: y}\n"
            "group: '(?P<slide>.)'\n",
            "must differ by more than case and spaces",
        ),
        ("title: t\nlabels: l.csv\ngroup: '(?P<slide>.)'\n", "`columns:` (name and label"),
        ("title: t\nclasses: [a]\ngroup: '(?P<slide>.)'\n", "classes is ['a']"),
        ("title: t\nclasses: [a, a]\ngroup: '(?P<slide>.)'\n", "must differ"),
        ("title: t\nclasses: [a, a/]\ngroup: '(?P<slide>.)'\n", "must differ"),
        ("title: t\nclasses: [a/./b, a//b]\ngroup: '(?P<slide>.)'\n", "must differ"),
        ("title: t\nclasses: [1, '1']\ngroup: '(?P<slide>.)'\n", "must differ"),
        ("title: t\nclasses: [\u00e9, e\u0301]\ngroup: '(?P<slide>.)'\n", "must differ"),
        ("title: t\nclasses: [true, x]\ngroup: '(?P<slide>.)'\n", "classes.0 is True"),
        ("title: t\nclasses: [0.0, x]\ngroup: '(?P<slide>.)'\n", "classes.0 is 0.0"),
        (
            "title: t\nlabels: l.csv\ncolumns: {name: n, label: n}\ngroup: '(?P<slide>.)'\n",
            "label is 'n', as another column is",
        ),
        ("title: t\nclasses: [../a, b]\ngroup: '(?P<slide>.)'\n", "inside the dataset's folder"),
        ("title: t\nclasses: [/a, b]\ngroup: '(?P<slide>.)'\n", "inside the dataset's folder"),
        (
            "title: t\nlabels: ../l.csv\ncolumns: {name: n, label: y}\ngroup: '(?P<slide>.)'\n",
            "inside the dataset's folder",
        ),
        ("title: t\nclasses: [a, b]\ngroup: '('\n", "not a regular expression"),
        ("title: t\nclasses: [a, b]\ngroup: '(.*)'\n", "named group (?P<slide>...)"),
        ("title: t\nclasses: [a, b]\ngroup: '(?P<slide>.)(?P<stain>.)'\n", "and no other"),
        (TABLE + "colums: 3\ngroup: '(?P<slide>.)'\n", "colums is not a parameter here"),
        ("title: 3\nclasses: [a, b]\ngroup: '(?P<slide>.)'\n", "title is 3"),
        ("- a\n- b\n", "must hold `key: value` lines"),
        ("title: [\n", "is not valid YAML"),
        ("title: t\ntitle: u\n", "is not valid YAML"),
        ("", "must hold `key: value` lines; it holds None"),
    ],
)
def test_what_a_card_cannot_say(workplace, text, said):
    write_card(text)
    with pytest.raises(UserError) as error:
        read_dataset("d")
    assert str(error.value).startswith("data/d.yaml")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_card_and_folder_must_be_there(workplace):
    with pytest.raises(UserError, match=r"data/d.yaml does not exist"):
        read_dataset("d")
    Path("data/d.yaml").write_text(TABLE + "group: '(?P<slide>.)'\n")
    with pytest.raises(UserError, match=r"data/d is not a folder"):
        read_dataset("d")


def test_an_error_quotes_the_line(workplace):
    write_card(
        "title: t\nlabels: l.csv\ncolumns:\n  name: n\n  label: the label\ngroup: '(?P<slide>.)'\n"
    )
    dataset = read_dataset("d")
    assert (
        str(dataset.error("columns.label", "no")) == "data/d.yaml, line 5: `label: the label`: no"
    )
    assert str(dataset.error("group", "no")) == "data/d.yaml, line 6: `group: '(?P<slide>.)'`: no"


@given(st.binary(max_size=300))
def test_any_bytes_are_a_card_or_an_error(tmp_path_factory, content):
    root = tmp_path_factory.mktemp("data")
    (root / "d").mkdir()
    (root / "d.yaml").write_bytes(content)
    try:
        assert read_dataset("d", root).card.title
    except UserError as error:
        assert str(root / "d.yaml") in str(error)
