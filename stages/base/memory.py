"""Reuse freed memory instead of returning it to the system."""

import ctypes
import sys

from stages.base import arithmetic

_MALLOPT = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None


def keep_freed_memory() -> None:
    """Make glibc, if it is the C library, keep freed memory for the next crop or batch.

    Returning and fetching large blocks, page by page, took a third of the training time on a
    virtual machine (docs/scale.md). TensorFlow's `fit` resets this when it begins, so call it for
    each batch.
    """
    if _MALLOPT and not arithmetic.hosted:
        trim_threshold, mmap_threshold, largest = -1, -3, 2**31 - 1
        _MALLOPT(trim_threshold, largest)
        _MALLOPT(mmap_threshold, largest)
