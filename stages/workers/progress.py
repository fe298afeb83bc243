"""Progress: a bar at a terminal; elsewhere, in a log or in DVC's queue, a line now and then."""

import sys
from collections.abc import Iterable
from typing import Any, TextIO

from tqdm import tqdm

# Seconds between two lines where nobody watches.
BETWEEN_LINES = 30


class _Lines:
    """A stream to which each state of a bar is a line of its own."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, text: str) -> None:
        if line := text.strip():
            print(line, file=self.stream)

    def flush(self) -> None:
        self.stream.flush()


def progress(items: Iterable | None = None, **options: Any) -> tqdm:
    """Return tqdm's bar over `items`, or to be updated by hand; options (`total`, `desc`, `unit`)
    are those of tqdm.

    Where the standard error is not a terminal it is a line each half minute, and one at the end.
    """
    if sys.stderr.isatty():
        return tqdm(items, **options)
    # `delay`: no line before anything has been done.
    seldom: dict[str, Any] = {
        "mininterval": BETWEEN_LINES,
        "maxinterval": BETWEEN_LINES,
        "delay": 1e-9,
    }
    return tqdm(items, file=_Lines(sys.stderr), ascii=True, ncols=100, **seldom, **options)
