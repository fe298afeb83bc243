"""To a machine without a network: the bundle, and everything that runs there, in a namespace
without any network.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stages.base.errors import UserError
from stages.offline import packing
from stages.offline.install import SUMS, check_digests
from tests.repositories import ENVIRONMENT, PROJECT, dvc, git

WITHOUT_NETWORK = ["unshare", "--map-root-user", "--net"]


def no_namespaces():
    return (
        not shutil.which("unshare")
        or subprocess.run([*WITHOUT_NETWORK, "true"], capture_output=True).returncode != 0
    )


def without_network(*command, environment=ENVIRONMENT, check=True):
    done = subprocess.run(
        [*WITHOUT_NETWORK, *map(str, command)], env=environment, capture_output=True, text=True
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A folder with `work`, a small repository with a dataset whose only requirement is a small
    package, and with `out`, its bundle; to be copied.
    """
    folder = tmp_path_factory.mktemp("packed")
    (folder / "work").mkdir()
    (folder / "package").mkdir()
    (folder / "package/setup.py").write_text(
        "from setuptools import setup\nsetup(name='tiny', version='1', py_modules=['tiny'])\n"
    )
    (folder / "package/tiny.py").write_text("")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder / "work")
        # Built without asking an index for what builds it.
        patch.setenv("PIP_NO_BUILD_ISOLATION", "0")
        git("init", "-q", "-b", "main")
        Path("requirements.txt").write_text(f"tiny @ file://{folder}/package\n")
        dvc("init", "-q")
        Path("data/mine").mkdir(parents=True)
        Path("data/mine/a.txt").write_text("a")
        dvc("add", "-q", "data/mine")
        git("add", "-A")
        git("commit", "-q", "-m", "All")
        python = f"3.{sys.version_info[1]}"
        packing.pack(folder / "out", ["requirements.txt"], python, [], ["data/mine.dvc"])
    return folder


@pytest.fixture
def bundle(packed, tmp_path, monkeypatch):
    """The bundle, in the repository that it was made from."""
    for name in ("work", "out"):
        shutil.copytree(packed / name, tmp_path / name, symlinks=True)
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "out"


def test_a_bundle_has_all_and_is_checked(bundle, tmp_path):
    names = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert {"repository.bundle", "install.py", "bundle.json", SUMS} < names
    assert [name for name in names if re.match(r"wheels/tiny-1-.*\.whl", name)]
    assert [name for name in names if name.startswith("dvc-remote/files/md5/")]
    check_digests(bundle)
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--quiet", "-c", SUMS], cwd=bundle, check=True)
    # Nothing of it stays in the repository that it was made from.
    assert "bundle" not in Path(".dvc/config").read_text()
    assert (
        not Path(".dvc/config.local").exists()
        or "bundle" not in Path(".dvc/config.local").read_text()
    )
    git(
        "clone",
        "-q",
        "--branch",
        "main",
        str(bundle / "repository.bundle"),
        str(tmp_path / "clone"),
    )
    assert (tmp_path / "clone/data/mine.dvc").is_file()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "bundle.json").write_text("{}"), "bundle.json has changed"),
        (lambda folder: (folder / "install.pyc").touch(), "install.pyc is not listed"),
        (lambda folder: (folder / "repository.bundle").unlink(), "repository.bundle is missing"),
    ],
)
def test_what_is_not_as_it_was_packed_is_refused(bundle, tmp_path, change, said):
    change(bundle)
    done = subprocess.run(
        [sys.executable, bundle / "install.py", tmp_path / "installed"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and said in done.stderr and not (tmp_path / "installed").exists()


def require(bundle, pins):
    """Have a bundle ask for a requirement by its name, as requirements.txt has them, and for no
    dataset.
    """
    Path("pins.txt").write_text(pins)
    packed = bundle / "bundle.json"
    packed.write_text(
        packed.read_text()
        .replace("requirements.txt", str(Path("pins.txt").resolve()))
        .replace('"data/mine.dvc"', "")
    )
    sums = [line for line in (bundle / SUMS).read_text().splitlines() if "bundle.json" not in line]
    (bundle / SUMS).write_text(
        "\n".join([*sums, packing.listing(bundle, ["bundle.json"]).strip()]) + "\n"
    )


def test_an_installation_that_fails_leaves_nothing_in_the_way(bundle, tmp_path):
    require(bundle, "tiny==2\n")
    done = subprocess.run(
        [sys.executable, bundle / "install.py", tmp_path / "installed"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "failed" in done.stderr
    assert not (tmp_path / "installed").exists()


def test_it_installs_without_a_network(bundle, tmp_path):
    if no_namespaces():
        pytest.skip("no network namespaces here (unshare)")
    require(bundle, "tiny==1\n")
    without_network(sys.executable, bundle / "install.py", tmp_path / "installed", "--no-demo")
    python = tmp_path / "installed/.venv/bin/python"
    subprocess.run([python, "-c", "import tiny"], check=True)
    again = subprocess.run(
        [sys.executable, bundle / "install.py", tmp_path / "installed"],
        capture_output=True,
        text=True,
    )
    assert again.returncode == 1 and "already exists" in again.stderr


def test_mistakes_are_a_line(workplace, monkeypatch):
    import stages.bundle

    for arguments, said in (
        (["out", "--requirements", "none.txt"], "none.txt is not a file of this repository"),
        (["out", "--python", "2.7"], "--python is '2.7'; it must be a version such as 3.11"),
        (["out", "--python", "3.99"], "add --platform, such as"),
        (["data"], "data already exists"),
    ):
        monkeypatch.setattr(sys, "argv", ["bundle", *arguments])
        with pytest.raises(UserError) as error:
            stages.bundle.main()
        assert said in str(error.value)
    assert sorted(os.listdir()) == ["data", "params.yaml"]


def test_the_pipeline_and_what_people_run_ask_no_network(repository):
    """A small repository runs an experiment of all stages, predict with its page, compare and
    report.
    """
    if no_namespaces():
        pytest.skip("no network namespaces here (unshare)")
    paths = {"PYTHONPATH": str(PROJECT)}
    done = without_network(
        sys.executable, "-m", "tests.offline.run_all", environment=ENVIRONMENT | paths
    )
    # DVC reports home nothing, and looks for no update.
    assert done.stdout.split() == ["core.analytics", "false", "core.check_update", "false"]
    for made in (
        "models/model.keras",
        "page.html",
        "slides.csv",
        "report/report.md",
        "comparison/comparison.md",
    ):
        assert Path(made).is_file(), made
