"""A repository with data on record, and without results."""

import os
import shutil
from pathlib import Path

import pytest

from tests.conftest import make_classes
from tests.repositories import dvc, git, make_repository


@pytest.fixture(scope="session")
def recorded(tmp_path_factory):
    """A repository without results, with data/small by `dvc add` and data/plain in git, both
    committed; to be copied.
    """
    before = Path.cwd()
    folder = tmp_path_factory.mktemp("recorded") / "mine"
    folder.mkdir()
    make_repository(folder)
    make_classes("small")
    make_classes("plain", slides=2)
    Path("data/weights/mine.weights.h5").write_text("weights")
    dvc("add", "-q", "data/small", "data/weights/mine.weights.h5")
    git("add", "-A")
    # Git takes no crops unless it is told to.
    git("add", "-f", "data/plain")
    git("commit", "-q", "-m", "Data")
    os.chdir(before)
    return folder


@pytest.fixture
def here(recorded, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(recorded, tmp_path / "mine", symlinks=True))


def edit(path):
    """Change a file as a person does: it may be a link into DVC's cache."""
    content = Path(path).read_bytes()
    Path(path).unlink()
    Path(path).write_bytes(content + b" ")


def append(path, text):
    with open(path, "a") as file:
        file.write(text)
