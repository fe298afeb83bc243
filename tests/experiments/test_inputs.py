"""Data and code that are not as git and DVC have them on record, by the real git and dvc."""

import os
import shutil
from pathlib import Path

import pytest

from stages.base.errors import UserError
from stages.experiments.commands import find_experiment, find_repository, refuse_unfit_paths
from stages.experiments.inputs import digest, input_kind, input_paths, refuse_unrecorded
from tests.experiments.conftest import append, edit
from tests.repositories import dvc, git

SMALL = ["data/small", "data/small.yaml"]
CROP = "data/small/GS/s0-0.png"


def add_a_crop(folder, name="GS/new.png"):
    shutil.copy(CROP, f"data/{folder}/{name}")


def remove_from_cache():
    shutil.rmtree(".dvc/cache")


def track_a_part():
    git("rm", "-q", "--cached", "data/small.dvc")
    Path("data/small.dvc").unlink()
    with open("data/.gitignore") as file:
        kept = [line for line in file if "small" not in line]
    Path("data/.gitignore").write_text("".join(kept))
    dvc("add", "-q", "data/small/GS")
    git("add", "-A")
    git("add", "-f", "data/small/nonGS")


GOOD = {
    "nothing": lambda: None,
    "a_dataset_that_is_not_checked_out_and_in_the_cache": lambda: shutil.rmtree("data/small"),
    "what_file_systems_leave_behind": lambda: Path("data/plain/.DS_Store").touch(),
    "a_part_of_a_dataset_by_dvc_and_the_rest_in_git": track_a_part,
}
BAD = {
    "an_edited_crop": (
        lambda: edit(CROP),
        r"^data/small: it has changed since data/small\.dvc was written; `dvc add data/small`",
    ),
    "a_new_crop": (lambda: add_a_crop("small"), "data/small: it has changed since"),
    "a_removed_crop": (lambda: Path(CROP).unlink(), "data/small: it has changed since"),
    "a_renamed_crop": (
        lambda: Path(CROP).rename("data/small/nonGS/x.png"),
        "data/small: it has changed since",
    ),
    "a_table_of_corrections": (
        lambda: Path("data/small/corrected.csv").write_text("path,label\n"),
        "data/small: it has changed since",
    ),
    "another_record": (
        lambda: Path("data/small.dvc").write_text(
            Path("data/small.dvc").read_text().replace("md5: ", "md5: 0", 1)
        ),
        "data/small: it has changed since",
    ),
    "neither_here_nor_in_the_cache": (
        lambda: (shutil.rmtree("data/small"), remove_from_cache()),
        r"data/small: it is neither here nor in DVC's cache; `dvc pull data/small\.dvc` brings it",
    ),
    "not_in_the_cache": (
        remove_from_cache,
        "data/small: DVC's cache does not hold all of it; `dvc add data/small`",
    ),
    "a_record_that_git_does_not_track": (
        lambda: git("rm", "-q", "--cached", "data/small.dvc"),
        r"data/small\.dvc: git does not track it",
    ),
    "a_card_that_git_does_not_track": (
        lambda: git("rm", "-q", "--cached", "data/small.yaml"),
        r"data/small\.yaml: git does not track it",
    ),
    "a_dataset_that_is_not_tracked": (
        lambda: (
            git("rm", "-q", "--cached", "data/small.dvc"),
            Path("data/small.dvc").unlink(),
            Path("data/.gitignore").unlink(),
        ),
        r"data/small: neither DVC nor git tracks it; `dvc add data/small` and commit data/small",
    ),
    "a_record_that_dvc_ignores": (
        lambda: append(".dvcignore", "\n/data/small.dvc\n"),
        r"data/small: DVC ignores data/small\.dvc; remove its line in \.dvcignore",
    ),
    "a_record_that_dvc_ignores_of_a_dataset_that_is_not_here": (
        lambda: (shutil.rmtree("data/small"), append(".dvcignore", "\n/data/small.dvc\n")),
        r"data/small: it does not exist; data/small\.dvc is in \.dvcignore",
    ),
    "a_new_crop_in_a_dataset_of_git": (
        lambda: add_a_crop("plain"),
        r"data/plain/GS/new\.png: git does not track it",
    ),
    "new_crops_in_a_dataset_of_git": (
        lambda: (add_a_crop("plain"), add_a_crop("plain", "GS/newer.png")),
        r"data/plain/GS/new\.png, and 1 more: git does not track it",
    ),
    "an_ignored_crop_in_a_dataset_of_git": (
        lambda: (add_a_crop("plain"), append(".gitignore", "new.png\n")),
        r"data/plain/GS/new\.png: git does not track it",
    ),
    "edited_weights": (
        lambda: edit("data/weights/mine.weights.h5"),
        r"data/weights/mine\.weights\.h5: it has changed since",
    ),
    "a_new_module": (
        lambda: Path("stages/pad_more.py").touch(),
        r"stages/pad_more\.py: git does not track it",
    ),
}


def refuse():
    refuse_unrecorded(
        [
            *SMALL,
            "data/plain",
            "data/plain.yaml",
            "data/weights/mine.weights.h5",
            "data/weights/none",
            "stages",
        ]
    )


@pytest.mark.parametrize("change", GOOD.values(), ids=GOOD)
def test_takes(here, change):
    change()
    refuse()


@pytest.mark.parametrize(("change", "said"), BAD.values(), ids=BAD)
def test_refuses(here, change, said):
    change()
    with pytest.raises(UserError, match=said) as error:
        refuse()
    assert len(str(error.value).splitlines()) <= 2


def test_a_remote_has_what_is_not_here(here):
    shutil.rmtree("data/small")
    remove_from_cache()
    refuse_unrecorded(SMALL, from_cache=False)


def test_the_paths_that_parameters_name():
    params = {"data": "a", "external": ["b"], "model": {"weights": "w.h5"}}
    paths = ["data/a", "data/a.yaml", "data/b", "data/b.yaml", "data/labels", "data/weights/w.h5"]
    # Commits from before there were pseudonyms name no key.
    assert (
        input_paths(params) == input_paths(params | {"evaluate": {"pseudonyms": "none"}}) == paths
    )
    assert input_paths(params | {"evaluate": {"pseudonyms": "k"}}) == [*paths, "data/keys/k"]
    kept = {"split": {"kept_folds": "a.folds.csv"}}
    assert input_paths(params | kept) == [*paths, "data/a.folds.csv"]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("data/a", "data"),
        ("data/a.yaml", "card"),
        ("data/a2", None),
        ("data/labels", "labels"),
        ("data/a.folds.csv", "folds"),
        ("data/weights/w.h5", "weights"),
        ("data/padded", None),
        ("stages/base", "code"),
        ("stages/pad.py", "code"),
        ("pins/numbers.txt", "packages"),
        ("models/model.keras", None),
    ],
)
def test_kinds_of_what_an_experiment_is_made_of(path, kind):
    assert input_kind(path, "a", "w.h5") == kind


def test_digests_are_those_of_dvc(here):
    assert f"md5: {digest('data/small')}\n" in Path("data/small.dvc").read_text()
    assert (
        f"md5: {digest('data/weights/mine.weights.h5')}\n"
        in Path("data/weights/mine.weights.h5.dvc").read_text()
    )
    assert digest("data/nowhere") is None


@pytest.mark.parametrize(
    "letters", ["Größe", "a#b", "a?b", "a%41b", "a%(b)s", "a{b", "${b}", "a\tb", "a\nb"]
)
def test_refuses_paths_that_dvc_cannot_take(letters, tmp_path):
    with pytest.raises(
        UserError, match="the path of this folder has .*, with which DVC cannot run"
    ) as error:
        refuse_unfit_paths(tmp_path / letters)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "letters",
    [
        "a b",
        "100%",
        "a%zz",
        "a;b",
        "it's",
        '"a"',
        "a\\b",
        "$HOME",
        "a&b",
        "[a]",
        "~a",
        "a:b",
        "=a,",
    ],
)
def test_takes_paths_that_dvc_can_take(letters, tmp_path):
    refuse_unfit_paths(tmp_path / letters)


def test_where_the_project_is_in_its_repository(here, tmp_path, monkeypatch):
    assert find_repository() == (tmp_path / "mine", ".")
    monkeypatch.chdir("data")
    assert find_repository() == (tmp_path / "mine", "data/")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="it is not in a git repository"):
        find_repository()


def test_refuses_a_shallow_clone_where_experiments_would_be_lost(here, tmp_path, monkeypatch):
    git("clone", "-q", "--depth", "1", f"file://{tmp_path}/mine", str(tmp_path / "shallow"))
    monkeypatch.chdir(tmp_path / "shallow")
    assert find_repository().inside == "."
    with pytest.raises(UserError, match="this clone is shallow.*`git fetch --unshallow`"):
        find_repository(whole=True)


@pytest.mark.skipif(
    os.geteuid() != 0, reason="gives a repository to somebody else, which takes root"
)
def test_says_in_a_line_that_somebody_else_owns_the_repository(here, tmp_path, monkeypatch):
    for path in [tmp_path / "mine", *(tmp_path / "mine").rglob("*")]:
        os.chown(path, 65534, 65534, follow_symlinks=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(
        UserError,
        match="another user owns this repository; `git config --global --add safe.directory",
    ):
        find_repository()


def test_an_experiment_is_not_taken_for_a_branch_of_its_name(here):
    git("branch", "logistic")
    with pytest.raises(
        UserError, match="experiment logistic ran, and DVC has not kept its results"
    ):
        find_experiment("logistic")
    head = git("rev-parse", "HEAD").strip()
    git("commit", "-q", "--allow-empty", "-m", "A result")
    result = git("rev-parse", "HEAD").strip()
    git("reset", "-q", "--hard", head)
    git("update-ref", f"refs/exps/{head[:2]}/{head[2:]}/logistic", result)
    assert find_experiment("logistic") == result


def test_what_was_added_again_is_on_record(here):
    edit(CROP)
    dvc("add", "-q", "data/small")
    refuse()
