"""The code is as the formatter, the linter and the type checker want it, and its folders keep their
order.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT


@pytest.mark.parametrize("arguments", [["check"], ["format", "--check"]])
def test_ruff_has_nothing_to_say(arguments):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *arguments, "--no-cache", "."],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_mypy_has_nothing_to_say(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# Which folders the modules of a folder may import from; docs/architecture.md draws it.
MAY_IMPORT = {
    "base": "",
    "synthetic": "base",
    "workers": "base",
    "dataset": "base",
    "model": "base",
    "images": "base workers",
    "intake": "base workers dataset images",
    "slides": "base workers dataset intake",
    "training": "base dataset model",
    "measures": "base dataset",
    "evaluation": "base workers dataset images model measures",
    "experiments": "base workers dataset measures",
    "offline": "base experiments",
    "comparison": "base workers dataset measures experiments",
    "assessment": "base dataset images measures evaluation experiments comparison",
    "ladder": "base dataset model measures experiments",
    "parameters": "base synthetic images intake model training measures ladder",
}
MOST_LINES = {"program": 210, "module": 330}


def imports_of(file):
    """The modules of stages/ that a file imports, at its top or further down, as (folder or
    program, module).
    """
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{file}: a relative import"
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            whole = (PROJECT / Path(*node.module.split("."))).is_dir()
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names] if whole else [node.module]
            )
        found += [name.split(".")[1:] for name in names if name.startswith("stages.")]
    return found


def test_folders_import_in_one_direction_and_never_a_program():
    folders = {path.parent.name for path in (PROJECT / "stages").glob("*/*.py")}
    assert folders == set(MAY_IMPORT)
    order = list(MAY_IMPORT)
    for folder, allowed in MAY_IMPORT.items():
        assert all(order.index(other) < order.index(folder) for other in allowed.split()), folder
        for file in (PROJECT / "stages" / folder).glob("*.py"):
            for parts in imports_of(file):
                assert len(parts) > 1 and parts[0] in {folder, *allowed.split()}, (file, parts)
    used = {folder: set() for folder in MAY_IMPORT}
    for folder in MAY_IMPORT:
        for file in (PROJECT / "stages" / folder).glob("*.py"):
            used[folder] |= {parts[0] for parts in imports_of(file)} - {folder}
    assert used == {folder: set(allowed.split()) for folder, allowed in MAY_IMPORT.items()}


def test_a_file_in_stages_is_a_program_and_a_folder_a_subject():
    for file in (PROJECT / "stages").glob("*.py"):
        if file.name != "__init__.py":
            assert '__name__ == "__main__"' in file.read_text(), file
            assert all(len(parts) > 1 for parts in imports_of(file)), f"{file} imports a program"
    for file in (PROJECT / "stages").glob("*/__init__.py"):
        (docstring,) = ast.parse(file.read_text()).body
        assert isinstance(docstring, ast.Expr), file
    for file in (PROJECT / "stages").rglob("*.py"):
        kind = "program" if file.parent.name == "stages" else "module"
        assert len(file.read_text().splitlines()) <= MOST_LINES[kind], file
