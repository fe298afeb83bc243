"""Do the same to many items on all cores, with a progress bar."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import joblib

from stages.base.memory import keep_freed_memory
from stages.workers.progress import progress

# Pictures of more pixels are decoded one at a time: a hundred megapixels per thread would fill the
# memory on many cores.
LARGE = 10_000_000
# The most results that wait to be taken, so that memory does not grow with the number of items.
WAITING = 64


def on_all_cores(function: Callable, items: Sequence[tuple], what: str) -> Iterable[Any]:
    """Return `function(*item)` for each of `items`, in their order, under a bar with a text.

    The work is done on threads, so `function` should leave it to libraries such as Pillow, which
    release Python's lock.
    """
    return progress(ahead(function, items), total=len(items), desc=what, unit="image")


def ahead(function: Callable, items: Iterable[tuple], waiting: int = WAITING) -> Iterator[Any]:
    """Return an iterator over `function(*item)` for each of `items`, in their order, on threads.

    The threads begin at once and stay at most `waiting` results ahead. joblib has no such limit, so
    that results would accumulate.
    """
    keep_freed_memory()
    pool, rest, turn = ThreadPoolExecutor(joblib.cpu_count()), iter(items), threading.Lock()
    begun: deque[Future] = deque()

    def begin() -> None:
        with turn:
            if len(begun) < waiting and (item := next(rest, None)) is not None:
                # The pool refuses items after its shutdown, and when Python exits.
                with contextlib.suppress(RuntimeError):
                    begun.append(pool.submit(run, *item))

    def run(*item: Any) -> Any:
        # Each item submits the next one: Python waits for all submitted items before it exits.
        try:
            with _turn.of_an_item():
                return function(*item)
        finally:
            begin()

    for _ in range(joblib.cpu_count()):
        begin()
    return _taken(pool, begun, begin)


class _Turn:
    """Whose turn it is to have a large picture, until its item is done."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.own = threading.local()

    def __reduce__(self) -> tuple:
        # Functions are sent to a cluster's workers with their code, and locks cannot be.
        return _Turn, ()

    @contextlib.contextmanager
    def of_an_item(self) -> Iterator[None]:
        with contextlib.ExitStack() as self.own.held:
            yield


_turn = _Turn()


def take_room(pixels: int) -> None:
    """Wait, in a thread of `ahead`, until no other item has a large picture, if this one is large.

    Elsewhere this does nothing.
    """
    if pixels > LARGE and (held := getattr(_turn.own, "held", None)):
        held.enter_context(_turn.lock)


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
