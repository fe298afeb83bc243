"""The manifest lists a dataset completely and correctly, or says everything that is wrong."""

import csv
import os
import re
import subprocess
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from stages import crops, manifest
from stages.base.errors import UserError
from stages.dataset.card import read_dataset
from stages.intake import opened
from stages.intake.crops import make_manifest
from stages.intake.opened import open_files
from tests.conftest import PROJECT, list_crops, make_classes, make_table, save_crop, set_params
from tests.fork_server import python
from tests.repositories import git

UNREADABLE = Path("metrics/unreadable.csv")
NAMES = ["a1.png", "a2.png", "sub/b1.png"]
ROWS = "name,truth\na1.png,1\na2.png,0\nb1.png,0\n"


def listed(name):
    return make_manifest(read_dataset(name), UNREADABLE)[0]


def refused(name):
    with pytest.raises(UserError) as error:
        listed(name)
    return str(error.value)


def test_class_folders(workplace):
    make_classes(slides=2, each=2)
    rows = listed("small")
    assert [row[:6] for row in rows] == [
        ("GS/s0-0.png", 1, "s0", "s", 12, 9),
        ("GS/s1-0.png", 1, "s1", "s", 12, 9),
        ("nonGS/s0-1.png", 0, "s0", "s", 12, 9),
        ("nonGS/s1-1.png", 0, "s1", "s", 12, 9),
    ]
    assert len({row.sha256 for row in rows}) == 4


def test_a_labels_table_finds_images_in_subfolders(workplace):
    make_table(ROWS, NAMES)
    assert [row[:4] for row in listed("table")] == [
        ("a1.png", 1, "a", ""),
        ("a2.png", 0, "a", ""),
        ("sub/b1.png", 0, "b", ""),
    ]


@pytest.mark.parametrize(
    "rows",
    [
        "\ufeff" + ROWS,
        ROWS.replace("\n", "\r\n"),
        ROWS.replace(",", ";"),
        ROWS.replace(",", "\t"),
        "extra," + ROWS.replace("\n", "\n7,", 3),
        ROWS.replace("a1.png,1", '"a1.png"," 1 "') + "\n\n",
        ROWS.replace("b1.png", "sub/b1.png"),
    ],
    ids=[
        "byte-order mark",
        "CRLF",
        "semicolons",
        "tabs",
        "other columns",
        "quotes and blanks",
        "paths",
    ],
)
def test_tables_as_spreadsheets_write_them(workplace, rows):
    make_table(rows, NAMES)
    assert [row.label for row in listed("table")] == [1, 0, 0]


SITES_CARD = (
    "title: t\nlabels: labels.csv\n"
    "columns: {name: name, label: truth, slide: case, site: hospital}\n"
)


def test_slides_and_sites_from_the_table(workplace):
    rows = "a1.png,1,case 7,north\na2.png,0,case 7,north\nb1.png,0,case 9,south\n"
    make_table(f"name,truth,case,hospital\n{rows}", NAMES, card=SITES_CARD)
    assert [(row.slide, row.site) for row in listed("table")] == [
        ("case 7", "north"),
        ("case 7", "north"),
        ("case 9", "south"),
    ]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            ROWS.replace("a1.png,1", "a1.png,2"),
            "labels.csv, line 2: the label of a1.png is '2'; it must be 0 or 1",
        ),
        (
            ROWS.replace("a1.png,1", "a1.png,"),
            "line 2: the label of a1.png is ''; it must be 0 or 1",
        ),
        (ROWS.replace("a1.png,1", "a1.png,nan"), "line 2: the label of a1.png is 'nan'"),
        (ROWS + "c9.png,1\n", "line 5: 'c9.png' is not in the folder"),
        (ROWS + "../secret.png,1\n", "line 5: '../secret.png' is not in the folder"),
        (ROWS + "/etc/passwd,1\n", "line 5: '/etc/passwd' is not in the folder"),
        (ROWS.replace("a2.png,0\n", ""), "a2.png has no row in data/table/labels.csv"),
        (ROWS + "a1.png,1\n", "line 5: a1.png appears twice"),
        (ROWS + "a1.png,0\n", "line 5: a1.png appears twice, under both labels"),
        (ROWS.replace("a1.png,1", "a1.png,1,7"), "line 2: 3 fields; the header has 2"),
        (
            ROWS.replace("truth", "verdict"),
            "line 3: `columns: {name: name, label: truth}`: data/table/labels.csv has no such "
            "column; it has 'name', 'verdict'",
        ),
        ("", "has no such column"),
    ],
)
def test_names_the_line_of_an_error_in_a_table(workplace, rows, said):
    make_table(rows, NAMES)
    assert said in refused("table")


def test_a_table_in_another_encoding_is_refused(workplace):
    folder = make_table(ROWS, NAMES)
    (folder / "labels.csv").write_bytes("name,truth\na1.png,1\nä.png,1\n".encode("latin-1"))
    assert refused("table").startswith(
        "data/table/labels.csv, line 3: not UTF-8 text; save the table as CSV UTF-8"
    )


def test_a_missing_table_quotes_the_card(workplace):
    (make_table(ROWS, NAMES) / "labels.csv").unlink()
    assert refused("table") == (
        "data/table.yaml, line 2: `labels: labels.csv`: data/table/labels.csv does not exist, nor "
        "does data/labels/table/labels.csv"
    )


def test_a_missing_class_folder_quotes_the_card(workplace):
    make_classes().joinpath("GS").rename("data/small/Sclerotic")
    assert refused("small") == (
        "data/small.yaml, line 2: `classes: [nonGS, GS]`: data/small/GS does not exist; the "
        "folders are Sclerotic, nonGS"
    )


def test_a_name_that_the_pattern_does_not_match_quotes_the_card(workplace):
    save_crop(make_classes() / "GS" / "odd.png", seed=999)
    assert refused("small") == (
        r"data/small.yaml, line 3: `group: '(?P<slide>(?P<site>s)\d+)-\d+\.\w+$'`: it does not "
        r"match GS/odd.png"
    )


def test_names_all_unreadable_images_at_once(workplace):
    folder = make_classes(slides=10, each=4)
    for number in range(1, 4):
        for slide in range(10):
            (folder / "nonGS" / f"s{slide}-{number}.png").write_bytes(b"")
    message = refused("small").splitlines()
    assert len(message) == 21
    assert message[0].startswith("data/small/nonGS/s0-1.png does not open as an image")
    assert message[-1] == "... and 10 more"


def test_skips_and_lists_unreadable_images_if_requested(workplace, capsys):
    folder = make_classes()
    (folder / "nonGS" / "s2-1.png").write_bytes(b"")
    set_params({"manifest.unreadable": "skip"})
    list_crops()
    with open("data/manifest.csv", newline="") as file:
        assert "nonGS/s2-1.png" not in file.read()
    with open("metrics/unreadable.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["path"], row["label"]) == ("nonGS/s2-1.png", "0")
    assert row["reason"].startswith("data/small/nonGS/s2-1.png does not open as an image")
    assert (
        "warning: skipped, listed in metrics/unreadable.csv: data/small/nonGS/s2-1.png"
        in capsys.readouterr().err
    )


def test_refuses_a_folder_of_only_unreadable_images(workplace):
    for file in make_classes().rglob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(UserError, match=r"and 4 more"):
        make_manifest(read_dataset("small"), UNREADABLE, skip_unreadable=True)


def test_the_same_image_under_both_labels_is_refused(workplace):
    folder = make_classes()
    (folder / "GS" / "s3-9.png").write_bytes((folder / "nonGS" / "s3-1.png").read_bytes())
    assert refused("small") == "GS/s3-9.png and nonGS/s3-1.png: the same image under both labels"


def test_the_same_name_under_both_labels_is_refused(workplace):
    save_crop(make_classes() / "GS" / "s3-1.png", seed=999)
    assert refused("small").startswith(
        "data/small/GS/s3-1.png and nonGS/s3-1.png: the same file name under both labels;"
    )


def test_refuses_the_same_pixels_under_both_labels(workplace):
    folder = make_classes()
    note = PngInfo()
    note.add_text("Comment", "saved again")
    with Image.open(folder / "nonGS" / "s3-1.png") as image:
        image.save(folder / "GS" / "s3-9.png", pnginfo=note)
        assert (folder / "GS" / "s3-9.png").read_bytes() != (
            folder / "nonGS" / "s3-1.png"
        ).read_bytes()
    assert refused("small") == "GS/s3-9.png and nonGS/s3-1.png: the same image under both labels"
    with Image.open(folder / "nonGS" / "s3-1.png") as image:
        image.save(folder / "GS" / "s3-9.bmp")
    (folder / "GS" / "s3-9.png").unlink()
    assert refused("small") == "GS/s3-9.bmp and nonGS/s3-1.png: the same image under both labels"


def test_copies_under_one_label_are_reported(workplace, capsys):
    folder = make_classes()
    (folder / "nonGS" / "s4-9.png").write_bytes((folder / "nonGS" / "s3-1.png").read_bytes())
    assert len(listed("small")) == 25
    assert (
        "the same image, which the split will keep together: nonGS/s3-1.png = nonGS/s4-9.png"
        in capsys.readouterr().err
    )


def test_reports_other_files_and_ignores_system_files(workplace, capsys):
    folder = make_classes(slides=2)
    for name in ("GS/.DS_Store", "Thumbs.db", "notes.txt"):
        (folder / name).write_text("x")
    assert len(listed("small")) == 8
    assert (
        capsys.readouterr().err.count("warning: left out, not images by their name: notes.txt") == 1
    )


def test_refuses_an_image_outside_the_class_folders(workplace):
    save_crop(make_classes() / "s9-1.png", seed=999)
    assert refused("small") == "data/small/s9-1.png is in neither of the class folders nonGS and GS"


def test_a_link_out_of_the_folder_is_refused(workplace):
    folder = make_classes()
    outside = save_crop(workplace / "s9-1.png", seed=999)
    (folder / "GS" / "s9-1.png").symlink_to(outside)
    assert refused("small") == "'data/small/GS/s9-1.png' is a link that leads out of data/small"


def test_a_link_into_the_cache_of_dvc_is_followed(workplace):
    folder = make_classes()
    cached = save_crop(workplace / ".dvc/cache/files/md5/ab/cdef.png", seed=999)
    (folder / "GS" / "s5-9.png").symlink_to(cached)
    assert len(listed("small")) == 25


GROUP = "title: t\nclasses: [{}]\ngroup: '{}'\n"
BY_NAME, BY_PATH = r"(?P<slide>[a-z]+)\d", r"[^/]+/(?P<slide>[^/]+)/"


@pytest.mark.parametrize(
    ("classes", "group", "files"),
    [
        (
            "non, gs",
            BY_PATH,
            {"non/a/001.png": 0, "non/b/001.png": 0, "gs/a/001.png": 1, "gs/a/002.png": 1},
        ),
        (
            "'*/non', '*/gs'",
            r"(?P<slide>[^/]+)/",
            {"a/non/001.png": 0, "a/gs/001.png": 1, "b/non/001.png": 0, "b/gs/001.png": 1},
        ),
        ("gs/non, gs", BY_NAME, {"gs/a1.png": 1, "gs/non/a2.png": 0, "gs/non/x/a3.png": 0}),
        ("gs, gs/non]\npositive: gs #", BY_NAME, {"gs/a1.png": 1, "gs/non/a2.png": 0}),
        ("gs, gs/non]\npositive: gs/non #", BY_NAME, {"gs/a1.png": 0, "gs/non/a2.png": 1}),
        ("x, .", BY_NAME, {"x/a1.png": 0, "a2.png": 1, "y/a3.png": 1}),
        ("., x", BY_NAME, {"x/a1.png": 1, "a2.png": 0, "y/a3.png": 0}),
        ("0, 1", BY_NAME, {"0/a1.png": 0, "1/a2.png": 1}),
        ("ngs, gs", BY_NAME, {"gs/a1.png": 1, "ngs/a2.png": 0}),
        ("gesünder, kränker", BY_NAME, {"gesu\u0308nder/a1.png": 0, "kra\u0308nker/a2.png": 1}),
        ("'a?', '[b]'", BY_NAME, {"a?/a1.png": 0, "[b]/a2.png": 1}),
    ],
)
def test_reads_common_folder_layouts(workplace, classes, group, files):
    Path("data/d.yaml").write_text(GROUP.format(classes, group))
    for seed, name in enumerate(files):
        save_crop(Path("data/d") / name, seed)
    rows = listed("d")
    assert {row.path: row.label for row in rows} == files
    assert {row.slide for row in rows} <= {"a", "b"}


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ("'*/x', 'y/*'", "data/d/y/x/a1.png is in both of the class folders */x and y/*"),
        ("x, z", "data/d/x does not exist; write '*/x' for deeper ones"),
        (".hidden, y", ".hidden is ignored, as all hidden and system files are"),
        ("gone, y", "data/d/gone does not exist; the folders are y"),
    ],
)
def test_refuses_ambiguous_class_folders(workplace, classes, said):
    Path("data/d.yaml").write_text(GROUP.format(classes, BY_NAME))
    save_crop(Path("data/d/y/x/a1.png"), 0)
    save_crop(Path("data/d/.hidden/a2.png"), 1)
    assert said in refused("d")


def test_a_pattern_that_takes_the_class_folder_into_the_slide_is_refused(workplace):
    for seed, name in enumerate(("gs/a/1.png", "non/a/2.png", "non/b/3.png")):
        save_crop(Path("data/d") / name, seed)
    Path("data/d.yaml").write_text(GROUP.format("non, gs", "(?P<slide>.+)/"))
    assert "the slide includes the class folder: 'gs/a' and 'non/a' would be two" in refused("d")
    Path("data/d.yaml").write_text(GROUP.format("non, gs", "[^/]+/(?P<slide>.+)/"))
    assert [row.slide for row in listed("d")] == ["a", "a", "b"]


def test_one_patient_in_two_forms_of_unicode_is_one_slide(workplace, capsys):
    folder = make_classes()
    Path("data/small.yaml").write_text(
        "title: t\nclasses: [nonGS, GS]\ngroup: '(?P<slide>.+)[-_]\\d+\\.png$'\n"
    )
    for number, form in enumerate(("NFC", "NFD")):
        save_crop(
            folder / "nonGS" / unicodedata.normalize(form, f"Müller_{number}.png"),
            seed=5000 + number,
        )
    rows = [row for row in listed("small") if "ller" in row.path]
    assert [row.slide for row in rows] == ["Müller"] * 2
    # Paths stay as they are on the disk.
    assert sorted(row.path for row in rows) == sorted(
        f"nonGS/{name}" for name in os.listdir(folder / "nonGS") if "ller" in name
    )
    assert "may be one" not in capsys.readouterr().err
    save_crop(folder / "nonGS" / "MÜLLER _3.png", seed=5003)
    listed("small")
    assert (
        "warning: slides that are kept apart, but may be the same: 'MÜLLER ' and 'Müller'"
        in capsys.readouterr().err
    )


def test_one_name_in_two_forms_of_unicode_is_refused(workplace):
    folder = make_classes()
    for seed, form in enumerate(("NFC", "NFD")):
        save_crop(folder / "nonGS" / unicodedata.normalize(form, "s1-é.png"), seed=500 + seed)
    assert "are one name in two Unicode forms; rename one" in refused("small")


def test_a_slide_of_two_sites_is_refused(workplace):
    rows = "name,truth,case,hospital\na1.png,1,7,north\na2.png,0,7,south\nb1.png,0,9,south\n"
    make_table(rows, NAMES, card=SITES_CARD)
    assert refused("table") == "slide 7 is of several sites: north, south"


def test_an_empty_folder_is_refused(workplace):
    folder = make_classes(slides=1)
    for file in folder.rglob("*.png"):
        file.unlink()
    assert refused("small").startswith(
        "data/small holds no image; readable formats end in .apng, .bmp"
    )


def test_the_order_of_the_files_on_the_disk_does_not_matter(workplace, monkeypatch):
    make_classes()
    expected = listed("small")
    walk = os.walk

    def backwards(folder, onerror):
        for parent, folders, names in walk(folder, onerror=onerror):
            folders.reverse()
            yield parent, folders, names[::-1]

    monkeypatch.setattr(os, "walk", backwards)
    assert listed("small") == expected


def test_the_stage_writes_the_table_or_nothing(workplace):
    folder = make_classes()
    crops.main()
    command = [python(), "-m", "stages.manifest"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()) == (
        0,
        [
            "label 0, non globally sclerotic: 18 in data/small/nonGS, such as nonGS/s0-1.png",
            "label 1, globally sclerotic: 6 in data/small/GS, such as GS/s0-0.png",
            "small: 24 glomeruli, 6 of them globally sclerotic, 6 slides",
        ],
    )
    with open("data/manifest.csv", newline="") as file:
        assert next(csv.reader(file)) == [
            "path",
            "label",
            "slide",
            "site",
            "width",
            "height",
            "sha256",
            "pixels_sha256",
            "published",
        ]
    for written in ("card.json", "manifest.csv"):
        Path("data", written).unlink()

    cut = save_crop(folder / "GS" / "s1-7.png", seed=999)
    cut.write_bytes(cut.read_bytes()[:200])
    crops.main()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        "error: data/small/GS/s1-7.png does not open as an image: "
    )
    listed = ["crops.csv", "crops.json", "crops.keys.npy", "small", "small.yaml"]
    assert sorted(path.name for path in Path("data").iterdir()) == listed


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=300)
    | st.text(alphabet="name,truth01;\t\n\r\"'.pg \0\ufeff", max_size=200).map(str.encode)
)
def test_any_bytes_are_a_table_or_an_error(tmp_path_factory, content):
    root = tmp_path_factory.mktemp("data")
    (root / "d").mkdir()
    (root / "d" / "labels.csv").write_bytes(content)
    (root / "d.yaml").write_text(
        "title: t\nlabels: labels.csv\ncolumns: {name: name, label: truth}\ngroup: '(?P<slide>.)'\n"
    )
    with pytest.raises(UserError) as error:  # There are no images: even a good table is refused.
        make_manifest(read_dataset("d", root), UNREADABLE)
    assert str(root / "d") in str(error.value)


def test_a_sample_of_the_sizes_is_drawn(workplace, monkeypatch):
    make_classes()
    monkeypatch.setattr(manifest, "DRAWN_SIZES", 5)
    list_crops()
    with open("metrics/plots/crop_sizes.csv", newline="") as file:
        assert (
            list(csv.reader(file))
            == [["width", "height", "label"]] + [["12", "9", "1"]] * 2 + [["12", "9", "0"]] * 3
        )


def test_refuses_a_card_without_images(workplace):
    set_params({"data": "nowhere"})
    with pytest.raises(UserError, match=r"data/nowhere.yaml does not exist"):
        list_crops()


def test_corrections_override_labels_and_every_result_says_so(workplace, capsys):
    folder = make_classes(slides=3, each=3)
    card = Path("data/small.yaml")
    card.write_text(card.read_text() + "corrections: corrected.csv\n")
    table = folder / "corrected.csv"
    table.write_text("path,label,why\nGS/s0-0.png,0,segmental\nnonGS/s1-1.png,1,\n")
    list_crops()
    with open("data/manifest.csv", newline="") as file:
        rows = {row["path"]: (row["label"], row["published"]) for row in csv.DictReader(file)}
    assert rows["GS/s0-0.png"] == ("0", "1") and rows["nonGS/s1-1.png"] == ("1", "0")
    assert sum(label != published for label, published in rows.values()) == 2
    assert "2 labels corrected by corrected.csv" in capsys.readouterr().out
    for text, said in (
        ("path,label\n../../etc/passwd,1\n", "'../../etc/passwd' is not in data/small"),
        (
            "path,label\nGS/s0-0.png,2\n",
            "line 2: the label of GS/s0-0.png is '2'; it must be 0 or 1",
        ),
        ("path,label\nGS/s0-0.png,0\nGS/s0-0.png,0\n", "line 3: GS/s0-0.png appears twice"),
        ("file,label\nGS/s0-0.png,0\n", "no column 'name' or 'path'; it has 'file', 'label'"),
    ):
        table.write_text(text)
        with pytest.raises(UserError, match=re.escape(said)):
            list_crops()
    table.unlink()
    with pytest.raises(
        UserError, match=r"`corrections: corrected.csv`: data/small/corrected.csv does"
    ):
        list_crops()


def corrected_in_git(text="path,label\nGS/s0-0.png,0\n"):
    """Make a dataset of three slides, and a table of corrections in data/labels/."""
    make_classes(slides=3, each=3)
    card = Path("data/small.yaml")
    card.write_text(card.read_text() + "corrections: corrected.csv\n")
    table = Path("data/labels/small/corrected.csv")
    table.parent.mkdir(parents=True)
    table.write_text(text)
    return table


def label_of(path):
    with open("data/manifest.csv", newline="") as file:
        return {row["path"]: row["label"] for row in csv.DictReader(file)}[path]


def test_a_label_is_corrected_in_git_without_opening_an_image(workplace):
    table = corrected_in_git()
    list_crops()
    assert label_of("GS/s0-0.png") == "0" and label_of("GS/s1-0.png") == "1"
    for image in Path("data/small").rglob("*.png"):
        image.unlink()
    table.write_text("path,label\nGS/s1-0.png,0\n")
    manifest.main()
    assert label_of("GS/s0-0.png") == "1" and label_of("GS/s1-0.png") == "0"


def test_a_table_in_two_places_or_a_link_out_of_its_folder_is_refused(workplace):
    table = corrected_in_git()
    inside = Path("data/small/corrected.csv")
    inside.write_text(table.read_text())
    assert f"{inside} and {table} exist; remove one of them" in refused("small")
    inside.unlink()
    Path("elsewhere.csv").write_text(table.read_text())
    table.unlink()
    table.symlink_to(Path("elsewhere.csv").absolute())
    assert f"{table} is a link that leads out of data/labels/small" in refused("small")
    set_params({"data": "labels"})
    Path("data/labels.yaml").write_text(Path("data/small.yaml").read_text())
    with pytest.raises(UserError, match=r"data/labels: it holds tables; name the dataset"):
        read_dataset("labels")


@pytest.mark.parametrize("name", [".corrected.csv", ".old/corrected.csv", "~$corrected.csv"])
def test_a_hidden_table_is_refused(workplace, name):
    """A change in it would rerun nothing."""
    corrected_in_git()
    card = Path("data/small.yaml")
    card.write_text(card.read_text().replace("corrected.csv", f"'{name}'"))
    assert "its name is that of a hidden file or a leftover; rename it" in refused("small")


def test_a_correction_of_another_picture_is_refused(workplace, capsys):
    make_classes(slides=3, each=3)
    pixels = {crop.path: crop.pixels_sha256 for crop in open_files(Path("data/small")).crops}
    first, other = "GS/s0-0.png", "GS/s1-0.png"
    table = Path("data/labels/small/corrected.csv")
    table.parent.mkdir(parents=True)
    card = Path("data/small.yaml")
    card.write_text(card.read_text() + "corrections: corrected.csv\n")
    heading = "Path,label,pixels_sha256\n"
    table.write_text(f"{heading}{first},0,{pixels[first]}\n{other},0,\n")
    list_crops()
    assert label_of(first) == label_of(other) == "0"
    # The table is read once.
    assert capsys.readouterr().err.count("the column 'Path' is read as 'path'") == 1
    table.write_text(f"{heading}{first},0,{pixels[other]}\n")
    assert f"{table}, line 2: '{first}' is another picture than the one that was" in refused(
        "small"
    )


def test_a_table_that_is_not_committed_is_named(workplace, capsys):
    table = corrected_in_git()
    crops.main()
    for commands, said in (
        ([["init", "-q"], ["add", "."]], "is not as in the last commit"),
        ([["commit", "-q", "-m", "All"]], ""),
        ([["rm", "-q", "--cached", str(table)]], "is not as in the last commit"),
    ):
        for command in commands:
            git(*command)
        manifest.main()
        error = capsys.readouterr().err
        assert said in error and bool(said) == ("commit" in error)
    git("commit", "-q", "-m", "Out")
    Path(".gitignore").write_text("*.csv\n")
    manifest.main()
    assert f"{table}: git ignores it" in capsys.readouterr().err


def test_an_image_without_a_label_is_no_matter_of_the_manifest(workplace, capsys):
    """Neither one that does not open, nor a doubtful one: readers have not agreed on them."""
    rows = "name,ann,ben\na1.png,1,1\na2.png,0,1\nb1.png,0,0\nb2.gif,0,1\n"
    card = "columns: {name: name, readers: [ann, ben]}\ngroup: '(?P<slide>[a-z]+)'\n"
    folder = make_table(
        rows, ["a1.png", "a2.png", "b1.png"], card=f"title: t\nlabels: labels.csv\n{card}"
    )
    (folder / "a2.png").write_bytes(b"")
    frames = [Image.new("RGB", (9, 9), color) for color in ("red", "blue")]
    frames[0].save(folder / "b2.gif", save_all=True, append_images=frames[1:])
    list_crops()
    said = capsys.readouterr()
    assert "4 images (4 new), 1 of which do not open: data/crops.csv" in said.out
    assert "2 pictures" not in said.err and "does not open" not in said.err
    with open("data/crops.csv", newline="") as file:
        listed = {row["path"]: row for row in csv.DictReader(file)}
    assert listed["a2.png"]["problem"].startswith("data/table/a2.png does not open as an image")
    assert listed["b2.gif"]["doubts"] == "it holds 2 pictures; the first is read"
    assert not UNREADABLE.read_text().splitlines()[1:]
    # With labels both are said, as of a dataset in one go.
    (folder / "labels.csv").write_text(rows.replace("0,1", "1,1"))
    set_params({"manifest.unreadable": "skip"})
    list_crops()
    error = capsys.readouterr().err
    assert "skipped, listed in metrics/unreadable.csv: data/table/a2.png does not open" in error
    assert "read, but check it: data/table/b2.gif: it holds 2 pictures" in error


def test_crops_of_another_dataset_are_refused(workplace):
    make_classes("one", slides=2)
    crops.main()
    make_classes("two", slides=2)
    with pytest.raises(UserError, match="of the dataset 'one', and params.yaml: data is 'two'"):
        manifest.main()
    crops.main()
    table = Path("data/crops.csv")
    table.write_text(table.read_text().replace("s0-0", "s0-9"))
    with pytest.raises(UserError, match=r"crops.json: it was written with another data/crops.csv"):
        manifest.main()


def test_an_image_that_does_not_fit_in_memory_stops_the_stage(workplace, monkeypatch):
    """It says nothing about the image: DVC would keep the row for machines with more memory."""
    make_classes(slides=1)

    def too_much(data, path):
        raise MemoryError

    monkeypatch.setattr(opened, "decode", too_much)
    with pytest.raises(UserError, match="does not fit in memory"):
        crops.main()
    assert not Path("data/crops.csv").exists()
