"""Results that are not of the parameters, code and data beside them, after the real dvc repro."""

import csv
import shutil
from pathlib import Path

import pytest

from stages.base.errors import UserError
from stages.comparison.verdict import verdict
from stages.experiments.sides import changed_pixels, moved_crops, read_state, refuse_stale
from tests.experiments.conftest import append
from tests.repositories import dvc, git, set_params


def pad_alone():
    set_params({"pad.mode": "zero"})
    dvc("repro", "pad")


def repro_was_interrupted():
    """Its last stage had written, and DVC not yet noted it."""
    append("metrics/predictions.csv", "")
    Path("metrics/measures.json").write_text(
        Path("metrics/measures.json").read_text().replace("{", "{ ", 1)
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda: set_params({"evaluate.prevalence": 0.1}),
            "stage evaluate has not run with the current evaluate.prevalence of params.yaml",
        ),
        (
            lambda: set_params({"split.seed": 5}),
            "stage split has not run with the current split of params.yaml",
        ),
        (pad_alone, r"stage \w+ has not run after data/padded changed"),
        (repro_was_interrupted, "metrics/measures.json has changed"),
        (lambda: append("stages/evaluate.py", "# another"), "stages/evaluate.py has changed"),
        (lambda: append("data/demo.yaml", "# another"), "data/demo.yaml has changed"),
    ],
    ids=["parameter", "block", "partly", "interrupted", "code", "card"],
)
def test_the_workspace_is_not_reported_by_results_of_another_state(repository, change, said):
    change()
    with pytest.raises(
        UserError,
        match=f"^the results of the workspace are not of its code, data and parameters: {said}",
    ) as error:
        refuse_stale(None)
    assert verdict("HEAD", None) == [f"**Not comparable**: {error.value}."]


def test_a_commit_is_not_reported_by_results_of_another_state(repository):
    refuse_stale(None)
    refuse_stale(git("rev-parse", "HEAD").strip())
    pad_alone()
    git("commit", "-q", "-a", "-m", "A part")
    # By their hashes: what is read of a revision is kept, and HEAD is another commit now.
    before, after = git("rev-parse", "HEAD~1", "HEAD").split()
    with pytest.raises(
        UserError, match=f"the results of {after} are not of its code, data and parameters: stage"
    ):
        refuse_stale(after)
    assert verdict(before, after)[0].startswith(f"**Not comparable**: the results of {after} ")


def test_data_that_are_not_here_are_not_said_to_have_changed(repository):
    shutil.rmtree("data/demo")
    refuse_stale(None)


def test_crops_that_have_other_pixels(repository):
    paths = [line.split(",")[0] for line in Path("data/manifest.csv").read_text().splitlines()[1:]]
    assert changed_pixels("HEAD", None, paths) == []
    # Other crops of the same names, and few: drawing takes longest.
    set_params({"demo.seed": 1, "demo.glomeruli": 2})
    dvc("repro", "manifest")
    changed = changed_pixels("HEAD", None, paths)
    assert changed and set(changed) <= set(paths)


def test_crops_whose_fold_was_drawn_anew_are_found(repository):
    """Or another fold of the same ones is tested."""
    before = git("rev-parse", "HEAD").strip()
    tested = {row["path"] for row in split_rows() if row["split"] == "test"}
    set_params({"split.fold": 1})
    dvc("repro", "split")
    now = {row["path"] for row in split_rows() if row["split"] == "test"}
    assert moved_crops(read_state(before), read_state(None)) == sorted(tested ^ now) != []
    assert moved_crops(read_state(before), read_state(before)) == []


def split_rows():
    with open("data/split.csv", newline="") as file:
        return list(csv.DictReader(file))
