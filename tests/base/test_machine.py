"""A program gives the same results whatever the locale, the standard streams and Keras's own file
are set to.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stages import crops
from stages.base.errors import run_program
from tests.conftest import make_classes, save_crop
from tests.repositories import PROJECT, python

NO_UTF8 = {
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "LANG": "",
    "LC_ALL": "C",
    "PYTHONIOENCODING": "",
}


def start(*words, **options):
    """Run this Python anew: what is tested happens while a program starts."""
    environment = (
        os.environ | {"PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": ""} | options.pop("env", {})
    )
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run([sys.executable, *words], env=environment, **options)


def manifest(**options):
    """Write the manifest; return its bytes, the exit code, the output and the errors."""
    done = start("-m", "stages.manifest", **options)
    table = Path("data/manifest.csv")
    content = table.read_bytes() if table.is_file() else None
    table.unlink(missing_ok=True)
    return content, done.returncode, done.stdout, (done.stderr or b"").splitlines()


@pytest.fixture
def umlauts(workplace):
    """A dataset whose title and names of files have letters of several alphabets."""
    make_classes("small", slides=6, each=2)
    save_crop(Path("data/small/GS/s1-Müller.png"), seed=7777)
    save_crop(Path("data/small/GS/s2-Дом.png"), seed=7778)
    card = Path("data/small.yaml")
    text = card.read_text().replace("title: small", "title: İstanbul, PAS ≥ 40°")
    card.write_text(text.replace(r"\d+)-\d+", r"\d+)-\w+"), encoding="utf-8")
    crops.main()
    return workplace


def latin_1(folder):
    made = folder / "de_DE.ISO-8859-1"
    if shutil.which("localedef"):
        subprocess.run(["localedef", "-i", "de_DE", "-f", "ISO-8859-1", made], capture_output=True)
    if not made.exists():
        pytest.skip("no Latin-1 locale can be made here")
    return {"LOCPATH": str(folder), "LC_ALL": made.name}


def test_names_are_the_same_in_each_locale(umlauts, tmp_path_factory):
    right, *_ = manifest(env={"LC_ALL": "C.UTF-8"})
    listed = Path("data/crops.csv").read_bytes()
    assert "s1-Müller.png" in right.decode() and "s2-Дом.png" in right.decode()
    latin = latin_1(tmp_path_factory.mktemp("locales"))
    for environment, encoding in ((NO_UTF8, b"ascii"), (NO_UTF8 | latin, b"iso8859-1")):
        assert start("-m", "stages.crops", env=environment).returncode == 0
        assert Path("data/crops.csv").read_bytes() == listed
        content, code, _, errors = manifest(env=environment)
        assert (content, code) == (right, 0)
        assert [line.split(b";")[0] for line in errors] == [
            b"warning: the locale's encoding is " + encoding
        ]


def test_letters_that_the_output_lacks_are_written_as_numbers(umlauts):
    content, code, said, errors = manifest(env={"PYTHONIOENCODING": "cp1252"})
    assert (code, errors) == (0, []) and content
    assert rb"\u0130stanbul, PAS \u2265 40" + "°".encode("cp1252") in said
    assert rb"\u0130stanbul, PAS \u2265 40\xb0" in manifest(env={"PYTHONIOENCODING": "ascii"})[2]


@pytest.mark.parametrize("closed", [(2,), (0, 1, 2)])
def test_standard_streams_that_do_not_exist(umlauts, closed):
    """The first file that is opened would get the number of the closed stream, and the messages of
    libraries.
    """
    right, *_ = manifest()
    streams = {
        name: None for number, name in enumerate(("stdin", "stdout", "stderr")) if number in closed
    }
    content, code, *_ = manifest(
        **streams, preexec_fn=lambda: [os.close(number) for number in closed]
    )
    assert (content, code) == (right, 0)


def test_a_reader_that_stops_reading_ends_the_program_silently(umlauts):
    reader, writer = os.pipe()
    os.close(reader)
    content, code, _, errors = manifest(stdout=writer)
    os.close(writer)
    # It ends with the first line that is printed, before any file is written.
    assert (content, code, errors) == (None, 141, [])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_an_output_on_a_full_disk_is_one_line(umlauts):
    with open("/dev/full", "w") as full:
        _, code, _, errors = manifest(stdout=full)
    assert (code, errors) == (1, [b"error: [Errno 28] No space left on device"])


def test_a_stage_without_a_docstring_knows_its_arguments(monkeypatch):
    """`python -OO` takes the docstring away, from which the description of the arguments comes."""
    monkeypatch.setattr(sys, "argv", ["split", "--nonsense"])
    with pytest.raises(SystemExit, match="2"):
        run_program(print, None)


def test_a_process_that_imports_stages_keeps_its_streams():
    code = "import sys, stages; print(sys.stdout.errors, sys.getfilesystemencoding())"
    assert start("-c", code, env=NO_UTF8).stdout.split() == [b"surrogateescape", b"ascii"]
    assert start("-c", f"import sys; sys.stderr = None; {code}").returncode == 0


SETTINGS = (
    "import stages.model.backend, keras, os;"
    "from keras import config;"
    "print([config.image_data_format(), config.floatx(), config.epsilon(), keras.backend.backend(),"
    "config.max_epochs(), config.max_steps_per_epoch(), config.dtype_policy().name,"
    "os.path.relpath(keras.src.backend.config.keras_home(), os.path.expanduser('~'))])"
)
AS_INSTALLED = (
    "['channels_last', 'float32', 1e-07, 'tensorflow', None, None, 'float32', '.keras']\n"
)
CHANGED = {
    "floatx": "bfloat16",
    "epsilon": "large",
    "backend": "theano",
    "image_data_format": "channels_first",
}


@pytest.mark.slow
def test_keras_takes_no_settings_from_the_home_folder_or_the_environment(tmp_path):
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras/keras.json").write_text(json.dumps(CHANGED))
    home = {"HOME": str(tmp_path), "KERAS_HOME": str(tmp_path / ".keras")}
    done = start(
        "-c",
        SETTINGS,
        env=home | {"KERAS_BACKEND": "", "KERAS_MAX_EPOCHS": "1", "KERAS_MAX_STEPS_PER_EPOCH": "1"},
    )
    assert (done.stdout.decode(), done.stderr) == (AS_INSTALLED, b"")
    assert json.loads((tmp_path / ".keras/keras.json").read_text()) == CHANGED


def test_settings_of_a_process_that_had_imported_keras_before_are_put_back(tmp_path):
    before = (
        "import keras; keras.config.set_image_data_format('channels_first');"
        "keras.config.set_floatx('float16');"
    )
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "HOME": str(tmp_path)}
    done = subprocess.run(
        [python(), "-c", before + SETTINGS], env=environment, capture_output=True, text=True
    )
    assert done.stdout == AS_INSTALLED, done.stderr


@pytest.mark.parametrize(
    ("backend", "said"),
    [
        ("theano", "KERAS_BACKEND is 'theano'; it must be one of tensorflow, jax, torch"),
        ("TensorFlow", "KERAS_BACKEND is 'TensorFlow'; it must be one of tensorflow, jax, torch"),
        ("torch", "KERAS_BACKEND is torch, which is not installed; install it or use tensorflow"),
    ],
)
def test_a_backend_that_does_not_exist_is_one_line(backend, said):
    # Hide the installed packages, which may include torch.
    code = (
        "import sys, numpy;"
        "sys.path[1:] = [path for path in sys.path[1:] if 'site-packages' not in path]"
    )
    done = start(
        "-c", f"import stages; {code}; import stages.model.backend", env={"KERAS_BACKEND": backend}
    )
    assert (done.returncode, done.stderr.decode()) == (1, f"error: {said}\n")
