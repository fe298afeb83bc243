"""Fix how numbers are rounded, so that every x86-64 processor with AVX2 gives the same bytes.

When they are imported, libraries choose kernels by the processor's instructions and cache sizes,
and each kernel rounds differently. Environment variables fix the choice: `stages/__init__.py`
imports this module before NumPy, SciPy or TensorFlow. stages/model/operations.py replaces the few
operations of TensorFlow that no variable fixes. `python -m tools.processors` tests both.

With GLOMERULI_ARITHMETIC=native the machine chooses, and results differ between machines.

A process that imports the package `glomeruli` belongs to another program: nothing is fixed there
unless it calls `glomeruli.use_portable_arithmetic`.
"""

import os
import platform
import re
import sys
from typing import Any, Literal

Arithmetic = Literal["portable", "native"]

# What every processor with AVX2 can do: Intel since 2013, AMD since 2015.
SETTINGS = {
    # TensorFlow uses oneDNN's kernels on some processors and Eigen's on others; Eigen's split long
    # sums by the size of the first-level cache. oneDNN's are also faster.
    "TF_ENABLE_ONEDNN_OPTS": "1",
    # With AVX-512, oneDNN sums sixteen numbers at a time instead of eight.
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    # NumPy has other exponentials, logarithms and sines for AVX-512.
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    # OpenBLAS (in NumPy and SciPy) chooses kernels by the processor's name; Haswell was the first
    # with AVX2.
    "OPENBLAS_CORETYPE": "Haswell",
    # OpenBLAS splits sums among as many threads as there are cores.
    "OPENBLAS_NUM_THREADS": "1",
}
# Removed: they change how a processor computes, or contradict SETTINGS, which ends the import.
UNSET = (
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "NPY_ENABLE_CPU_FEATURES",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "OPENCV_CPU_DISABLE",
    "OPENCV_IPP",
    "SCIPY_ARRAY_API",
    "TF_DISABLE_MKL",
    "TF_SET_ONEDNN_FPMATH_MODE",
    "TF_XLA_FLAGS",
)
# Kept, and recorded with results that are not portable: they change how a GPU or another backend
# computes.
RECORDED = (
    "CUBLAS_WORKSPACE_CONFIG",
    "JAX_DEFAULT_MATMUL_PRECISION",
    "JAX_ENABLE_X64",
    "JAX_NUMPY_DTYPE_PROMOTION",
    "NVIDIA_TF32_OVERRIDE",
    "TF_CUDNN_USE_AUTOTUNE",
    "TF_ENABLE_AUTO_MIXED_PRECISION",
    "XLA_FLAGS",
)
# TensorFlow splits sums among threads, so that their number changes the weights. It is therefore
# independent of the number of cores, unless the environment sets it.
THREADS = ("TF_NUM_INTRAOP_THREADS", "2")
# Tells a native process that SETTINGS come from the portable one that started it, to be removed.
FIXED = "GLOMERULI_ARITHMETIC_FIXED"
# All that changes numbers: a program on another machine gets them from the one that asks for it.
CHANGE_NUMBERS = {
    *("GLOMERULI_ARITHMETIC", "KERAS_BACKEND", "MKL_NUM_THREADS", "OMP_NUM_THREADS"),
    *(THREADS[0], FIXED, *SETTINGS, *UNSET, *RECORDED),
}

# Whether this process belongs to a program that imports `glomeruli`. Such a process keeps its
# environment, its Keras settings and its memory allocator.
hosted = "glomeruli" in sys.modules

IS_X86 = platform.machine().lower() in ("x86_64", "amd64")


def choice() -> Arithmetic:
    """Return what GLOMERULI_ARITHMETIC chooses: `portable`, the default, or `native`.

    A hosted process is `native`.

    Raises:
        SystemExit: any other value: a typo must neither pass silently nor end in a traceback.
    """
    if hosted:
        return "native"
    match chosen := os.environ.get("GLOMERULI_ARITHMETIC") or "portable":
        case "portable" | "native":
            return chosen
        case _:
            sys.exit(f"error: GLOMERULI_ARITHMETIC is {chosen!r}; it must be portable or native")


def fix() -> None:
    """Set the variables in the environment of this process and of those that it starts."""
    name, number = THREADS
    os.environ[name] = os.environ.get(name) or number
    if not re.fullmatch("0*[1-9][0-9]{0,3}", os.environ[name]):
        sys.exit(
            f"error: {name} is {os.environ[name]!r}; it must be a number of threads, from 1 on"
        )
    if choice() == "native" or not IS_X86:
        if os.environ.pop(FIXED, None):
            for name, value in SETTINGS.items():
                if os.environ.get(name) == value:
                    del os.environ[name]
        return
    late = [name for name in ("numpy", "tensorflow") if name in sys.modules]
    if late and any(os.environ.get(name) != value for name, value in SETTINGS.items()):
        print(
            f"warning: {', '.join(late)} was imported before stages, so that numbers are rounded "
            "as this processor does; import stages first",
            file=sys.stderr,
        )
    os.environ.update(SETTINGS, **{FIXED: "1"})
    for name in UNSET:
        os.environ.pop(name, None)


def description() -> dict[str, Any]:
    """Return the properties and settings of this machine that the bytes of results depend on."""
    import cv2

    machine = platform.machine().lower()
    avx2 = 11  # CV_CPU_AVX2 of OpenCV, which has no name in Python.
    return {
        "architecture": {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine),
        "avx2": IS_X86 and cv2.checkHardwareSupport(avx2),
        "arithmetic": choice(),
        "threads": int(os.environ[THREADS[0]]),
    }


def variables() -> dict[str, str]:
    """Return the variables of the environment that change numbers and are not fixed."""
    names = sorted({*SETTINGS, *UNSET, *RECORDED} & {*os.environ})
    return {name: os.environ[name] for name in names}


def is_portable(described: dict[str, Any]) -> bool:
    """Return whether results from a `model.backend.runtime_environment` are byte-identical."""
    portable = {
        "architecture": "x86_64",
        "avx2": True,
        "arithmetic": "portable",
        "backend": "tensorflow",
        "device": "CPU",
    }
    return portable.items() <= described.items() and "packages" not in described


if not hosted:
    fix()
