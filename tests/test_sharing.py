"""Sharing with DVC: push and pull of data, models and experiments through a folder and through S3;
versions and import.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tests.repositories
from tests.repositories import dvc, git, make_repository, run_program, set_params, stages_run

ARTIFACT = "sclerosis-classifier"
KEYS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "eu-central-1",
}


@pytest.fixture
def s3(monkeypatch):
    """The address of an S3 server on this machine, with a bucket `glomeruli`."""
    import boto3
    from moto.server import ThreadedMotoServer

    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tests.repositories.ENVIRONMENT", tests.repositories.ENVIRONMENT | KEYS)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    boto3.client("s3", endpoint_url=address).create_bucket(
        Bucket="glomeruli",
        CreateBucketConfiguration={"LocationConstraint": KEYS["AWS_DEFAULT_REGION"]},
    )
    yield address
    server.stop()


def publish():
    """Commit where the data is, and push the repository to ../shared.git."""
    git("commit", "-q", "-a", "-m", "Where the data is")
    git("init", "-q", "--bare", "../shared.git")
    git("remote", "add", "origin", str(Path("../shared.git").resolve()))
    git("push", "-q", "origin", "HEAD:refs/heads/main")
    git("--git-dir=../shared.git", "symbolic-ref", "HEAD", "refs/heads/main")


def pull():
    """Enter ../theirs, a clone of ../shared.git, and pull; nothing is left to do."""
    git("clone", "-q", "../shared.git", "../theirs")
    os.chdir("../theirs")
    dvc("pull", "--with-deps", "dvc.yaml")
    output = dvc("repro")
    assert stages_run(output) == [] and "Data and pipelines are up to date." in output
    assert git("status", "--short") == ""


def test_through_s3(repository, s3):
    dvc("remote", "add", "-d", "store", "s3://glomeruli/store")
    dvc("remote", "modify", "store", "endpointurl", s3)
    publish()
    dvc("push", "--with-deps", "dvc.yaml")
    pull()


def test_through_a_folder_with_versions_and_import(repository):
    """Data, models and an experiment."""
    dvc("remote", "add", "-d", "store", str(repository.parent / "store"))
    publish()
    committed = Path("metrics/test.json").read_bytes()
    dvc("exp", "run", "-n", "youden", "-S", "calibrate.threshold_rule=youden")
    youden = Path("metrics/test.json").read_bytes()
    assert youden != committed
    git("checkout", "-q", ".")
    dvc("checkout")
    dvc("push", "--with-deps", "dvc.yaml")
    dvc("exp", "push", "origin", "youden")

    pull()
    assert Path("metrics/test.json").read_bytes() == committed
    dvc("exp", "pull", "origin", "youden")
    dvc("exp", "apply", "youden")
    assert Path("metrics/test.json").read_bytes() == youden
    assert stages_run(dvc("repro")) == []

    os.chdir(repository.parent)
    # As docs/sharing.md says: register a version, and get it by its name.
    os.chdir("mine")
    for key, value in (("name", "t"), ("email", "t@example.org")):
        git("config", f"user.{key}", value)
    subprocess.run([Path(sys.executable).with_name("gto"), "register", ARTIFACT], check=True)
    git("push", "-q", "--tags", "origin")
    os.chdir("..")
    dvc("artifacts", "get", "shared.git", ARTIFACT, "--rev", "v0.0.1", "--out", "models-v1")
    names = [file.name for file in Path("models-v1").iterdir() if file.name != ".gitignore"]
    assert {"model.keras", "calibration.json"} < set(names)
    for name in names:
        assert Path("models-v1", name).read_bytes() == Path("mine/models", name).read_bytes()
    Path("other").mkdir()
    os.chdir("other")
    git("init", "-q")
    dvc("init", "-q")
    dvc("import", "../shared.git", "data/demo", "--out", "glomeruli")
    dvc("import", "../shared.git", "models/model.keras")
    assert (
        len(list(Path("glomeruli").rglob("*.png")))
        == len(list(Path("../mine/data/demo").rglob("*.png")))
        > 0
    )
    assert Path("model.keras").read_bytes() == Path("../models-v1/model.keras").read_bytes()
    assert "frozen: true" in Path("glomeruli.dvc").read_text()


def test_the_public_dataset_is_an_import(real_data, tmp_path, monkeypatch):
    """data/aidpath.dvc holds the hash of the public images, as an import from a repository with the
    same paths has it.
    """
    project = Path.cwd()
    monkeypatch.chdir(tmp_path)
    Path("public/Patches/Raw").mkdir(parents=True)
    Path("public/Patches/Raw/Images").symlink_to(real_data / "aidpath")
    git("init", "-q", "mine")
    os.chdir("mine")
    dvc("init", "-q")
    dvc("add", str(tmp_path / "public/Patches/Raw/Images"), "--out", "aidpath")
    ours, theirs = (project / "data/aidpath.dvc").read_text(), Path("aidpath.dvc").read_text()
    assert [line for line in theirs.splitlines() if "md5: " in line and ".dir" in line] == [
        line for line in ours.splitlines() if "md5: " in line and ".dir" in line
    ]
    assert "path: Patches/Raw/Images" in ours and "rev_lock: 6db7d77" in ours


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A repository of all files of the project, without results, to work in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "project").mkdir()
    make_repository(tmp_path / "project", left_out=())
    return tmp_path / "project"


def test_a_clone_by_git_for_windows_has_the_same_bytes(project):
    git("clone", "-q", "-c", "core.autocrlf=true", ".", "../windows")
    names = git("ls-files", "-z").split("\0")[:-1]
    assert [
        name
        for name in names
        if (project / name).read_bytes() != (project / "../windows" / name).read_bytes()
    ] == []


def test_git_adds_nothing_that_shows_patients(project):
    """Whatever the user calls it; and what belongs to the project is added as before."""
    own = [
        "data/mine.yaml",
        "data/mine.dvc",
        "crops.dvc",
        "stages/new.py",
        "docs/new.png",
        "data/weights/uni.dvc",
        "CHANGES.md",
    ]
    own += ["data/keys/ours.dvc", "pins/new.txt", "tools/new.py"]
    own += ["data/labels/mine.csv", "data/labels/site/mine.tsv"]
    patients = """data/mine/GS/a.png data/mine/labels.csv data/my.crops/a.png data/mine.xlsx
        data/S1.geojson crops/labels.csv models-ours/validation.csv models/ours/model.json
        models/checkpoint.npz evaluation.csv evaluation.html page.html slides.csv
        evaluation.propose.csv S1.geojson S1.svs notes.xlsx Crop.PNG report/report.md
        data/weights/uni/model.json data/keys/ours
        data/labels/mine.xlsx data/labels/a.png data/labels/site/a.png"""
    for name in [*own, *patients.split()]:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("x")
    git("add", "-A")
    assert sorted(git("diff", "--cached", "--name-only").split()) == sorted(own)
    assert git("ls-files", "-ci", "--exclude-standard") == ""


def test_results_of_two_branches_leave_no_markers_and_repro_makes_those_of_both(repository):
    main = git("branch", "--show-current").strip()
    git("checkout", "-q", "-b", "theirs")
    set_params({"calibrate.threshold_rule": "youden"})
    dvc("repro")
    git("commit", "-q", "-a", "-m", "Another rule")
    git("checkout", "-q", main)
    set_params({"evaluate.prevalence": 0.1})
    dvc("repro")
    git("commit", "-q", "-a", "-m", "A prevalence")
    before = Path("dvc.lock").read_bytes()
    merge = subprocess.run(["git", "merge", "-q", "theirs"], capture_output=True, text=True)
    assert merge.returncode == 1 and "dvc.lock" in merge.stdout, merge.stdout
    assert Path("dvc.lock").read_bytes() == before and "youden" in Path("params.yaml").read_text()
    assert stages_run(dvc("repro")) == ["evaluate", "model_card"]
    git("add", "-A")
    git("commit", "-q", "-m", "Both")
    assert "up to date" in dvc("status") and git("status", "--short") == ""


def test_the_way_back_keeps_what_was_not_added(repository):
    """And `crops` says that the folder differs from what git knows."""
    shutil.copytree("data/demo", "data/mine")
    shutil.copy("data/demo.yaml", "data/mine.yaml")
    dvc("add", "data/mine")
    git("add", "-A")
    git("commit", "-q", "-m", "Mine")
    table = Path("data/mine/labels.csv")
    table.write_text("name,label\n")
    set_params({"data": "mine"})
    model = Path("models/model.keras").read_bytes()
    Path("models/model.keras").unlink()
    git("checkout", "-q", "params.yaml", "dvc.lock", "metrics")
    dvc("checkout", "dvc.yaml")
    assert Path("models/model.keras").read_bytes() == model and table.is_file()
    assert "data: demo" in Path("params.yaml").read_text()

    set_params({"data": "mine"})
    code, _, error = run_program("crops")
    assert code == 0 and "warning: data/mine has " in error and "`dvc add data/mine`" in error
    table.unlink()
    code, _, error = run_program("crops")
    assert code == 0 and "in git" not in error, error
