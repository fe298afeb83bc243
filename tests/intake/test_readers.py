"""Cards that name several readers: their labels, the consensus, and what cannot be."""

import csv
from itertools import permutations
from pathlib import Path

import pytest

from stages.base.errors import UserError
from stages.dataset.card import read_dataset
from stages.dataset.readings import NO_CONSENSUS, read_readings
from stages.dataset.seen import DIGITS, Seen
from stages.external import never_seen
from stages.intake.crops import NoConsensus
from stages.intake.opened import open_files
from stages.intake.readers import Consensus
from stages.model_card import agreement
from tests.conftest import list_crops, make_table, set_params

NAMES = [f"{slide}{number}.png" for slide in "abc" for number in range(3)]
# By anna, ben and chris; the labels of majority, of agreement, and of ben.
CROPS = {
    "a0.png": ("1", "1", "1"),
    "a1.png": ("0", "0", "no"),
    "a2.png": ("1", "0", "1"),
    "b0.png": ("1", "0", ""),
    "b1.png": ("", "yes", ""),
    "b2.png": ("0", "", "0"),
    "c0.png": ("1.0", "1", ""),
    "c1.png": ("0", "1", "0"),
    "c2.png": ("0", "0", "0"),
}
LABELS = {
    "majority": "1 0 1 - 1 0 1 0 0",
    "agreement": "1 0 - - - 0 1 - 0",
    "reader:ben": "1 0 0 0 1 - 1 1 0",
}


def make_readers(crops=None, readers="[anna, ben, chris]", more="", header="anna,ben,chris"):
    rows = [f"file,{header}", *(",".join([name, *row]) for name, row in (crops or CROPS).items())]
    columns = f"columns: {{name: file, readers: {readers}}}\n"
    card = f"title: t\nlabels: labels.csv\n{columns}group: '(?P<slide>[a-z])'\n{more}"
    return make_table("\n".join(rows) + "\n", [*(crops or CROPS)], card=card)


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("rule", LABELS)
def test_the_label_follows_from_the_readers_and_the_rest_is_left_out_by_name(
    workplace, capsys, rule
):
    make_readers()
    set_params({"manifest.consensus": rule})
    list_crops()
    expected = dict(zip(CROPS, LABELS[rule].split()))
    rows = rows_of("data/manifest.csv")
    assert {row["path"]: row["label"] for row in rows} == {
        path: label for path, label in expected.items() if label != "-"
    }
    left_out = [path for path, label in expected.items() if label == "-"]
    assert [row["path"] for row in rows_of(NO_CONSENSUS)] == left_out
    printed = capsys.readouterr()
    for path in left_out:
        assert f"no consensus, left out, listed in {NO_CONSENSUS}: {path}\n" in printed.err
    assert f"{len(left_out)} without a consensus are left out" in printed.out
    assert f"'anna', 'ben', 'chris' of data/table/labels.csv, by {rule}" in printed.out
    assert "anna 8 (4), ben 8 (4), chris 6 (2); all agree on 5 of the 8 crops" in printed.out
    # All labels are kept.
    read = {
        row["path"]: [row[f"reader:{name}"] for name in ("anna", "ben", "chris")]
        for row in [*rows, *rows_of(NO_CONSENSUS)]
    }
    assert read["a2.png"] == ["1", "0", "1"] and read["b1.png"] == ["", "1", ""]
    assert len(read) == len(CROPS)
    found = read_readings(Path("data/manifest.csv"))
    assert found.readers == ["anna", "ben", "chris"] and found.of_crops[0] == (1, 1, 1)


def test_a_correction_is_the_label_whatever_the_readers_say(workplace, capsys):
    folder = make_readers(more="corrections: corrected.csv\n")
    (folder / "corrected.csv").write_text("name,label\nb0.png,1\na0.png,0\n")
    list_crops()
    rows = {row["path"]: (row["label"], row["published"]) for row in rows_of("data/manifest.csv")}
    assert rows["b0.png"] == ("1", "1") and rows["a0.png"] == ("0", "1")
    assert not rows_of(NO_CONSENSUS)
    printed = capsys.readouterr().out
    assert "1 labels corrected by corrected.csv" in printed
    assert "1 without a consensus are labeled by corrections" in printed


def test_positive_applies_to_all_readers(workplace):
    make_readers(more="positive: 0\n")
    list_crops()
    rows = {row["path"]: row for row in rows_of("data/manifest.csv")}
    assert rows["a0.png"]["label"] == "0" and rows["a0.png"]["reader:ben"] == "0"
    assert rows["b1.png"]["reader:anna"] == "" and rows["b1.png"]["label"] == "0"


def test_the_order_of_the_readers_does_not_matter():
    rules = [Consensus.parse(rule) for rule in LABELS]
    readers = ("anna", "ben", "chris")
    for labels in [(1, 0, -1), (1, 1, 0), (0, -1, -1), (1, 1, 1), (-1, 0, 0)]:
        for rule in rules:
            found = {
                rule.label([readers[place] for place in order], tuple(labels[p] for p in order))
                for order in permutations(range(3))
            }
            assert len(found) == 1


def test_a_card_with_one_reader_has_no_column_of_readers(workplace, capsys):
    make_table("name,truth\na1.png,1\na2.png,0\nb1.png,0\n", ["a1.png", "a2.png", "b1.png"])
    list_crops()
    header = Path("data/manifest.csv").read_text().splitlines()[0]
    assert header == "path,label,slide,site,width,height,sha256,pixels_sha256,published"
    assert NO_CONSENSUS.read_text() == "path,slide,site\n"
    before = Path("data/manifest.csv").read_bytes()
    # A dataset in `external` may have this reader.
    set_params({"manifest.consensus": "reader:anna"})
    list_crops()
    assert "manifest.consensus reader:anna does not matter here" in capsys.readouterr().err
    assert Path("data/manifest.csv").read_bytes() == before


def test_readers_who_seem_to_mean_opposite_classes_are_named(workplace, capsys):
    make_readers({name: (str(int("0" in name)), str(int("0" not in name)), "") for name in NAMES})
    set_params({"manifest.consensus": "reader:anna"})
    list_crops()
    said = "anna and ben agree on 0 of 9 crops; is 1 globally sclerotic in both columns?"
    assert said in capsys.readouterr().err


def test_readers_go_with_a_table_and_not_with_folders(workplace):
    make_readers(more="classes: [a, b]\n")  # The words of their labels.
    assert read_dataset("table").card.words == {"a": 0, "b": 1}
    card = Path("data/table.yaml")
    card.write_text(card.read_text().replace("labels: labels.csv\n", ""))
    with pytest.raises(UserError, match="`columns:` .* goes with `labels:`, and only with it"):
        read_dataset("table")


@pytest.mark.parametrize(
    ("readers", "said"),
    [
        ("[anna, anna]", "readers has 'anna', as another column is; each reader needs a separate"),
        ("[anna, ' Anna']", "readers has ' Anna', as another column is"),
        ("[anna, ' ']", "readers has an empty name; each must name a column"),
        ("[anna, file]", "readers has 'file', as another column is"),
        ("[anna]", "columns.readers is ['anna']; list should have at least 2 items"),
        ("[anna, non_sclerotic]", "columns.readers has 'non_sclerotic', whose 1 seems to be for"),
        ("[anna, ben], label: chris", "columns: it must have either `label:` or `readers:`"),
        ("[anna, dora]", "data/table/labels.csv has no column 'dora'; it has 'file', 'anna'"),
    ],
)
def test_a_card_that_cannot_be_is_one_line(workplace, readers, said):
    make_readers(readers=readers)
    with pytest.raises(UserError) as error:
        list_crops()
    assert said in str(error.value) and "\n" not in str(error.value)
    assert str(error.value).startswith("data/table.yaml")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("1", "2", ""), "line 2: the label of a0.png by ben is '2'; it must be 0 or 1, or empty"),
        (("", " ", ""), "line 2: no reader has a label of a0.png; at least one must"),
    ],
)
def test_a_row_that_cannot_be_is_one_line(workplace, row, said):
    make_readers(CROPS | {"a0.png": row})
    with pytest.raises(UserError) as error:
        list_crops()
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("reader:dora", "manifest.consensus is 'reader:dora'; the readers in data/table.yaml are"),
        (
            "anna",
            "consensus is 'anna'; it must be majority, agreement or reader:<col",
        ),
        ("reader:", "it must be majority, agreement or reader:<column of a reader>"),
        (3, "manifest.consensus is 3; it must be majority"),
    ],
)
def test_a_rule_that_cannot_be_is_one_line(workplace, rule, said):
    make_readers()
    set_params({"manifest.consensus": rule})
    with pytest.raises(UserError) as error:
        list_crops()
    assert said in str(error.value) and "\n" not in str(error.value)


def test_readers_without_any_consensus_are_refused(workplace):
    make_readers({name: ("1", "0", "") for name in NAMES})
    with pytest.raises(UserError, match=r"no crop has a label by manifest.consensus 'majority'"):
        list_crops()
    assert not Path("data/manifest.csv").exists()


def test_ties_on_crops_that_the_model_was_trained_on_do_not_count(workplace):
    make_readers()
    dataset = read_dataset("table")
    ties = [NoConsensus(path, path[0], "", ()) for path in NAMES[:3]]
    files = open_files(dataset.folder).crops
    digest = files[1].pixels_sha256
    for split, left in (("train", [NAMES[0], NAMES[2]]), ("test", NAMES[:3])):
        seen = Seen({digest[:DIGITS]: split})
        assert [crop.path for crop in never_seen(ties, files, seen)] == left


def test_a_vertical_bar_in_a_name_does_not_add_a_cell(workplace):
    nothing = {"value": None, "low": None, "high": None}
    pairs = [{"readers": ["a|b", "c"], "cohen_kappa": nothing}]
    both = {"fleiss_kappa": nothing, "pairs": pairs, "no_consensus": 0}
    rates = {"crops": 3, "sensitivity": nothing, "specificity": nothing, "cohen_kappa": nothing}
    model = [{"reader": "a|b", **rates}]
    lines = agreement({"of_all": both, "of_tested": both, "model": model})
    assert r"| a\|b | 3 | not defined | not defined |" in lines
    assert all("a|b" not in line for line in lines)
