"""Doing the same to many items on all cores, with a progress bar."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import joblib

from stages.workers.progress import progress


def on_all_cores(function: Callable, items: Sequence[tuple], what: str, prefer: str = "threads") -> Iterator[Any]:
    """Yield `function(*item)` for each of `items`, in their order, under a progress bar that says `what` is being done.

    Args:
        prefer: `threads`, which suffice where Pillow or hashlib do the work, as both release Python's lock; `processes`
            where Python itself does it.
    """
    parallel = joblib.Parallel(n_jobs=joblib.cpu_count(), prefer=prefer, return_as="generator")
    results = parallel(joblib.delayed(function)(*item) for item in items)
    yield from progress(results, total=len(items), desc=what, unit="image")
