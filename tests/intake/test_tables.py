"""One reader of tables and one matcher of names, whoever asks: the manifest, the corrections, `predict` and its labels."""

import unicodedata
from pathlib import Path

import pytest

from stages.base.errors import UserError
from stages.intake.tables import by_name, list_crops, read_columns, read_labels, read_rows
from tests.conftest import make_table, save_crop


def table(text, name="table.csv"):
    Path(name).write_bytes(text.encode("utf-8"))
    return Path(name)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_by_any_separator(workplace, separator):
    path = table(separator.join(("name", "label")) + "\n\n" + separator.join((" a.png ", "1")) + "\n" + separator * 1 + "\n")
    assert read_rows(path, ("name", "label")) == (["name", "label"], [(3, {"name": "a.png", "label": "1"})])


def test_a_column_twice_is_refused_wherever_it_is_read(workplace):
    save_crop(Path("crops/a.png"), 0)
    twice = table("name,label,label\na.png,0,1\n", "crops/table.csv")
    for read in (
        lambda: read_columns(twice, ("name", "label")),
        lambda: read_labels(twice, "name", "label", ["a.png"]),
    ):
        with pytest.raises(UserError, match=r"table.csv has the column 'label' 2 times"):
            read()
    # A column that nobody asks for may stand there as often as it likes.
    assert list_crops(twice) == (Path("crops"), ["a.png"])


@pytest.mark.parametrize("row", ["a.png", "a.png,1,2", '"a.png'])
def test_a_row_of_another_length_is_named_by_its_line(workplace, row):
    with pytest.raises(UserError, match=r"^table.csv, line 3: \d fields where the header has 2$"):
        read_columns(table(f"name,label\nb.png,0\n{row}\n"), ("name", "label"))


def test_what_is_no_table(workplace):
    with pytest.raises(UserError, match=r"^there is no file none.csv$"):
        read_columns(Path("none.csv"), ("name",))
    Path("utf16.csv").write_bytes("name\na\n".encode("utf-16"))
    with pytest.raises(UserError, match=r"^utf16.csv is not UTF-8 text; save it as CSV UTF-8$"):
        read_columns(Path("utf16.csv"), ("name",))
    with pytest.raises(UserError, match=r"^table.csv has no column label; it has name$"):
        read_columns(table("name\n"), ("name", "label"))


def test_a_name_that_fits_two_crops_labels_neither(workplace):
    names = ["one/a.png", "two/a.png", "two/b.png"]
    with pytest.raises(UserError, match=r"^table.csv, line 2: 'a.png' fits 2 crops: one/a.png, two/a.png$"):
        read_labels(table("name,truth\na.png,1\n"), "name", "truth", names)
    given = table("name,truth\none/a.png,1\ntwo/a.png,0\nb.png,1\nelsewhere.png,0\n")
    assert read_labels(given, "name", "truth", names) == {"one/a.png": 1, "two/a.png": 0, "two/b.png": 1}


def test_an_accented_letter_is_one_letter_however_it_is_written(workplace):
    on_disk, in_table = (unicodedata.normalize(form, "Müller_1.png") for form in ("NFD", "NFC"))
    assert on_disk != in_table
    assert by_name([on_disk]) == {in_table: [on_disk]}
    save_crop(Path("crops") / on_disk, 0)
    assert list_crops(table(f"name\n{in_table}\n", "crops/table.csv")) == (Path("crops"), [on_disk])
    assert read_labels(table(f"name,truth\n{in_table},1\n"), "name", "truth", [on_disk]) == {on_disk: 1}


def test_corrections_name_paths_in_either_way(workplace):
    from stages.dataset.card import read_dataset
    from stages.intake.labels import read_corrections

    on_disk, in_table = (unicodedata.normalize(form, "é1.png") for form in ("NFD", "NFC"))
    card = "title: t\nlabels: labels.csv\ncolumns: {name: name, label: truth}\ngroup: '(?P<slide>.)'\ncorrections: new.csv\n"
    folder = make_table(f"name,truth\n{in_table},1\n", [on_disk], card=card)
    table(f"path,label\n{in_table},0\n", folder / "new.csv")
    assert read_corrections(read_dataset("table"), {on_disk: 1}) == {on_disk: 0}
