"""What the tests share: small folders of pictures, and the real images where GLOMERULI_DATA says
they are.
"""

import gc
import hashlib
import json
import os
import shutil
import signal
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import settings
from PIL import Image

from stages import crops, manifest
from tests.fork_server import FOLDER, FORKS, SHARED, python
from tests.repositories import (
    PROJECT,
    STAGES,
    dvc,
    git,
    make_repository,
    set_params,
    stages_run,
)

# A busy machine is no failure: hypothesis fails an example that takes longer than 200 ms unless
# told otherwise.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

# What takes more than a few seconds: DVC in a repository, emulation, many trainings. `pytest -m
# "not slow"` is for working.
SLOW_FIXTURES = {
    "reproduced",
    "repository",
    "branches",
    "shared",
    "workspace",
    "s3",
    "bundle",
    "packed",
    "team",
}


def pytest_configure(config):
    """Start the server of forks for all workers of pytest-xdist.

    Also heed Ctrl-C, which a shell's background processes ignore: tests send it to programs.
    """
    if config.getoption("numprocesses", None) and FORKS:
        python()
        os.environ[SHARED] = FOLDER
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    for item in items:
        if SLOW_FIXTURES & set(item.fixturenames):
            item.add_marker(pytest.mark.slow)
        if "real_data" in item.fixturenames:
            item.add_marker(pytest.mark.real)


def pytest_collection_finish():
    """Have no collection of garbage look at what was imported, TensorFlow above all: each took a
    third of a second.
    """
    gc.freeze()


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty folder to work in, with data/ and the project's params.yaml."""
    (tmp_path / "data").mkdir()
    shutil.copy(PROJECT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def environment_kept():
    """What a test sets in the environment is undone: a local cluster of Dask sets the number of
    threads, with which no other test would start forks.
    """
    with patch.dict(os.environ):
        yield


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory):
    """The folder of a repository with tiny parameters, reproduced once and committed; to be copied,
    not changed.

    One for all workers of pytest-xdist, which share the parent of their temporary folders.
    """
    temporary = tmp_path_factory.getbasetemp()
    folder = (temporary.parent if "PYTEST_XDIST_WORKER" in os.environ else temporary) / "reproduced"
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / "complete").is_file():
            reproduce(folder)
            (folder / "complete").touch()
    return folder / "mine"


def reproduce(folder):
    before = Path.cwd()
    (folder / "mine").mkdir(parents=True)
    make_repository(folder / "mine")
    output = dvc("repro")
    assert sorted(stages_run(output)) == sorted(STAGES), output
    git("add", "-A")
    git("commit", "-q", "-m", "Reproduced")
    os.chdir(before)


@pytest.fixture
def repository(reproduced, tmp_path):
    """A repository with committed results to work in, `tmp_path`/mine."""
    before = Path.cwd()
    shutil.copytree(reproduced, tmp_path / "mine", symlinks=True)
    os.chdir(tmp_path / "mine")
    yield tmp_path / "mine"
    os.chdir(before)


@pytest.fixture
def real_data():
    """The folder of real images; the test is skipped where GLOMERULI_DATA is not set."""
    if not os.environ.get("GLOMERULI_DATA"):
        pytest.skip("GLOMERULI_DATA is not set: no real images")
    return Path(os.environ["GLOMERULI_DATA"])


def list_crops():
    """Run the stages that write data/crops.csv and data/manifest.csv."""
    crops.main()
    manifest.main()


def keep_outputs(monkeypatch):
    """Put all outputs of stages in data/ into DVC's cache and dvc.lock, as `dvc repro` does."""

    def store(content, end=""):
        digest = hashlib.md5(content).hexdigest() + end
        file = Path(".dvc/cache/files/md5", digest[:2], digest[2:])
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return digest

    outs = {str(file): store(file.read_bytes()) for file in Path("data").glob("crops.*")}
    outs |= {str(file): store(file.read_bytes()) for file in Path("data").glob("*.npy")}
    for folder in (Path("data/padded"), Path("data/features")):
        files = [{"md5": store(one.read_bytes()), "relpath": one.name} for one in folder.iterdir()]
        outs[str(folder)] = store(json.dumps(files).encode(), ".dir")
    listed = [{"path": path, "md5": digest} for path, digest in outs.items()]
    Path("dvc.lock").write_text(json.dumps({"stages": {"all": {"outs": listed}}}))
    monkeypatch.setenv("DVC_ROOT", str(Path.cwd()))


def save_crop(path: Path, seed: int, size: tuple[int, int] = (12, 9), mode: str = "RGB") -> Path:
    """Write a picture of random colors; equal seeds give equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def make_classes(name: str = "small", slides: int = 6, each: int = 4, seed: int = 0) -> Path:
    """Make data/<name>: `slides` slides of `each` crops, the first crop of a slide sclerotic, and
    its card. Another seed gives other pictures.
    """
    folder = Path("data") / name
    for slide in range(slides):
        for number in range(each):
            kind = "GS" if number == 0 else "nonGS"
            save_crop(folder / kind / f"s{slide}-{number}.png", seed + 100 * slide + number)
    Path(f"data/{name}.yaml").write_text(
        "title: small\nclasses: [nonGS, GS]\ngroup: '(?P<slide>(?P<site>s)\\d+)-\\d+\\.\\w+$'\n"
    )
    set_params({"data": name})
    return folder


def make_shards(*names: str, slides: int = 3) -> Path:
    """Make the joined dataset data/network of `names`, each made by `make_classes`."""
    for number, name in enumerate(names, start=1):
        make_classes(f"network/{name}", slides=slides, seed=1000 * number)
    listed = ", ".join(names)
    Path("data/network.yaml").write_text(f"title: Our network\nshards: [{listed}]\n")
    set_params({"data": "network"})
    return Path("data/network")


def make_table(rows: str, names: list[str], name: str = "table", card: str = "") -> Path:
    """Make data/<name> with pictures of the given names, a labels.csv of the text `rows`, and a
    card.
    """
    folder = Path("data") / name
    folder.mkdir(parents=True, exist_ok=True)
    for seed, file in enumerate(names):
        save_crop(folder / file, seed)
    (folder / "labels.csv").write_bytes(rows.encode("utf-8"))
    default = (
        "labels: labels.csv\ncolumns: {name: name, label: truth}\ngroup: '(?P<slide>[a-z]+)'\n"
    )
    Path(f"data/{name}.yaml").write_text(card or f"title: t\n{default}")
    set_params({"data": name})
    return folder
