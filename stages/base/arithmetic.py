"""Fix how sums and functions are rounded, so that every x86-64 processor with AVX2 comes to the
same bytes.

Libraries look at the processor when they are imported and choose their kernels by what it can do
and how large its caches are; each kernel rounds in its own way. What they look at is fixed here, in
one place: `stages/__init__.py` imports this module before anything else imports NumPy, SciPy or
TensorFlow. What cannot be fixed from outside, a few operations of TensorFlow,
stages/model/operations.py writes in another way. `python -m tools.processors` shows that both
suffice.

GLOMERULI_ARITHMETIC=native in the environment leaves all of that to the machine: another
experiment, with results of its own.
"""

import os
import platform
import re
import sys
from typing import Any, Literal

Arithmetic = Literal["portable", "native"]

# Nothing here is what a processor of today does best: all are what each with AVX2 (Intel since
# 2013, AMD since 2015) can do.
SETTINGS = {
    # TensorFlow takes oneDNN's kernels on some processors and Eigen's on others; Eigen's cut long
    # sums by the size of the first-level cache. oneDNN's are also the faster ones.
    "TF_ENABLE_ONEDNN_OPTS": "1",
    # With AVX-512, oneDNN sums sixteen numbers at a time in place of eight.
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    # NumPy has other exponentials, logarithms and sines for AVX-512.
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    # OpenBLAS, of NumPy and of SciPy, has kernels by the name of the processor; Haswell was the
    # first with AVX2.
    "OPENBLAS_CORETYPE": "Haswell",
    # It splits sums among as many threads as there are cores. What is left to it is small.
    "OPENBLAS_NUM_THREADS": "1",
}
# Variables that change how a processor computes, or end the import where they contradict SETTINGS:
# taken out.
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
# Variables that change how a GPU or another backend computes. They stay, and are recorded where
# results are not portable.
RECORDED = (
    *(
        "CUBLAS_WORKSPACE_CONFIG",
        "JAX_DEFAULT_MATMUL_PRECISION",
        "JAX_ENABLE_X64",
        "JAX_NUMPY_DTYPE_PROMOTION",
    ),
    *(
        "NVIDIA_TF32_OVERRIDE",
        "TF_CUDNN_USE_AUTOTUNE",
        "TF_ENABLE_AUTO_MIXED_PRECISION",
        "XLA_FLAGS",
    ),
)
# TensorFlow splits sums among threads: with one or four in place of two the same training came to
# other weights. So their number is fixed, whatever the number of cores; the environment may set
# another, which is another experiment.
THREADS = ("TF_NUM_INTRAOP_THREADS", "2")

# Says to a process that one of ours set these: a native one that is started by it takes them back.
FIXED = "GLOMERULI_ARITHMETIC_FIXED"

IS_X86 = platform.machine().lower() in ("x86_64", "amd64")


def choice() -> Arithmetic:
    """Return what GLOMERULI_ARITHMETIC chooses: `portable`, the default, or `native`.

    Raises:
        SystemExit: it holds another word. No result should come of a misspelt choice, nor a
            traceback.
    """
    match chosen := os.environ.get("GLOMERULI_ARITHMETIC") or "portable":
        case "portable" | "native":
            return chosen
        case _:
            sys.exit(f"error: GLOMERULI_ARITHMETIC is {chosen!r}; it must be portable or native")


def fix() -> None:
    """Set what is fixed in the environment, of this process and of those that it starts."""
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
            f"warning: {', '.join(late)} was imported before stages, so that numbers are rounded as this processor does; "
            "import stages first",
            file=sys.stderr,
        )
    os.environ.update(SETTINGS, **{FIXED: "1"})
    for name in UNSET:
        os.environ.pop(name, None)


def description() -> dict[str, Any]:
    """Return what the bytes of a result depend on of this machine and of what was chosen; not the
    processor's name.
    """
    import cv2

    avx2 = 11  # OpenCV's number of it (cv_cpu_dispatch.h), which has no name in Python.
    return {
        "architecture": {"amd64": "x86_64", "arm64": "aarch64"}.get(
            platform.machine().lower(), platform.machine().lower()
        ),
        "avx2": IS_X86 and cv2.checkHardwareSupport(avx2),
        "arithmetic": choice(),
        "threads": int(os.environ[THREADS[0]]),
    }


def variables() -> dict[str, str]:
    """Return the variables of the environment that change numbers and are not fixed."""
    return {
        name: os.environ[name]
        for name in sorted({*SETTINGS, *UNSET, *RECORDED})
        if name in os.environ
    }


def is_portable(described: dict[str, Any]) -> bool:
    """Return whether results have the bytes that all such machines give.

    Args:
        described: what `stages.model.backend.runtime_environment` says of where they were made.
    """
    portable = {
        "architecture": "x86_64",
        "avx2": True,
        "arithmetic": "portable",
        "backend": "tensorflow",
        "device": "CPU",
    }
    return portable.items() <= described.items() and "packages" not in described


fix()
