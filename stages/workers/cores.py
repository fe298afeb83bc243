"""Doing the same to many items on all cores, with a progress bar."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import joblib

from stages.base.memory import keep_freed_memory
from stages.workers.progress import progress

# Pixels that items on several threads may have decoded at a time: with pictures of 100 megapixels,
# of which each thread would hold one, many cores fill the memory. Small pictures never wait.
ROOM = 200_000_000
# How many results wait to be taken, so that their memory does not grow with the number of items.
WAITING = 64


def on_all_cores(
    function: Callable, items: Sequence[tuple], what: str, prefer: str = "threads"
) -> Iterator[Any]:
    """Yield `function(*item)` for each of `items`, in their order, under a progress bar that says
    `what` is being done.

    Args:
        prefer: `threads`, which suffice where Pillow or hashlib do the work, as both release
            Python's lock; `processes` where Python itself does it.
    """
    if prefer == "threads":
        results = ahead(function, items)
    else:
        parallel = joblib.Parallel(n_jobs=joblib.cpu_count(), prefer=prefer, return_as="generator")
        results = parallel(joblib.delayed(function)(*item) for item in items)
    yield from progress(results, total=len(items), desc=what, unit="image")


def ahead(function: Callable, items: Iterable[tuple], waiting: int = WAITING) -> Iterator[Any]:
    """Return an iterator over `function(*item)` for each of `items`, in their order, which threads
    compute from now on.

    `waiting` results are computed before they are taken, and no more: joblib's own would pile up
    where the taking is slower.
    """
    keep_freed_memory()
    pool, rest, turn = ThreadPoolExecutor(joblib.cpu_count()), iter(items), threading.Lock()
    begun: deque[Future] = deque()

    def begin() -> None:
        with turn:
            if len(begun) < waiting and (item := next(rest, None)) is not None:
                # It refuses when it was shut down, or when Python ends.
                with contextlib.suppress(RuntimeError):
                    begun.append(pool.submit(run, *item))

    def run(*item: Any) -> Any:
        # One item begins the next: of many that are begun at once Python would wait for the last
        # before it ends.
        try:
            with _room.for_an_item():
                return function(*item)
        finally:
            begin()

    for _ in range(joblib.cpu_count()):
        begin()
    return _taken(pool, begun, begin)


class _Room:
    """What items on threads have taken of ROOM, each for its largest picture, until they are done."""

    def __init__(self) -> None:
        self.taken = 0
        self.freed = threading.Condition()
        self.own = threading.local()

    def __reduce__(self) -> tuple:
        # On a cluster's worker, to which functions are sent with their code, it begins empty.
        return _Room, ()

    @contextlib.contextmanager
    def for_an_item(self) -> Iterator[None]:
        self.own.size = 0
        try:
            yield
        finally:
            with self.freed:
                self.taken -= self.own.size
                self.freed.notify_all()
            del self.own.size

    def take(self, size: int) -> None:
        if (own := getattr(self.own, "size", None)) is None or size <= own:
            return
        with self.freed:
            # Who holds some already never waits: two that wait for each other would never end.
            self.freed.wait_for(lambda: own or not self.taken or self.taken + size <= ROOM)
            self.taken += size - own
        self.own.size = size


_room = _Room()


def take_room(size: int) -> None:
    """Wait, in a thread of `ahead`, until there is room for a picture of `size` pixels; elsewhere
    do nothing.

    The room is free again when the item is done.
    """
    _room.take(size)


def _taken(
    pool: ThreadPoolExecutor, begun: deque[Future], begin: Callable[[], None]
) -> Iterator[Any]:
    try:
        while begun:
            result = begun.popleft().result()
            begin()
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
