"""What is written takes its name whole or not at all, and goes nowhere where it would destroy
something.
"""

import csv
import os
import stat
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.base.errors import UserError
from stages.base.files import (
    as_cell,
    from_cell,
    read_table,
    refuse_outputs,
    replacing,
    write_archive,
    write_table,
)
from tests.conftest import PROJECT

CACHED = "cache/files/md5/ab/" + 30 * "c"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_link_stays_and_what_it_leads_to_is_written(place):
    Path("real.csv").write_text("old")
    Path("link.csv").symlink_to("real.csv")
    Path("new.csv").symlink_to("folder/there.csv")
    for name in ("link.csv", "new.csv"):
        write_table(name, ["a"], [[1]])
        assert Path(name).is_symlink() and Path(name).read_text() == "a\n1\n"
    assert Path("real.csv").read_text() == "a\n1\n"


@pytest.mark.parametrize("cached", [CACHED, "cache/ab/" + 30 * "0"])
def test_what_dvc_keeps_in_its_cache_is_never_written_to(place, cached):
    Path(cached).parent.mkdir(parents=True)
    Path(cached).write_text("cached")
    Path("link.csv").symlink_to(cached)
    write_table("link.csv", ["a"], [])
    assert Path(cached).read_text() == "cached"
    assert not Path("link.csv").is_symlink() and Path("link.csv").read_text() == "a\n"


def test_a_device_stays_a_device_and_takes_what_is_written(place):
    write_table(os.devnull, ["a"], [])
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    code = "from stages.base.files import write_table; write_table('/dev/stdout', ['a'], [[1]])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "a\n1\n"), done.stderr


def make(kind):
    if kind == "a pipe":
        os.mkfifo("it")
    elif kind == "a folder":
        Path("it").mkdir()
    elif kind == "a link to a folder":
        Path("it").symlink_to(".")
    elif kind == "a link to itself":
        Path("it").symlink_to("it")
    elif kind == "below a file":
        Path("file").touch()
        return Path("file/it")
    return Path({"no name": "", "a dot": ".", "two dots": "..", "the root": "/"}.get(kind, "it"))


@pytest.mark.parametrize(
    "kind",
    [
        "a pipe",
        "a folder",
        "a link to a folder",
        "a link to itself",
        "below a file",
        "no name",
        "a dot",
        "two dots",
        "the root",
    ],
)
def test_what_is_no_place_for_a_file_is_refused_and_stays_as_it_is(place, kind):
    path = make(kind)
    before = sorted((str(file), os.lstat(file).st_mode) for file in Path(".").rglob("*"))
    with pytest.raises((UserError, OSError)) as error, replacing(path) as file:
        file.write("x")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"^--output: "):
        refuse_outputs({"--output": path})
    assert before == sorted((str(file), os.lstat(file).st_mode) for file in Path(".").rglob("*"))


def test_inputs_and_other_outputs_are_never_written_over(place):
    Path("in.csv").touch()
    os.link("in.csv", "hard.csv")
    Path("soft.csv").symlink_to("in.csv")
    for output in ("in.csv", "./in.csv", "hard.csv", "soft.csv", str(place / "in.csv")):
        with pytest.raises(UserError, match=r"^--output would write over in.csv, which is read$"):
            refuse_outputs({"--output": Path(output)}, [Path("in.csv")])
    for first, second in (
        ("a.csv", "a.csv"),
        ("a.csv", "b/../a.csv"),
        ("hard.csv", "soft.csv"),
        ("new/a.csv", "./new/a.csv"),
    ):
        with pytest.raises(UserError, match="^--html and --output are the same file"):
            refuse_outputs({"--output": Path(first), "--html": Path(second)})
    refuse_outputs({"--output": Path("a.csv"), "--html": Path("b.html")}, [Path("in.csv")])
    refuse_outputs({"--output": Path(os.devnull), "--html": Path(os.devnull)}, [Path("in.csv")])


def test_nothing_half_written_is_left(place):
    with pytest.raises(ZeroDivisionError), replacing("a.csv") as file:
        file.write("half")
        raise ZeroDivisionError
    assert list(Path(".").iterdir()) == []


EVIL = [
    '=HYPERLINK("http://x","y")',
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "'=1",
    "''-x",
    "\uff1d1+1",
]


@pytest.mark.parametrize("text", EVIL)
def test_what_a_spreadsheet_would_run_is_a_text_to_it_and_comes_back(place, text):
    write_table("a.csv", ["name", "value"], [[text, -0.5], ["a.png", "-1e-05"]])
    with open("a.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[1][0].startswith("'") and rows[1:] == [["'" + text, "-0.5"], ["a.png", "-1e-05"]]
    assert read_table("a.csv", ["name", "value"]) == [[text, "a.png"], ["-0.5", "-1e-05"]]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a;=1+1;b.png", "a;'=1+1;b.png"),
        ('a;"=1+1', "a;'\"=1+1"),
        ("a; @x;-1", "a;' @x;'-1"),
        ("a\n=1", "a\n'=1"),
        ("a;'=1", "a;''=1"),
        ("a;b=1", "a;b=1"),
        (" =1", "' =1"),
    ],
)
def test_no_part_of_a_text_is_a_formula_to_a_spreadsheet_that_splits_at_semicolons(
    place, text, written
):
    write_table("a.csv", ["x", text], [[0.5, text]])
    with open("a.csv", newline="") as file:
        assert list(csv.reader(file)) == [["x", written], ["0.5", written]]
    with open("a.csv", newline="") as file:
        cells = [cell for line in file for cell in line.rstrip("\n").split(";")]
    assert not any(cell.lstrip('" ').startswith(("=", "+", "-", "@")) for cell in cells)
    assert from_cell(written) == text and read_table("a.csv", ["x"]) == [["0.5"]]


@given(st.text(alphabet="'=+-@\t1.ea\uff1d ;\n\"", max_size=8) | st.text(max_size=20))
def test_every_text_comes_back(text):
    assert from_cell(as_cell(text)) == text
    # Numbers stay numbers; nothing else begins as a formula does.
    assert not as_cell(text).startswith(("=", "+", "-", "@")) or float(as_cell(text)) is not None


def test_an_archive_has_the_same_bytes_in_every_python(tmp_path):
    """The bytes that Python 3.11.2 and 3.11.7 write alike: no sizes of 64 bits, no time."""
    write_archive(tmp_path / "a.zip", [("b.npy", b"content"), ("a", b"")])
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert [
            (one.filename, one.date_time, one.extract_version, one.extra)
            for one in archive.infolist()
        ] == [(name, (1980, 1, 1, 0, 0, 0), 20, b"") for name in ("b.npy", "a")]
        assert archive.read("b.npy") == b"content"
    # Version 2.0, no flags, not compressed, 1980-01-01; the check sum, both sizes, the length of
    # the name, nothing more.
    start, sizes = (
        bytes.fromhex("504b030414000000000000002100"),
        bytes.fromhex("070000000700000005000000"),
    )
    assert (tmp_path / "a.zip").read_bytes()[:30] == start + zlib.crc32(b"content").to_bytes(
        4, "little"
    ) + sizes
