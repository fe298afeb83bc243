"""Progress: a bar at a terminal; elsewhere, in a log or in DVC's queue, a line now and then."""

import sys
from collections.abc import Callable, Iterable
from typing import Any, TextIO

from tqdm import tqdm

# Seconds between two lines where nobody watches.
BETWEEN_LINES = 30


class _Lines(tqdm):
    """A bar whose states are lines below each other."""

    @staticmethod
    def status_printer(file: TextIO) -> Callable[[str], None]:
        def write(text: str) -> None:
            if text.strip():
                print(text, file=file, flush=True)

        return write


def progress(items: Iterable | None = None, **options: Any) -> tqdm:
    """Return tqdm's bar over `items`, or to be updated by hand; options (`total`, `desc`, `unit`) are those of tqdm.

    Where the standard error is not a terminal it is a line each half minute, and one at the end.
    """
    if sys.stderr.isatty():
        return tqdm(items, **options)
    # `delay`: no line before anything has been done.
    return _Lines(items, mininterval=BETWEEN_LINES, maxinterval=BETWEEN_LINES, delay=1e-9, ascii=True, ncols=100, **options)
