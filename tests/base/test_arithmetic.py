"""The arithmetic is fixed before NumPy is imported, and other processors give the same bytes."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stages.base.arithmetic import (
    FIXED,
    IS_X86,
    RECORDED,
    SETTINGS,
    UNSET,
    description,
    is_portable,
    variables,
)
from tests.drawn import drawn_crops
from tests.repositories import PROJECT
from tools.processors import EMULATOR, digests

on_x86 = pytest.mark.skipif(not IS_X86, reason="of x86-64 processors")


def run(code, **variables):
    """Run code in a process whose environment has none of what is fixed, but for `variables`."""
    ours = {*SETTINGS, FIXED, "TF_NUM_INTRAOP_THREADS"}
    clean = {name: value for name, value in os.environ.items() if name not in ours}
    return subprocess.run(
        [sys.executable, "-W", "always", "-c", code],
        env={**clean, "GLOMERULI_ARITHMETIC": "", **variables},
        capture_output=True,
        text=True,
        cwd=PROJECT,
    )


KERNELS = (
    "import stages, numpy, scipy.linalg, threadpoolctl, os, json;"
    "from numpy._core._multiarray_umath import __cpu_features__ as has;"
    "print(json.dumps([[one['architecture'] for one in threadpoolctl.threadpool_info()],"
    "any(has.get(name, False) for name in ('X86_V4', 'AVX512_ICL', 'AVX512_SPR')), "
    "dict(os.environ)]))"
)


@on_x86
def test_the_libraries_take_the_kernels_that_all_processors_have():
    done = run(KERNELS, OPENBLAS_CORETYPE="Nehalem", ONEDNN_MAX_CPU_ISA="AVX512_CORE")
    blas, wide, environment = json.loads(done.stdout)
    assert set(blas) == {"Haswell"} and not wide
    assert SETTINGS.items() <= environment.items() and environment["TF_NUM_INTRAOP_THREADS"] == "2"
    assert done.stderr == ""


def test_native_leaves_all_to_the_machine():
    done = run(KERNELS, GLOMERULI_ARITHMETIC="native")
    _, _, environment = json.loads(done.stdout)
    assert not set(SETTINGS) & set(environment)


def test_a_native_process_takes_back_what_a_portable_one_handed_it_and_no_more():
    """As `verify` starts the pipeline, or a native experiment is started by a program of this
    project.
    """
    handed = {**SETTINGS, FIXED: "1"}
    _, _, environment = json.loads(run(KERNELS, GLOMERULI_ARITHMETIC="native", **handed).stdout)
    assert not {*SETTINGS, FIXED} & set(environment)
    _, _, environment = json.loads(
        run(KERNELS, GLOMERULI_ARITHMETIC="native", ONEDNN_MAX_CPU_ISA="AVX2").stdout
    )
    assert environment["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    # Chosen for the new process, in addition to what it inherits.
    handed |= {"TF_ENABLE_ONEDNN_OPTS": "0"}
    _, _, environment = json.loads(run(KERNELS, GLOMERULI_ARITHMETIC="native", **handed).stdout)
    assert environment["TF_ENABLE_ONEDNN_OPTS"] == "0" and "ONEDNN_MAX_CPU_ISA" not in environment
    assert json.loads(run(KERNELS).stdout)[2][FIXED] == "1"


def test_the_threads_can_be_chosen():
    code = "import stages.base.arithmetic as arithmetic; print(arithmetic.description()['threads'])"
    assert run(code, TF_NUM_INTRAOP_THREADS="3").stdout == "3\n"


@pytest.mark.parametrize("number", ["0", "-1", "two", "1.5", "1e1", " 2"])
def test_a_number_of_threads_that_is_none_is_one_line(number):
    """TensorFlow takes all of them for as many threads as there are cores."""
    done = run("import stages", TF_NUM_INTRAOP_THREADS=number)
    assert done.returncode == 1
    said = f"TF_NUM_INTRAOP_THREADS is {number!r}; it must be a number of threads, from 1 on"
    assert done.stderr == f"error: {said}\n"


def test_an_empty_number_of_threads_is_the_default():
    code = "import stages.base.arithmetic as arithmetic; print(arithmetic.description()['threads'])"
    assert run(code, TF_NUM_INTRAOP_THREADS="").stdout == "2\n"


@on_x86
def test_variables_that_change_numbers_are_taken_out_or_recorded():
    code = "import stages, numpy, json; print(json.dumps(stages.arithmetic.variables()))"
    chosen = {name: "1" for name in UNSET} | {"NPY_ENABLE_CPU_FEATURES": "AVX2"}
    done = run(code, **chosen)
    assert done.returncode == 0 and not set(UNSET) & set(json.loads(done.stdout)), done.stderr
    chosen = {name: "1" for name in (*UNSET, *RECORDED)}
    native = run(code.replace(" numpy,", ""), GLOMERULI_ARITHMETIC="native", **chosen)
    assert json.loads(native.stdout) == dict(sorted(chosen.items()))
    assert not {"PATH", "HOME"} & set(variables())


def test_a_misspelt_choice_is_one_line():
    done = run("import stages", GLOMERULI_ARITHMETIC="Native")
    assert done.returncode == 1
    assert done.stderr == "error: GLOMERULI_ARITHMETIC is 'Native'; it must be portable or native\n"


@on_x86
def test_numpy_before_stages_is_said():
    done = run("import numpy, stages")
    assert done.returncode == 0 and done.stderr.startswith(
        "warning: numpy was imported before stages"
    )
    assert run("import numpy, stages", **SETTINGS).stderr == ""


def test_what_counts_of_a_machine_is_told_from_its_name():
    text = json.dumps(description())
    assert set(description()) == {"architecture", "avx2", "arithmetic", "threads"}
    assert not re.search("intel|amd|epyc|xeon", text, flags=re.IGNORECASE)
    here = {
        "architecture": "x86_64",
        "avx2": True,
        "arithmetic": "portable",
        "threads": 2,
        "backend": "tensorflow",
        "device": "CPU",
    }
    assert is_portable(here) and is_portable(here | {"threads": 8})
    for other in (
        {"architecture": "aarch64"},
        {"avx2": False},
        {"arithmetic": "native"},
        {"backend": "jax"},
        {"device": "GPU"},
    ):
        assert not is_portable(here | other), other


@on_x86
@pytest.mark.skipif(
    not shutil.which(EMULATOR), reason=f"{EMULATOR} is not installed (Debian's package qemu-user)"
)
@pytest.mark.slow
@pytest.mark.parametrize(
    "part",
    [
        "calibration",
        pytest.param(
            "smallest-step",
            marks=pytest.mark.skipif(
                not os.environ.get("GLOMERULI_EMULATE"),
                reason="two minutes; GLOMERULI_EMULATE=1 runs it",
            ),
        ),
    ],
)
def test_another_processor_gives_the_same_bytes(part, monkeypatch):
    """`python -m tools.processors` has all parts and more processors."""
    monkeypatch.chdir(PROJECT)
    here = digests(part)
    assert len(here) > 5 and digests(part, "Haswell") == here


def test_the_drawn_crops_hold_both_classes():
    squares, labels = drawn_crops(3, 16)
    assert squares.shape == (3, 16, 16, 3) and labels.tolist()[:2] == [0, 1]


def test_no_stage_imports_numpy_before_the_arithmetic_is_fixed():
    """`python -m stages.<name>` imports the package first, which first imports the arithmetic."""
    text = Path(PROJECT / "stages/__init__.py").read_text()
    found = re.findall(r"^(?:from|import) .*$", text, flags=re.MULTILINE)
    assert found == [
        "import signal",
        "import sys",
        "from stages.base import arithmetic as arithmetic",
        "from stages.base import machine, packages",
    ]
    for module in ("arithmetic", "machine", "packages"):
        imports = re.findall(
            r"^(?:from|import) (\w+)",
            (PROJECT / f"stages/base/{module}.py").read_text(),
            flags=re.MULTILINE,
        )
        assert set(imports) <= {*sys.stdlib_module_names}
    assert "import" not in (PROJECT / "stages/base/__init__.py").read_text()


def test_no_plugin_of_the_tests_imports_numpy_first():
    command = [sys.executable, "-m", "pytest", "--collect-only", "-n", "0", "tests/test_plots.py"]
    environment = {
        name: value for name, value in os.environ.items() if name not in {*SETTINGS, FIXED}
    }
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "imported before" not in done.stderr, done.stderr
