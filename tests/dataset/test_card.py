"""A card that says something impossible is refused with its line."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.base.errors import UserError
from stages.dataset.card import read_dataset, read_dataset_in
from tests.conftest import make_shards
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


@pytest.mark.parametrize(
    ("whole", "shard", "said"),
    [
        ("shards: []", "", "shards is []"),
        ("shards: [../a]", "", "shards.0 is '../a'"),
        ("shards: [a, a]", "", "shards is ['a', 'a']; a and a are one name"),
        ("shards: [a, A]", "", "a and A are one name, or differ only by case"),
        ("shards: [a]\ngroup: none", "", "`group:` does not go with `shards:`; it belongs in"),
        ("shards: [a, c]", "", "data/network/c.yaml does not exist; data/network.yaml: shards has"),
        ("shards: [a, d]", "", "data/network/d is not a folder; bring the images that"),
        ("shards: [a, b]", "shards: [x]", "`shards: [x]`: it belongs in data/network.yaml"),
        ("shards: [a, b]", "drawn: true", "b.yaml, line 4: `drawn: true`: it belongs in data/"),
        ("shards: [a, b]", "licence: ours", "data/network/b.yaml: licence is not a parameter here"),
    ],
)
def test_what_the_card_of_a_joined_dataset_cannot_say(workplace, whole, shard, said):
    card = (make_shards("a", "b") / "a.yaml").read_text()
    Path("data/network.yaml").write_text(f"title: t\n{whole}\n")
    Path("data/network/d.yaml").write_text(card)
    Path("data/network/b.yaml").write_text(
        f"title: b\n{shard}\n" if "shards" in shard else card + shard + "\n"
    )
    with pytest.raises(UserError) as error:
        read_dataset("network")
    assert said in str(error.value) and "\n" not in str(error.value)


def test_shards_with_and_without_readers_cannot_be_joined(workplace):
    folder = make_shards("a", "b", "c")
    for name, readers in (("a", "anna, ben"), ("b", "carl, Anna ")):
        card = f"labels: l.csv\ncolumns: {{name: n, readers: [{readers}]}}\ngroup: none\n"
        (folder / f"{name}.yaml").write_text(f"title: t\n{card}")
    with pytest.raises(UserError, match="a has the labels of several readers, and c has not"):
        read_dataset("network")
    Path("data/network.yaml").write_text("title: t\nshards: [a, b]\n")
    with pytest.raises(UserError, match="shards have the readers 'anna' and 'Anna'; spell"):
        read_dataset("network")


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


def test_a_missing_card_is_said_with_what_names_it(workplace):
    with pytest.raises(UserError, match="^data/d.yaml does not exist; params.yaml: data is 'd',"):
        read_dataset("d")
    with pytest.raises(UserError, match="^data/d.yaml does not exist; asked for is data/d, and "):
        read_dataset_in(Path("data/d"))
