"""What is brought into a clone in which a commit is run again: the data that it was run on,
wherever that is.
"""

import shutil
from pathlib import Path

import pytest

from stages.base.errors import UserError
from stages.experiments.clone import (
    find_commit,
    find_publication,
    locked_outputs,
    make_clone,
    published_contents,
)
from stages.experiments.inputs import digest
from stages.experiments.reading import read_at
from tests.conftest import make_shards
from tests.experiments.conftest import edit
from tests.repositories import dvc, git, set_params

DATA = ("data/small", "data/plain", "data/weights/mine.weights.h5")


@pytest.fixture
def locked(here):
    """The commit of a dvc.lock that was run on a dataset of DVC, one of git, and weights of one's
    own.
    """
    set_params({"data": "small", "external": ["plain"], "model.weights": "mine.weights.h5"})
    dependencies = "".join(f"    - {{path: {path}, md5: {digest(path)}}}\n" for path in DATA)
    Path("dvc.lock").write_text(
        f"schema: '2.0'\nstages:\n  train:\n    cmd: none\n    deps:\n{dependencies}"
    )
    git("add", "-A")
    git("commit", "-q", "-m", "Run")
    return {path: digest(path) for path in DATA}


def digests(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return {path: digest(path) for path in DATA}


def edit_all():
    for path in (
        "data/small/GS/s0-0.png",
        "data/plain/GS/s0-0.png",
        "data/weights/mine.weights.h5",
    ):
        edit(path)


@pytest.mark.parametrize(
    "change",
    [lambda: None, edit_all, lambda: shutil.rmtree("data/small")],
    ids=["same", "edited", "gone"],
)
def test_the_data_are_those_of_the_commit(locked, tmp_path, monkeypatch, change):
    change()
    clone = make_clone(find_commit("HEAD"), tmp_path / "clone")
    assert digests(clone, monkeypatch) == locked


def test_the_shards_are_those_of_the_commit(here, tmp_path):
    """One of them has changed since."""
    folder = make_shards("a", "b", slides=1)
    dvc("add", "-q", "data/network/a", "data/network/b")
    dependency = f"{{path: data/network, md5: {digest('data/network')}}}"
    Path("dvc.lock").write_text(
        f"schema: '2.0'\nstages:\n  crops:\n    cmd: none\n    deps: [{dependency}]\n"
    )
    git("add", "-A")
    git("commit", "-q", "-m", "Run")
    committed = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}
    edit("data/network/b/GS/s0-0.png")
    clone = make_clone(find_commit("HEAD"), tmp_path / "clone") / "data/network"
    assert {path.relative_to(clone): path.read_bytes() for path in clone.rglob("*.*")} == committed


def test_data_that_are_nowhere_are_refused(locked, tmp_path):
    edit_all()
    shutil.rmtree(".dvc/cache")
    with pytest.raises(
        UserError, match="^data/small: it is not here as .* was run on it, and not in DVC's cache"
    ) as error:
        make_clone(find_commit("HEAD"), tmp_path / "clone")
    assert len(str(error.value).splitlines()) == 2


def test_a_project_in_a_folder_of_a_larger_repository(locked, tmp_path, monkeypatch):
    shutil.rmtree(".git")
    git("init", "-q", str(tmp_path))
    git("add", "-A")
    git("add", "-f", "data/plain")
    git("commit", "-q", "-m", "All")
    assert read_at("data/plain.yaml", "HEAD") == Path("data/plain.yaml").read_text()
    edit_all()
    clone = make_clone(find_commit("HEAD"), tmp_path / "clone")
    assert clone == tmp_path / "clone/mine"
    assert digests(clone, monkeypatch) == locked


def test_a_revision_is_a_commit_a_branch_a_tag_or_an_experiment(here):
    head = git("rev-parse", "HEAD").strip()
    git("tag", "-a", "-m", "A tag", "one")
    git("update-ref", f"refs/exps/{head[:2]}/{head[2:]}/tried", head)
    assert {find_commit(name) for name in ("HEAD", head[:9], "one", "tried")} == {head}
    with pytest.raises(
        UserError, match="^nowhere: there is no commit, branch, tag or experiment of this name"
    ):
        find_commit("nowhere")


@pytest.fixture
def published(locked):
    """The folder of a model, with the dvc.lock of its run, that a commit published."""
    folder = Path("published/ours")
    folder.mkdir(parents=True)
    (folder / "model.json").write_text("{}")
    shutil.copy("params.yaml", folder)
    lock = Path("dvc.lock").read_text()
    made = f"    - {{path: models/model.json, md5: {digest(str(folder / 'model.json'))}}}\n"
    (folder / "dvc.lock").write_text(f"{lock}    outs:\n{made}")
    git("add", "-A")
    git("commit", "-q", "-m", "Publish")
    return folder


def test_a_published_model_has_its_own_parameters_data_and_commit(published, tmp_path):
    commit = find_commit("HEAD")
    set_params({"data": "demo", "external": []})
    Path("dvc.lock").unlink()
    git("commit", "-qam", "Other results, other parameters")
    assert find_publication(published) == commit
    clone = make_clone(commit, tmp_path / "clone", published)
    assert (clone / "data/small").is_dir() and not (clone / "data/dvc.lock").exists()
    assert (clone / "params.yaml").read_bytes() == (published / "params.yaml").read_bytes()
    outputs = locked_outputs(clone)
    assert published_contents(published, outputs) == {"models/model.json": b"{}"}
    for change in (lambda file: file.write_text("{} "), Path.unlink):
        change(published / "model.json")
        with pytest.raises(UserError, match="^published/ours/model.json: it is not the file that"):
            published_contents(published, outputs)


def test_a_model_that_is_not_committed_is_refused(published):
    other = shutil.copytree(published, "published/other")
    with pytest.raises(UserError, match="^published/other/dvc.lock: git does not have it; commit"):
        find_publication(Path(other))
