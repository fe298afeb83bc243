"""A joined dataset has the crops of its shards, told apart by the shard's name, and no others."""

import csv
import re
import shutil
from pathlib import Path
from zipfile import ZipFile

import pytest

from stages import crops, manifest, split
from stages.base.errors import UserError
from stages.dataset.card import read_dataset
from stages.dataset.cohort import read_cohort
from stages.dataset.readings import NOT_READ
from stages.intake.crops import make_manifest
from stages.intake.readers import Consensus
from stages.model_card import training_data
from tests.conftest import make_shards, make_table, save_crop, set_params

UNREADABLE = Path("metrics/unreadable.csv")


def edit(path, old, new):
    path.write_text(path.read_text().replace(old, new))


def list_shards(*names):
    Path("data/network.yaml").write_text(f"title: t\nshards: [{', '.join(names)}]\n")
    set_params({"data": "network"})


def read(path):
    with Path(path).open(newline="") as file:
        return [*csv.DictReader(file)]


def run_split():
    crops.main()
    manifest.main()
    split.main()
    return read("data/split.csv")


def listed(name="network", **options):
    return make_manifest(read_dataset(name), UNREADABLE, **options)


def refused():
    with pytest.raises(UserError) as error:
        listed()
    return str(error.value)


def test_names_begin_with_the_shard(workplace, capsys):
    folder = make_shards("a", "b", slides=2)
    # The card of b names no sites.
    edit(folder / "b.yaml", "(?P<site>s)", "s")
    rows = listed().rows
    assert len(rows) == 16 and rows == sorted(rows)
    assert [row[:4] for row in rows[:3]] == [
        ("a/GS/s0-0.png", 1, "a/s0", "a/s"),
        ("a/GS/s1-0.png", 1, "a/s1", "a/s"),
        ("a/nonGS/s0-1.png", 0, "a/s0", "a/s"),
    ]
    assert rows[8][:4] == ("b/GS/s0-0.png", 1, "b/s0", "b")
    said = "2 slides (or patients) have the same name in several shards, and count as different"
    assert f"{said} ones: 's0' (a, b), 's1' (a, b); if" in capsys.readouterr().err


def test_each_shard_is_read_by_its_own_card_and_tables(workplace):
    folder = make_shards("a", slides=1)
    table = make_table("name,truth\nx1.png,GS\nx2.png,no\n", ["x1.png", "x2.png"], "network/b")
    (table / "fixed.csv").write_text("path,label\nx2.png,1\n")
    card = "title: t\nlabels: labels.csv\ncolumns: {name: name, label: truth}\nclasses: [no, GS]\n"
    (folder / "b.yaml").write_text(f"{card}corrections: fixed.csv\ngroup: '(?P<slide>x)'\n")
    list_shards("a", "b")
    of_b = [row for row in listed().rows if row.slide == "b/x"]
    assert [(row.path, row.label, row.published) for row in of_b] == [
        ("b/x1.png", 1, 1),
        ("b/x2.png", 1, 0),
    ]


def test_shards_do_not_share_a_table_in_git(workplace):
    folder = make_shards("a", "b")
    for name in "ab":
        card = folder / f"{name}.yaml"
        card.write_text(card.read_text() + "corrections: corrected.csv\n")
        table = Path("data/labels/network", name, "corrected.csv")
        table.parent.mkdir(parents=True)
        table.write_text("path,label\nGS/s0-0.png,1\n")
    before = {row.path: row.label for row in listed().rows}
    table.write_text("path,label\nGS/s0-0.png,0\n")
    assert {row.path: row.label for row in listed().rows} == before | {"b/GS/s0-0.png": 0}


def test_shards_of_separate_slides_are_refused_together(workplace):
    """Each has too few for that to be more than chance."""
    folder = make_shards("a", "b", slides=2)
    for name in "ab":
        card = folder / f"{name}.yaml"
        card.write_text(re.sub("group: .*", r"group: '(?P<slide>.+)\.png$'", card.read_text()))
    said = refused()
    assert said.startswith("data/network/a.yaml, line 3: `group:")
    assert "each of the 16 crops is a separate slide, such as 'a/s0-0'" in said
    # Only the slides that a pattern finds count.
    card.write_text(re.sub("group: .*", "group: none", card.read_text()))
    assert listed().rows


@pytest.mark.parametrize("name", ["c/a.png", "c.yaml", "c.dvc", "c.png"])
def test_refuses_what_the_card_does_not_list(workplace, name):
    folder = make_shards("a", "b")
    (folder / "a.dvc").touch()
    (folder / ".DS_Store").touch()
    assert listed().rows
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).touch()
    name = name.split("/")[0]
    assert refused().startswith(f"data/network/{name}: data/network.yaml does not list it")


def test_archives_lie_in_the_folder_of_a_shard(workplace):
    folder = make_shards("a", "b")
    before = listed().rows
    with ZipFile(folder / "b/more.zip", "w") as archive:
        for crop in sorted((folder / "b/GS").iterdir()):
            archive.write(crop, f"GS/{crop.name}")
            crop.unlink()
    assert listed().rows == before
    with ZipFile(folder / "more.zip", "w") as archive:
        archive.write(folder / "a/GS/s0-0.png", "a/GS/s9-0.png")
    assert refused().startswith("data/network/more.zip: data/network.yaml does not list it")


def test_says_what_is_wrong_in_all_shards(workplace):
    folder = make_shards("a", "b")
    for name in ("a", "b"):
        shutil.rmtree(folder / name)
        save_crop(folder / name / "elsewhere/s1-1.png", 1)
    assert [line.split(", ")[0] for line in refused().splitlines()] == [
        "data/network/a.yaml",
        "data/network/b.yaml",
    ]
    (folder / "a/elsewhere/s1-1.png").unlink()
    assert "data/network/a holds no image" in refused()


def test_the_same_picture_in_two_shards(workplace, capsys):
    folder = make_shards("a", "b", slides=5)
    shutil.copy(folder / "a/GS/s3-0.png", folder / "b/GS/s0-9.png")
    assert listed().rows
    same = "the same image, which the split will keep together: a/GS/s3-0.png = b/GS/s0-9.png"
    assert same in capsys.readouterr().err
    run_split()
    fold = {row["slide"]: row["fold"] for row in read("data/folds.csv")}
    assert fold["a/s3"] == fold["b/s0"] and len(fold) == 10
    shutil.move(folder / "b/GS/s0-9.png", folder / "b/nonGS/s0-9.png")
    assert refused() == "a/GS/s3-0.png and b/nonGS/s0-9.png: the same image under both labels"


def test_the_model_card_has_the_license_of_each_hospital(workplace):
    make_shards("a", "b", slides=5)
    for card, license in {"network": "ours", "network/a": "CC BY 4.0", "network/b": "none"}.items():
        with open(f"data/{card}.yaml", "a") as file:
            file.write(f"license: {license}\n")
    run_split()
    text = training_data(read_dataset("network"), read_cohort(), 0, 0, "majority")
    found = [line for line in text.split("\n") if "license" in line]
    assert found == ["- license: ours", "- license of a: CC BY 4.0", "- license of b: none"]


def test_an_unreadable_crop_is_listed_with_its_shard(workplace):
    folder = make_shards("a", "b")
    (folder / "b/GS/s0-0.png").write_bytes(b"no picture")
    assert refused().startswith("data/network/b/GS/s0-0.png")
    assert [one.path for one in listed(skip_unreadable=True).unreadable] == ["b/GS/s0-0.png"]


def test_readers_of_all_shards(workplace):
    folder = Path("data/network")
    for name, readers in (("a", "anna,ben"), ("b", "ben,carl")):
        files = [f"{name}{number}.png" for number in range(3)]
        rows = f"{files[0]},1,1\n{files[1]},0,\n{files[2]},0,1\n"
        card = f"labels: labels.csv\ncolumns: {{name: name, readers: [{readers}]}}\ngroup: none\n"
        make_table(f"name,{readers}\n{rows}", files, f"network/{name}", f"title: t\n{card}")
        save_crop(folder / name / files[0], ord(name))
        save_crop(folder / name / files[1], ord(name) + 50)
        save_crop(folder / name / files[2], ord(name) + 70)
    list_shards("a", "b")
    dataset = read_dataset("network")
    made = listed()
    assert dataset.readers == ["anna", "ben", "carl"]
    assert [(row.path, row.label, row.readings) for row in made.rows] == [
        ("a/a0.png", 1, (1, 1, NOT_READ)),
        ("a/a1.png", 0, (0, NOT_READ, NOT_READ)),
        ("b/b0.png", 1, (NOT_READ, 1, 1)),
        ("b/b1.png", 0, (NOT_READ, 0, NOT_READ)),
    ]
    assert [(one.path, one.readings) for one in made.no_consensus] == [
        ("a/a2.png", (0, 1, NOT_READ)),
        ("b/b2.png", (NOT_READ, 0, 1)),
    ]
    with pytest.raises(UserError, match="'reader:anna'; the readers in data/network/b.yaml are"):
        listed(consensus=Consensus.parse("reader:anna"))


def test_shards_have_the_folds_of_one_dataset_of_the_same_tree(workplace):
    folder = make_shards("b", "c", "a")
    for name in "abc":
        for path in sorted((folder / name).rglob("*.png")):
            path.rename(path.with_name(f"{name}{path.name}"))
        edit(folder / f"{name}.yaml", "(?P<site>s)", "[abc]s")
    joined = run_split()
    shutil.copytree(folder, "data/one", ignore=shutil.ignore_patterns("*.yaml"))
    Path("data/one.yaml").write_text(
        "title: t\nclasses: ['*/nonGS', '*/GS']\ngroup: '(?P<slide>(?P<site>.)s.)-'\n"
    )
    set_params({"data": "one"})
    one = run_split()
    assert len(one) == 36 and {row["fold"] for row in one} == set("01234")
    assert [row | {"slide": row["slide"][2:]} for row in joined] == one


def test_a_changed_shard_changes_only_its_rows(workplace):
    folder = make_shards("a", "b", "c")
    before = listed().rows
    (folder / "b/GS/s0-0.png").unlink()
    kept = [row for row in before if row.path != "b/GS/s0-0.png"]
    assert listed().rows == kept
