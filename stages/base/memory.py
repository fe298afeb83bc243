"""Memory that is freed and fetched again, megabytes for each crop."""

import ctypes
import sys

_MALLOPT = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None


def keep_freed_memory() -> None:
    """Have glibc, where it is the C library, keep the memory that is freed for the next crop or
    batch.

    It would hand large blocks back to the system each time and fetch them again, page by page: on a
    virtual machine a third of the time of training (docs/scale.md), a twentieth of that of padding.
    After `fit` of TensorFlow has begun, the thresholds are no longer those set before it, so that
    each batch asks anew. Results stay the same.
    """
    if _MALLOPT:
        trim_threshold, mmap_threshold, largest = -1, -3, 2**31 - 1
        _MALLOPT(trim_threshold, largest)
        _MALLOPT(mmap_threshold, largest)
