"""Pseudonyms of slides."""

import csv
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from stages.base.errors import UserError
from stages.base.parameters import read_params
from stages.evaluation.curves import write_slides
from stages.intake.parameters import SplitParameters
from stages.measures.parameters import EvaluateParameters
from stages.measures.pseudonyms import pseudonyms, read_key
from tests.evaluation.classifiers import a_decision
from tests.repositories import dvc, git, set_params, stages_run

KEY = b"0123456789abcdef0123456789abcdef"
# printf %s NAME | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef
KNOWN = {"a": "slide-aa2187723645", "b": "slide-4f432c3aa9d9", "Müller 1": "slide-cb60ccd6d7b6"}


def write_key(name, content):
    Path("data/keys").mkdir(exist_ok=True)
    Path("data/keys", name).write_bytes(content)


def test_a_pseudonym_is_the_start_of_an_hmac():
    assert pseudonyms([*KNOWN], KEY) == [*KNOWN.values()]
    assert pseudonyms([*KNOWN], None) == [*KNOWN]
    assert not set(pseudonyms([*KNOWN], KEY[::-1])) & set(KNOWN.values())


def test_refuses_two_slides_with_the_same_pseudonym(monkeypatch):
    monkeypatch.setattr("stages.measures.pseudonyms.DIGITS", 1)
    with pytest.raises(UserError, match=r"^evaluate\.pseudonyms: two slides .* use another key$"):
        pseudonyms([str(number) for number in range(17)], KEY)


def test_rows_are_in_the_order_of_the_pseudonyms(workplace):
    slides = np.array([*KNOWN, "b"])
    crops = np.array([1, 0, 0, 1]), np.array([0.9, 0.8, 0.2, 0.1]), slides, a_decision()
    write_slides(*crops, KEY)
    table, known = (
        Path("metrics/slides.csv").read_text(),
        Path("metrics/slide_names.csv").read_text(),
    )
    assert [line.split(",")[0] for line in table.splitlines()] == ["slide", *sorted(KNOWN.values())]
    assert f"{KNOWN['b']},2,1,1," in table
    assert known == "pseudonym,slide\n" + "".join(
        sorted(f"{shown},{name}\n" for name, shown in KNOWN.items())
    )
    write_slides(*crops)
    assert [line.split(",")[0] for line in Path("metrics/slides.csv").read_text().splitlines()] == [
        "slide",
        *sorted(KNOWN),
    ]
    assert Path("metrics/slide_names.csv").read_text() == "pseudonym,slide\n"


def test_strips_white_space_around_a_key(workplace):
    for number, content in enumerate((KEY, KEY + b"\n", b" " + KEY + b"\r\n")):
        write_key(f"k{number}", content)
        assert read_key(f"k{number}") == KEY
    assert read_key("none") is None


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("absent", None, r"data/keys/absent does not exist; .*32 characters or more"),
        ("empty", b"", r"data/keys/empty holds 0 characters; .*32 characters or more"),
        ("blank", b" " * 40, "data/keys/blank holds 0 characters"),
        ("short", KEY[1:], "data/keys/short holds 31 characters"),
        ("ours.dvc", KEY, r"evaluate\.pseudonyms is 'ours\.dvc'"),
        (".gitignore", KEY, r"evaluate\.pseudonyms is '\.gitignore'"),
        ("../keys", None, r"evaluate\.pseudonyms is '\.\./keys'"),
        ("", None, r"evaluate\.pseudonyms is ''"),
        (None, None, r"evaluate\.pseudonyms is None"),
    ],
)
def test_a_wrong_key_stops_every_stage(workplace, name, content, said):
    if content is not None:
        write_key(name, content)
    set_params({"evaluate.pseudonyms": name})
    # By the stage that needs it, and by any other.
    for block in ("evaluate", "split"):
        with pytest.raises(UserError, match=said) as error:
            read_params(block, EvaluateParameters if block == "evaluate" else SplitParameters)
        assert len(str(error.value).splitlines()) == 1


def test_slide_names_stay_out_of_git_and_a_colleague_gets_the_same_pseudonyms(repository):
    names = [
        row["slide"] for row in csv.DictReader(Path("metrics/slides.csv").read_text().splitlines())
    ]
    dvc("remote", "add", "-d", "store", str(repository.parent / "store"))
    set_params({"evaluate.pseudonyms": "ours"})
    assert "data/keys/ours does not exist" in dvc("repro", "--force", "manifest", check=False)
    write_key("ours", KEY)
    dvc("add", "data/keys/ours")
    assert stages_run(dvc("repro")) == ["evaluate"]
    git("add", "-A")
    git("commit", "-q", "-m", "Pseudonyms")
    tracked = git("ls-files").split()
    assert "data/keys/ours.dvc" in tracked and not {"data/keys/ours", "metrics/slide_names.csv"} & {
        *tracked
    }
    of_results = [name for name in tracked if name.startswith(("metrics/", "data/", "dvc.lock"))]
    content = b"".join(Path(name).read_bytes() for name in of_results).decode()
    assert "metrics/slides.csv" in of_results and not [name for name in names if name in content]
    found = Path("metrics/slide_names.csv").read_text()
    assert sorted(re.findall(r"^slide-[0-9a-f]{12},(.+)$", found, flags=re.MULTILINE)) == names

    dvc("push", "--with-deps", "dvc.yaml")
    os.chdir(repository.parent)
    git("clone", "-q", "mine", "theirs")
    os.chdir("theirs")
    dvc("pull", "--with-deps", "dvc.yaml")
    assert Path("metrics/slide_names.csv").read_text() == found
    assert stages_run(dvc("repro", "--force", "--no-run-cache", "--single-item", "evaluate")) == [
        "evaluate"
    ]
    assert (
        Path("metrics/slide_names.csv").read_text() == found and git("status", "--porcelain") == ""
    )
    shutil.rmtree(repository.parent / "theirs")
