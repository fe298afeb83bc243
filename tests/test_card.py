"""The card that is proposed for a folder: it says what the folder holds, or nothing is written."""

import io
import os
import sys
from pathlib import Path

import pytest

import stages.card
from stages.base.errors import UserError
from stages.dataset.card import read_dataset
from stages.dataset.slides import slide_pattern
from stages.intake.crops import make_manifest
from stages.intake.proposal import propose_classes, propose_slides
from tests.conftest import make_classes, make_table


@pytest.fixture
def propose(workplace, monkeypatch):
    no_terminal = io.StringIO()

    def run(name, *arguments):
        Path(f"data/{name}.yaml").unlink(missing_ok=True)
        monkeypatch.setattr(sys, "argv", ["card", f"data/{name}", *arguments])
        monkeypatch.setattr("sys.stdin", no_terminal)
        stages.card.main()
        return read_dataset(name)

    return run


def test_class_folders(propose, capsys):
    make_classes(slides=6, each=4)
    dataset = propose("small", "--title", "Ours")
    assert dataset.card.title == "Ours" and dataset.card.classes == ["nonGS", "GS"]
    assert dataset.card.group == "{slide}-{number}"
    rows = make_manifest(dataset, Path("unreadable.csv")).rows
    assert {row.slide for row in rows} == {f"s{number}" for number in range(6)}
    printed = capsys.readouterr().out
    assert "24 crops of 6 slides, 6 with sclerotic glomeruli; 4 to 4 crops per slide" in printed
    assert "GS/s0-0.png: slide s0\n" in printed


def test_a_table_of_words(propose, capsys):
    names = [f"{letter}_{number}.png" for letter in "ab" for number in range(3)]
    rows = "".join(f"{name};{'Rot' if '_1' in name else 'Blau'};K\n" for name in names)
    make_table(f"Datei;Sklerosiert;Zentrum\n{rows}", names)
    with pytest.raises(UserError, match="Blau and Rot: it cannot be told which") as error:
        propose("table", "--title", "t", "--slide", "{slide}_{number}")
    assert "--classes Blau Rot" in str(error.value) and not Path("data/table.yaml").exists()
    dataset = propose("table", "--classes", "blau", "rot")
    assert dataset.card.labels == "labels.csv" and dataset.card.columns.site == "Zentrum"
    found = make_manifest(dataset, Path("unreadable.csv")).rows
    assert [row.label for row in found] == [0, 1, 0] * 2 and {row.site for row in found} == {"K"}
    assert "2 slides have sclerotic glomeruli; five folds need" in capsys.readouterr().err
    # Of a column `gesund`, "ja" would mean the opposite.
    words = rows.replace("Rot", "ja").replace("Blau", "nein")
    make_table(f"Datei;gesund;Zentrum\n{words}", names)
    with pytest.raises(UserError, match="'gesund' seems to be of glomeruli that are not sclerotic"):
        propose("table", "--slide", "{slide}_{number}")


def test_writes_nothing_if_the_card_would_be_refused(propose):
    make_classes(slides=6, each=4)
    for arguments, said in (
        (["--slide", "{slide}_{number}"], "it does not match GS/s0-0.png"),
        (["--slide", "{patient}{slide}"], "it has {patient}; {slide} and {site}"),
        (["--classes", "a", "b"], "data/small/a does not exist"),
    ):
        with pytest.raises(UserError) as error:
            propose("small", *arguments)
        assert said in str(error.value), error.value
        assert not Path("data/small.yaml").exists()
    propose("small")
    with pytest.raises(UserError, match="data/small.yaml already exists"):
        stages.card.main()


def test_asks_for_what_the_names_do_not_tell(propose):
    make_table(
        "name,label\n" + "".join(f"x{n}.png,{n % 2}\n" for n in range(4)),
        [f"x{n}.png" for n in range(4)],
    )
    with pytest.raises(UserError, match="the names do not tell the slide; give --slide"):
        propose("table")


def add_table(header, value):
    """Write a table of the crops of data/small, with `value` of a path in the other columns."""
    paths = sorted(Path("data/small").rglob("*.png"))
    rows = "".join(f"{path.name},{value(path)}\n" for path in paths)
    Path("data/small/table.csv").write_text(f"{header}\n{rows}")


def of_digit(*texts):
    """Return a function of a path: one of two texts, by the slide's last digit."""
    return lambda path: texts[int(path.name[1]) % 2]


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("name,female,age", of_digit("1,70", "0,71")),
        ("name,female", of_digit("yes", "no")),
        ("name,age", of_digit("70", "70")),
        ("name,slide,scanner", of_digit("a,scanner 1", "b,scanner 2")),
        ("file,patient,diagnosis", of_digit("a,diabetic glomerulosclerosis", "b,IgA nephropathy")),
        ("patient,age", of_digit("a,70", "b,71")),
    ],
)
def test_class_folders_win_over_a_table_without_labels(propose, capsys, header, value):
    make_classes()
    add_table(header, value)
    card = propose("small").card
    assert card.classes == ["nonGS", "GS"] and card.labels is None
    said = "warning: the labels are from the class folders: data/small/table.csv: no column"
    assert said in capsys.readouterr().err


def test_refuses_folders_and_a_table_that_both_give_labels(propose, capsys):
    make_classes()
    add_table("name,sclerotic", of_digit("ja", "nein"))
    for arguments in ([], ["--classes", "nonGS", "GS"], ["--classes", "nein", "ja"]):
        if arguments:
            classes = propose("small", *arguments).card.classes
            assert classes == arguments[1:]
            continue
        with pytest.raises(UserError, match="nonGS and GS and the column 'sclerotic' of table.csv"):
            propose("small")
    assert "table.csv: not used" in capsys.readouterr().err
    add_table("name,kind", lambda path: path.parent.name)
    with pytest.raises(UserError, match="both give labels"):
        propose("small", "--classes", "nonGS", "GS")


@pytest.mark.parametrize(
    ("header", "rows", "label"),
    [
        ("name,female,label", "{},1,{}", "label"),
        ("name,kind", "{},{:d} GS", None),
        ("name,female", "{},{}", None),
        ("name,label,GS", "{0},{1},{1}", None),
        ("name,Ground Truth", "{},{}.0", "Ground Truth"),
        ("name,is_GS", "{},{}", "is_GS"),
        ("name,segmental sclerosis", "{},{}", None),
    ],
)
def test_columns_that_may_hold_labels(propose, header, rows, label):
    names = [f"s{number // 3}_{number}.png" for number in range(12)]
    table = "".join(f"{rows.format(name, place % 2)}\n" for place, name in enumerate(names))
    make_table(f"{header}\n{table}", names)
    if label:
        assert propose("table").card.columns.label == label
    else:
        with pytest.raises(UserError):
            propose("table")


def test_prefers_the_patient_to_the_slide(propose, capsys):
    names = [f"{number}.png" for number in range(6)]
    rows = "".join(f"{name},s{at},P{at // 2},{at % 2}\n" for at, name in enumerate(names))
    make_table(f"name,slide,Patient_ID,label\n{rows}", names)
    assert propose("table").card.columns.slide == "Patient_ID"
    assert "grouped by the column Patient_ID, not slide\n" in capsys.readouterr().out


def test_an_end_of_the_input_is_no_answer(propose, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    make_classes()
    Path("data/small.yaml").unlink()
    monkeypatch.setattr(sys, "argv", ["card", "data/small"])
    monkeypatch.setattr(sys, "stdin", Terminal())
    with pytest.raises(UserError, match="give --title"):
        stages.card.main()
    assert not Path("data/small.yaml").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, BrokenPipeError])
def test_an_interrupted_check_leaves_no_card(propose, monkeypatch, error):
    def stop(*_):
        raise error

    make_classes()
    monkeypatch.setattr(stages.card, "say", stop)
    with pytest.raises(error):
        propose("small")
    assert not Path("data/small.yaml").exists()


def test_refuses_a_folder_that_params_cannot_name(propose):
    os.renames(make_classes(), "data/my crops")
    with pytest.raises(UserError, match="data/my crops: params.yaml cannot name this dataset"):
        propose("my crops")


@pytest.mark.parametrize(
    ("paths", "classes", "template"),
    [
        (["a/S1-1.png", "a/S1-2.png", "b/S2-1.png", "b/S2-2.png"], ["a", "b"], "{slide}-{number}"),
        (["a/S1/x.png", "a/S1/y.png", "b/S2/x.png", "b/S2/z.png"], ["a", "b"], "*/{slide}/*"),
        (["S1/a/x.png", "S1/b/y.png", "S2/a/x.png", "S2/b/z.png"], ["a", "b"], "{slide}/*/*"),
        (["a/1.png", "a/2.png", "b/3.png"], ["a", "b"], None),
    ],
)
def test_slides_in_names_and_folders(paths, classes, template):
    assert propose_slides(paths, classes) == template


def test_class_folders_in_the_folders_of_slides():
    paths = [f"S{slide}/{name}/1.png" for slide in range(3) for name in ("healthy", "sclerotic")]
    assert propose_classes(paths) == ["*/healthy", "*/sclerotic"]
    assert propose_classes(["a.png", "b/c.png"]) is None


@pytest.mark.parametrize(
    ("folders", "classes"),
    [
        (["site_1", "site_2"], None),
        (["batch_1", "batch_2"], None),
        (["0", "1"], None),
        (["P1", "N2"], None),
        (["0_GS", "1_nonGS"], ["1_nonGS", "0_GS"]),
        (["site_1/GS", "site_1/nonGS", "site_2/GS", "site_2/nonGS"], ["*/nonGS", "*/GS"]),
        (["site_1/S1/GS", "site_2/S2/nonGS"], ["*/*/nonGS", "*/*/GS"]),
        (["GS/S1", "nonGS/S2"], ["nonGS", "GS"]),
        (["case/GS", "case/nonGS", "control/GS", "control/nonGS"], ["*/nonGS", "*/GS"]),
        (["GS", "nonGS/S2"], ["nonGS", "GS"]),
    ],
)
def test_class_folders_are_told_by_words_in_the_deepest_folders(folders, classes):
    assert propose_classes([f"{folder}/1.png" for folder in folders]) == classes


def test_refuses_two_levels_of_class_folders():
    with pytest.raises(UserError, match="control case or [*]/normal [*]/diseased"):
        propose_classes(["case/diseased/1.png", "control/normal/1.png"])


@pytest.mark.parametrize(
    ("template", "path", "found"),
    [
        ("{slide}_{number}", "x/S1_a_007.tif", ("S1_a", "")),
        ("{site}_{slide}-{number}.png", "SAS_21883_001-8.png", ("21883_001", "SAS")),
        ("{slide}_{number}.png", "S1_7.tif", ("", "")),
        ("*/{slide}/*", "GS/S 1/a.b.png", ("S 1", "")),
        ("{slide}.+_{number}", "a.+_1.png", ("a", "")),
    ],
)
def test_templates_match_whole_names(template, path, found):
    assert slide_pattern(template).match(path) == found
