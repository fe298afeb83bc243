"""The report on a change, between two branches of a temporary repository."""

import os
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from stages.base.parameters import read_yaml
from tests.repositories import dvc, git, run_program, set_params


def report(*arguments):
    code, _, error = run_program("report", *arguments)
    return code, error


@pytest.fixture(scope="module")
def branches(reproduced, tmp_path_factory):
    """A repository with branch `base` and, checked out, `change` with another threshold."""
    before = Path.cwd()
    os.chdir(
        shutil.copytree(reproduced, tmp_path_factory.mktemp("branches") / "mine", symlinks=True)
    )
    git("checkout", "-q", "-b", "base")
    git("checkout", "-q", "-b", "change")
    set_params({"calibrate.threshold_rule": "youden"})
    dvc("repro")
    git("commit", "-q", "-a", "-m", "Youden")
    yield
    os.chdir(before)


def test_of_a_branch_and_of_the_workspace(branches):
    code, error = report("base", "change")
    assert code == 0, error
    text = Path("report/report.md").read_text()
    assert text.startswith("# change against base\n\n**")
    assert re.search(
        r"^`change \(\w{7,}\)` against `base \(\w{7,}\)`, on \d+ test glomeruli of \d slides?\. "
        r"Test fold 0 of 3\.$",
        text,
        flags=re.MULTILINE,
    )
    assert re.search(r"base \(\w+\) \| change \(\w+\) \| difference \(99.2 % interval\)", text)
    assert text.count("<details>") == text.count("</details>") == 3
    rule = r"\| params.yaml \| calibrate.threshold_rule \| sensitivity +\| youden +\|"
    assert re.search(rule, text)
    assert len(re.findall(r"^\| params.yaml", text, flags=re.MULTILINE)) == 1
    assert "metrics/test.json" in text and "Not drawn" not in text
    links = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    assert {
        "plots/roc.png",
        "plots/predictions.png",
        "plots/mistakes-0.png",
        "plots/mistakes-1.png",
    } <= set(links)
    for link in links:
        with Image.open(Path("report") / link) as picture:
            assert picture.size > (100, 100), link
    pipeline = read_yaml("dvc.yaml")
    of_stages = [plot for stage in pipeline["stages"].values() for plot in stage.get("plots", [])]
    assert text.count("\n### ") == len(pipeline["plots"]) + len(of_stages)
    assert git("status", "--short") == ""

    # Of the workspace, which is the same, it says the same. Only its own pictures are replaced.
    Path("again/plots").mkdir(parents=True)
    Path("again/plots/own.png").write_bytes(b"mine")
    Path("again/report.md").write_text("![a](plots/old.png) ![b](plots/../../params.yaml)\n")
    Path("again/plots/old.png").write_bytes(b"of an earlier page")
    assert report("base", "--output", "again")[0] == 0
    assert Path("again/plots/own.png").read_bytes() == b"mine" and Path("params.yaml").is_file()
    assert not Path("again/plots/old.png").exists() and Path("again/plots/roc.png").is_file()
    again = Path("again/report.md").read_text()

    def without_names(page):
        page = re.sub(r"the workspace, from \w+|change \(\w+\)", "", page)
        return re.sub(r"[Tt]he workspace|workspace|change|[ -]", "", page)

    assert without_names(again) == without_names(text)


def test_all_folds_that_were_run_on_both_sides_count(branches):
    for branch in ("base", "change"):
        git("checkout", "-q", branch)
        dvc("checkout", "-q")
        dvc("exp", "run", "-q", "--temp", "-n", f"{branch}-1", "-S", "split.fold=1")
    # One that runs on one side only, and one of other parameters.
    dvc("exp", "run", "-q", "--temp", "-n", "alone", "-S", "split.fold=2")
    dvc("exp", "run", "-q", "--temp", "-S", "split.fold=2", "-S", "calibrate.max_error_rate=0.2")
    code, error = report("base", "change", "--output", "folds", "--no-pictures")
    assert code == 0, error
    text = Path("folds/summary.md").read_text()
    assert "Test folds 0, 1 of 3. Fold 2 ran for change (" in text
    assert "ROC AUC within folds" in text


def test_what_is_not_in_the_cache_is_said(branches):
    os.rename(".dvc/cache", ".dvc/tmp/elsewhere")
    code, error = report("base", "change")
    shutil.rmtree(".dvc/cache", ignore_errors=True)
    os.rename(".dvc/tmp/elsewhere", ".dvc/cache")  # The repository is that of the other tests, too.
    assert code == 0, error
    text = Path("report/report.md").read_text()
    assert (
        "Not drawn for base: it does not exist, or is not in DVC's cache" in text
        and "![metrics/plots/roc.csv](plots/roc.png)" in text
    )


def test_errors_are_a_line(branches):
    code, error = report("base", "change", "--output", "params.yaml")
    assert code == 2 and "params.yaml is not a folder" in error
    code, error = report("nowhere")
    assert (
        code == 1
        and error.splitlines()[-1].startswith("error: ")
        and "unknown Git revision 'nowhere'" in error
    )
