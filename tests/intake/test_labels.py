"""Every program reads a table of labels by the same columns."""

import csv
import json
import re
from pathlib import Path

import pytest

from stages.base.errors import UserError
from stages.dataset.card import read_dataset
from stages.intake.crops import make_manifest
from stages.intake.labels import read_labels
from stages.intake.names import Names
from tests.conftest import make_table
from tests.repositories import make_another_laboratory, run_program

CROPS = ["GS/a.png", "GS/b.png", "nonGS/a.png"]


def labels_by_predict(table, folder):
    code, _, error = run_program("predict", folder, "--labels", table)
    assert code == 0, error
    with open("evaluation.csv", newline="") as file:
        return {row["name"]: int(row["label"]) for row in csv.DictReader(file)}


def labels_by_recalibrate(table, folder):
    code, _, error = run_program("recalibrate", folder, "--labels", table, "--output", "ours")
    assert code == 0, error
    return json.loads(Path("ours/recalibration.json").read_text())["positive"]


def labels_by_corrections(table, folder):
    table.rename(folder / "corrected.csv")
    with open(f"{folder}.yaml", "a") as file:
        file.write("corrections: corrected.csv\n")
    Path("params.yaml").write_text(
        re.sub("^data: .*", f"data: {folder.name}", Path("params.yaml").read_text(), flags=re.M)
    )
    for stage in ("crops", "manifest"):
        code, _, error = run_program(stage)
        assert code == 0, error
    with open("data/manifest.csv", newline="") as file:
        return {row["path"]: int(row["label"]) for row in csv.DictReader(file)}


@pytest.mark.parametrize(
    ("program", "name_columns", "label_columns"),
    [
        (labels_by_predict, "name", "label"),
        (labels_by_recalibrate, "path", "ground truth"),
        (labels_by_corrections, "name,path", "label,ground truth"),
    ],
)
def test_each_program_reads_a_table_of_labels(repository, program, name_columns, label_columns):
    folder = make_another_laboratory()
    crops = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.png"))]
    # Not the labels of the folders.
    truth = {path: int(number % 3 == 0) for number, path in enumerate(crops)}
    if program is labels_by_recalibrate:  # which refuses labels that the model does not rank
        run_program("predict", folder)
        with open("evaluation.csv", newline="") as file:
            ranked = sorted(csv.DictReader(file), key=lambda row: float(row["probability"]))
        truth = {row["name"]: int(place >= 4) for place, row in enumerate(ranked)}
    lines = [f"{name_columns},{label_columns}"]
    for path, label in truth.items():
        names = [path.split("/")[-1] if one == "name" else path for one in name_columns.split(",")]
        lines.append(",".join([*names, *[str(label)] * len(label_columns.split(","))]))
    table = Path("table.csv")
    table.write_text("\n".join(lines) + "\n")
    read = program(table, folder)
    assert read == (sum(truth.values()) if program is labels_by_recalibrate else truth)


def labels_of(text, **options):
    Path("t.csv").write_text(text)
    return read_labels(Path("t.csv"), Names(CROPS, "the folder"), **options)


@pytest.mark.parametrize("of_all", [False, True])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "name,path,label\nb.png,GS/a.png,1\n",
            "t.csv, line 2: name is 'b.png' and path is 'GS/a.png'; they must agree",
        ),
        (
            "name,path,label\nb.png,elsewhere/b.png,1\n",
            "t.csv, line 2: name is 'b.png' and path is 'elsewhere/b.png'; they must agree",
        ),
        (
            "path,label,ground truth\nGS/a.png,1,1\nGS/b.png,1,0\n",
            "t.csv, line 3: label is '1' and ground truth is '0'; they must agree",
        ),
        (
            "path,label,ground truth\nGS/a.png,1,sclerotic\n",
            "t.csv, line 2: label is '1' and ground truth is 'sclerotic'; they must agree",
        ),
        ("path,truth\nGS/a.png,1\n", "t.csv: no column 'label' or 'ground truth'; it has 'path'"),
        ("file,label\nGS/a.png,1\n", "t.csv: no column 'name' or 'path'; it has 'file', 'label'"),
        ("path,label,ground truth\nGS/a.png,,\n", "line 2: the label of GS/a.png is ''"),
    ],
)
def test_columns_that_disagree_or_are_missing_are_refused_by_name(workplace, text, said, of_all):
    with pytest.raises(UserError) as error:
        labels_of(text, of_all=of_all)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_an_empty_field_disagrees_with_nothing(workplace):
    text = "path,name,label,ground truth\nGS/a.png,,1,\n,b.png,,0\nnonGS/a.png,a.png,no,0\n"
    assert labels_of(text) == {"GS/a.png": 1, "GS/b.png": 0, "nonGS/a.png": 0}
    assert labels_of(text, of_all=True) == labels_of(text)


def test_a_named_column_is_read_instead_of_the_default_ones(workplace):
    text = "name,path,file,label,ground truth,truth\nx,y,b.png,0,1,1\n"
    assert labels_of(text, name_column="file", label_column="truth") == {"GS/b.png": 1}


def test_rows_of_other_files_are_ignored_only_if_each_file_must_have_a_label(workplace):
    text = "path,label\nGS/a.png,1\nGS/b.png,1\nnonGS/a.png,0\nelsewhere/c.png,7\n"
    assert labels_of(text, of_all=True) == {"GS/a.png": 1, "GS/b.png": 1, "nonGS/a.png": 0}
    with pytest.raises(UserError, match=r"^t.csv, line 5: 'elsewhere/c.png' is not in the folder"):
        labels_of(text)
    with pytest.raises(UserError, match=r"^t.csv: no label of GS/b.png"):
        labels_of("path,label\nGS/a.png,1\nnonGS/a.png,0\n", of_all=True)


WORDS = """title: t
labels: labels.csv
columns: {{name: name, label: truth}}
group: '(?P<slide>[a-z]+)'
{more}
"""


def words_table(words, more):
    names = [f"{letter}{number}.png" for letter in "abc" for number in range(3)]
    rows = "".join(f"{name},{word}\n" for name, word in zip(names, words))
    make_table(f"name,truth\n{rows}", names, card=WORDS.format(more=more))
    return read_dataset("table")


@pytest.mark.parametrize(
    "more",
    ["classes: [nicht, sklerosiert]", "classes: [sklerosiert, nicht]\npositive: Sklerosiert"],
)
def test_a_card_names_the_words_for_labels(workplace, capsys, more):
    dataset = words_table(["nicht", "Sklerosiert", " NICHT"] * 3, more.replace("Skl", "skl"))
    rows = make_manifest(dataset, Path("unreadable.csv")).rows
    assert [row.label for row in rows] == [0, 1, 0] * 3
    printed, warned = capsys.readouterr()
    assert "label 1, globally sclerotic: 3 with Sklerosiert in the column 'truth'" in printed
    assert "read" not in warned


def test_words_that_are_no_labels_are_counted_in_one_line(workplace):
    words = ["nicht", "sklerosiert", "unklar"] * 3
    for more, said in (
        ("", "9 labels are not 0 or 1: 'nicht' (3), 'sklerosiert' (3), 'unklar' (3); if these are"),
        ("classes: [0, 1]", "9 labels are not '0' or '1': 'nicht' (3),"),
    ):
        with pytest.raises(UserError) as error:
            make_manifest(words_table(words, more), Path("unreadable.csv"))
        assert f"data/table/labels.csv: {said}" in str(error.value), error.value
        assert "\n" not in str(error.value)
    with pytest.raises(UserError) as error:
        make_manifest(words_table(words, "classes: [nicht, sklerosiert]"), Path("unreadable.csv"))
    assert str(error.value).count("'unklar'; it must be 'nicht' or 'sklerosiert'") == 3
