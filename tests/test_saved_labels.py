"""Labels that readers saved on the page: compared, adopted into a card, used to recalibrate."""

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import stages.adopt
import stages.agreement
from stages.base.errors import UserError
from stages.base.files import read_table, write_table
from stages.dataset.card import read_dataset
from stages.images.opening import load_image, pixel_digest
from stages.intake.crops import make_manifest
from stages.intake.label_table import labels_from_table
from stages.intake.listing import list_images
from stages.intake.saved_labels import COLUMNS
from stages.measures.readers import cohen_kappa
from tests.conftest import make_classes, make_shards, make_table
from tests.repositories import make_another_laboratory, run_program

WORDS = ("not sclerotic", "sclerotic")


def save(name, labels, folder="data/small", **changes):
    """Write a table as the page does; `changes` are texts of columns, or functions of the path."""
    standard = {
        "class": lambda path: WORDS[labels[path]],
        "slide": lambda path: Path(path).name.split("-")[0],
        "reader": "AB",
        "date": "2026-01-31",
        "blind": "1",
        "marked": f"{len(labels)} of 60",
        "model": "01234567",
        "pixels_sha256": lambda path: pixel_digest(load_image(Path(folder, path))),
    } | changes
    rows = []
    for path, label in labels.items():
        cells = {"path": path, "label": str(label)}
        cells |= {key: one if isinstance(one, str) else one(path) for key, one in standard.items()}
        rows.append([cells[column] for column in COLUMNS])
    write_table(name, COLUMNS, rows)
    return name


@pytest.fixture
def run(workplace, monkeypatch):
    def run(program, *arguments):
        monkeypatch.setattr(sys, "argv", [program.__name__, *map(str, arguments)])
        program.main()

    return run


@pytest.fixture
def small(workplace):
    """A dataset of 24 crops of 6 slides, whose card names corrections."""
    make_classes(slides=6, each=4)
    with open("data/small.yaml", "a") as file:
        file.write("corrections: corrections.csv\n")
    return sorted(
        path.relative_to("data/small").as_posix() for path in Path("data/small").rglob("*.png")
    )


def test_adopts_labels_with_who_and_when(run, small, capsys):
    before = {path: int(path.startswith("GS")) for path in small}
    files = [
        save("a.csv", {small[0]: 1 - before[small[0]], small[1]: before[small[1]]}),
        save(
            "c.csv",
            {small[1]: before[small[1]], small[-1]: before[small[-1]]},
            reader="CD",
            blind="0",
            date="2026-02-01",
        ),
    ]
    run(stages.adopt, "data/small", *files)
    kind = (
        "1 change 0 to 1, 0 change 1 to 0"
        if before[small[0]] == 0
        else "0 change 0 to 1, 1 change 1 to 0"
    )
    assert f"3 labels: 2 confirm, {kind}, 0 are the first" in capsys.readouterr().out
    with open("data/small/corrections.csv", newline="") as file:
        rows = {row.pop("path"): row for row in csv.DictReader(file)}
    assert list(rows) == sorted([small[0], small[1], small[-1]])
    told = {path: (row["reader"], row["date"], row["blind"]) for path, row in rows.items()}
    assert told == {
        small[0]: ("AB", "2026-01-31", "1"),
        small[1]: ("AB, CD", "2026-02-01", "0"),
        small[-1]: ("CD", "2026-02-01", "0"),
    }
    manifest = make_manifest(read_dataset("small"), Path("unreadable.csv")).rows
    assert {row.path: row.label for row in manifest} == before | {small[0]: 1 - before[small[0]]}
    # Again, with one more: earlier rows stay.
    run(
        stages.adopt,
        "data/small",
        save("d.csv", {small[0]: 1 - before[small[0]], small[5]: before[small[5]]}, reader="EF"),
    )
    readers = dict(zip(*read_table("data/small/corrections.csv", ("path", "reader"))))
    assert readers == {path: row["reader"] for path, row in rows.items()} | {small[5]: "EF"}
    content = Path("data/small/corrections.csv").read_bytes()
    with pytest.raises(UserError, match=f"and {before[small[0]]} by GH in e.csv; remove one of"):
        run(stages.adopt, "data/small", save("e.csv", {small[0]: before[small[0]]}, reader="GH"))
    assert Path("data/small/corrections.csv").read_bytes() == content


def test_adopts_labels_into_a_table_in_git(run, small, capsys):
    table = Path("data/labels/small/corrections.csv")
    table.parent.mkdir(parents=True)
    table.touch()
    run(stages.adopt, "data/small", save("a.csv", {small[0]: 0, small[1]: 1}))
    assert f"written: {table}; next: git add {table}" in capsys.readouterr().err
    assert not Path("data/small/corrections.csv").exists()
    assert dict(zip(*read_table(table, ("path", "label")))) == {small[0]: "0", small[1]: "1"}


BAD = {
    "an unknown crop": (
        {"GS/x.png": 1},
        {"pixels_sha256": 64 * "0", "slide": "s"},
        "'GS/x.png' is not in data/small",
    ),
    "other pixels": (
        {"GS/s0-0.png": 1},
        {"pixels_sha256": 64 * "0"},
        "GS/s0-0.png had other pixels on the page",
    ),
    "opposite words": (
        {"GS/s0-0.png": 1},
        {"class": "nonGS"},
        "class is 'nonGS' for 1; in data/small.yaml it is 'GS'",
    ),
    "words of something else": (
        {"GS/s0-0.png": 1},
        {"class": "tumor"},
        "class is 'tumor' for 1; in data/small.yaml it is 'GS'",
    ),
    "no reader": ({"GS/s0-0.png": 1}, {"reader": ""}, "line 2: reader is ''"),
    "no date": ({"GS/s0-0.png": 1}, {"date": "31.1.26"}, "line 2: date is '31.1.26'"),
    "a label of 2": ({"GS/s0-0.png": 2}, {"class": "GS"}, "line 2: label is '2'"),
    "one word for both": (
        {"GS/s0-0.png": 1, "nonGS/s0-1.png": 0},
        {"class": "GS"},
        "each label must have one word",
    ),
    "another reader": (
        {"nonGS/s0-1.png": 0},
        {},
        "nonGS/s0-1.png is 0 by AB in bad.csv and 1 by CD in good.csv",
    ),
    "the same reader": (
        {"nonGS/s0-1.png": 0},
        {"reader": "CD"},
        "CD has labeled nonGS/s0-1.png as 0 and as 1",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_adopts_nothing_in_doubt(run, small, kind):
    labels, changes, said = BAD[kind]
    bad = save("bad.csv", labels, **changes)
    with pytest.raises(UserError) as error:
        run(stages.adopt, "data/small", bad, save("good.csv", {"nonGS/s0-1.png": 1}, reader="CD"))
    assert said in str(error.value)
    assert not Path("data/small/corrections.csv").exists()


def test_adopt_keeps_corrections_by_hand_and_no_other_columns(run, small):
    table = Path("data/small/corrections.csv")
    table.write_text("name,ground truth,why\nGS/s0-0.png,0,pale\n")
    good = save("a.csv", {"GS/s0-0.png": 0, "nonGS/s0-1.png": 1})
    with pytest.raises(UserError, match="the column 'why' would be lost"):
        run(stages.adopt, "data/small", good)
    table.write_text("name,ground truth\nnonGS/s0-2.png,1\nGS/s0-0.png,0\n")
    run(stages.adopt, "data/small", good)
    rows = [*zip(*read_table(table, ("path", "label", "reader")))]
    assert rows == [
        ("GS/s0-0.png", "0", "AB"),
        ("nonGS/s0-1.png", "1", "AB"),
        ("nonGS/s0-2.png", "1", ""),
    ]


def test_adopt_needs_a_card_that_names_the_table(run, workplace):
    make_classes(slides=2, each=2)
    with pytest.raises(UserError, match="add the line `corrections: corrections.csv`"):
        run(stages.adopt, "data/small", save("a.csv", {"GS/s0-0.png": 1}))
    with open("data/small.yaml", "a") as file:
        file.write("corrections: corrections.xlsx\n")
    with pytest.raises(UserError, match="corrections is corrections.xlsx; adopt writes CSV"):
        run(stages.adopt, "data/small", save("a.csv", {"GS/s0-0.png": 1}))


def test_adopts_labels_into_the_tables_of_shards(run, workplace):
    folder = make_shards("a", "b", "c")
    for name in ("a", "b"):
        with (folder / f"{name}.yaml").open("a") as file:
            file.write("corrections: corrections.csv\n")
    labels = {"a/GS/s0-0.png": 0, "b/nonGS/s0-1.png": 1, "b/GS/s1-0.png": 1}
    with pytest.raises(UserError, match="data/network/c.yaml names no table of corrections"):
        run(stages.adopt, "data/network", save("bad.csv", labels | {"c/GS/s0-0.png": 0}, folder))
    assert not (folder / "a/corrections.csv").exists()
    run(stages.adopt, "data/network", save("a.csv", labels, folder))
    assert read_table(folder / "a/corrections.csv", ["path"]) == [["GS/s0-0.png"]]
    rows = read_table(folder / "b/corrections.csv", ("path", "label"))
    assert rows == [["GS/s1-0.png", "nonGS/s0-1.png"], ["1", "1"]]
    found = make_manifest(read_dataset("network"), Path("unreadable.csv")).rows
    changed = {row.path: row.label for row in found if row.label != row.published}
    assert changed == {"a/GS/s0-0.png": 0, "b/nonGS/s0-1.png": 1}
    # A page of one shard.
    run(stages.adopt, "data/network/a", save("own.csv", {"GS/s2-0.png": 0}, folder / "a"))
    assert read_table(folder / "a/corrections.csv", ["path"])[0] == ["GS/s0-0.png", "GS/s2-0.png"]
    # Before they are joined.
    Path("data/network.yaml").unlink()
    table = Path("data/labels/network/b/corrections.csv")
    table.parent.mkdir(parents=True)
    shutil.move(folder / "b/corrections.csv", table)
    run(stages.adopt, "data/network/b", save("own.csv", {"GS/s2-0.png": 0}, folder / "b"))
    assert "GS/s2-0.png" in read_table(table, ["path"])[0]


def test_adopt_knows_the_words_of_a_model_without_own_ones(run, small):
    labels = {"GS/s0-0.png": 1, "nonGS/s0-1.png": 0}
    words = ("non globally sclerotic", "globally sclerotic")
    run(stages.adopt, "data/small", save("a.csv", labels, **{"class": lambda p: words[labels[p]]}))
    assert read_table("data/small/corrections.csv", ["label"]) == [["1", "0"]]


def test_adopt_keeps_a_reader_that_a_spreadsheet_would_run(run, small):
    for name in ("GS/s0-0.png", "GS/s1-0.png"):
        run(stages.adopt, "data/small", save("a.csv", {name: 1}, reader="=AB"))
    assert read_table("data/small/corrections.csv", ["reader"]) == [["=AB", "=AB"]]


def test_agreement_of_two_readers(run, small, capsys):
    random = np.random.default_rng(0)
    first = {path: int(path.startswith("GS")) for path in small}
    second = {path: label if random.random() < 0.8 else 1 - label for path, label in first.items()}
    # CD has saved each slide by itself, and has not read the last crop.
    del second[small[-1]]
    files = [save("a.csv", first)]
    for slide in sorted({path.split("/")[1].split("-")[0] for path in small}):
        own = {path: label for path, label in second.items() if f"/{slide}-" in path}
        files.append(save(f"{slide}.csv", own, reader="CD", blind="0"))
    run(stages.agreement, *files, "--output", "data/readers.csv")
    printed, warned = capsys.readouterr()
    assert "AB: 24 crops, 24 of them blind\nCD: 23 crops, 0 of them blind\n" in printed
    assert "CD had seen predictions of 23 crops" in warned and "AB had" not in warned
    both = small[:-1]
    expected = cohen_kappa(
        np.array([first[path] for path in both]),
        np.array([second[path] for path in both]),
        np.array([path.split("/")[1].split("-")[0] for path in both]),
    )
    assert "AB and CD: 23 crops; agreement" in printed
    assert f"Cohen's kappa {expected.value:.3f} (95 % interval {expected.low:.3f}" in printed
    # The table is one that a card can name.
    card = "title: t\nlabels: labels.csv\ncolumns: {name: name, slide: slide, readers: [AB, CD]}\n"
    make_table(Path("data/readers.csv").read_text(), small, "read", card)
    read = labels_from_table(read_dataset("read"), list_images(Path("data/read"))).readings
    assert read == {path: (first[path], second.get(path, -1)) for path in small}


def test_a_crop_that_was_also_read_with_predictions_in_view_is_not_blind(run, small, capsys):
    one = {"GS/s0-0.png": 1}
    files = [
        save("seen.csv", one, blind="0"),
        save("blind.csv", one),
        save("c.csv", one, reader="C"),
    ]
    run(stages.agreement, *files)
    printed = capsys.readouterr().out
    assert "AB: 1 crops, 0 of them blind" in printed and "C: 1 crops, 1 of them blind" in printed


def test_agreement_doubts_initials_that_differ_by_case_only(run, small, capsys):
    files = [save(f"{who}.csv", {"GS/s0-0.png": 1}, reader=who) for who in ("AB", "ab")]
    run(stages.agreement, *files)
    assert "readers that are kept apart, and may be one: 'AB' and 'ab'" in capsys.readouterr().err


def test_agreement_refuses_one_reader_and_other_words(run, small):
    one = save("a.csv", {"GS/s0-0.png": 1})
    with pytest.raises(UserError, match="all labels are by AB; give the tables of two readers"):
        run(stages.agreement, one)
    other = save("b.csv", {"GS/s0-0.png": 1}, reader="CD", **{"class": "GS"})
    with pytest.raises(UserError, match="label 1 is 'GS' and 'sclerotic'; the words must be"):
        run(stages.agreement, one, other)
    other = save("b.csv", {"GS/s0-0.png": 1}, reader="CD", pixels_sha256=64 * "0")
    with pytest.raises(UserError, match="a.csv and b.csv: GS/s0-0.png is of different crops"):
        run(stages.agreement, one, other)
    other = save("b.csv", {"GS/s0-0.png": 0}, reader="CD", **{"class": "sclerotic"})
    with pytest.raises(UserError, match="'sclerotic' is label 0 in one table and 1 in another"):
        run(stages.agreement, one, other)


def test_recalibrate_asks_how_labels_of_a_page_were_chosen(repository):
    theirs = make_another_laboratory()
    assert run_program("predict", theirs)[0] == 0
    names, predicted = read_table("evaluation.csv", ("name", "predicted"))
    labels = {name: int(label) for name, label in zip(names, predicted)}
    some = dict([*labels.items()][:6])
    model = json.loads(Path("models/calibration.json").read_text())["model_sha256"][:8]

    def recalibrate(labels, *more, **changes):
        changes = {"model": model, "slide": "s"} | changes
        table = save("saved.csv", labels, folder=theirs, **changes)
        code, _, error = run_program(
            "recalibrate", theirs, "--labels", table, "--output", "ours", *more
        )
        assert (code == 0) == Path("ours").exists()
        shutil.rmtree("ours", ignore_errors=True)
        return error

    corrections = ("--sampling", "corrections")
    assert "AB has labeled 6 of 60 crops and seen what is predicted" in recalibrate(some, blind="0")
    assert "AB has labeled 6 of 60 crops blindly" in recalibrate(some, *corrections)
    said = recalibrate(some, *corrections, blind="0", model="76543210")
    assert f"corrects the predictions of the model 76543210; this one is {model}" in said
    said = recalibrate(labels, pixels_sha256=64 * "0")
    assert f"... and {len(labels) - 20} more" in said and "had other pixels on the page" in said
    # What the page says is enough: a whole reading, or a blind one.
    for found in (
        recalibrate(labels, marked=f"{len(labels)} of {len(labels)}", blind="0"),
        recalibrate(labels),
        recalibrate(some, *corrections, blind="0"),
    ):
        assert "--sampling" not in found and "pixels" not in found
