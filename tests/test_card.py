"""The card that is proposed for a folder: it says what the folder holds, or nothing is written."""

import io
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
