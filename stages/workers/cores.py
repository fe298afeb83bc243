"""Doing the same to many items on all cores, with a progress bar."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import joblib

from stages.workers.progress import progress

# How many results wait to be taken, so that their memory does not grow with the number of items.
WAITING = 64


def on_all_cores(function: Callable, items: Sequence[tuple], what: str, prefer: str = "threads") -> Iterator[Any]:
    """Yield `function(*item)` for each of `items`, in their order, under a progress bar that says `what` is being done.

    Args:
        prefer: `threads`, which suffice where Pillow or hashlib do the work, as both release Python's lock; `processes`
            where Python itself does it.
    """
    if prefer == "threads":
        results = ahead(function, items)
    else:
        parallel = joblib.Parallel(n_jobs=joblib.cpu_count(), prefer=prefer, return_as="generator")
        results = parallel(joblib.delayed(function)(*item) for item in items)
    yield from progress(results, total=len(items), desc=what, unit="image")


def ahead(function: Callable, items: Iterable[tuple], waiting: int = WAITING) -> Iterator[Any]:
    """Return an iterator over `function(*item)` for each of `items`, in their order, which threads compute from now on.

    `waiting` results are computed before they are taken, and no more: joblib's own would pile up where the taking is slower.
    """
    pool, rest = ThreadPoolExecutor(joblib.cpu_count()), iter(items)
    begun = deque(pool.submit(function, *item) for item in islice(rest, waiting))
    return _taken(pool, begun, (pool.submit(function, *item) for item in rest))


def _taken(pool: ThreadPoolExecutor, begun: deque[Future], more: Iterator[Future]) -> Iterator[Any]:
    try:
        while begun:
            result = begun.popleft().result()
            begun.extend(islice(more, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
