"""Progress: a bar on a terminal, and a line per half minute in a log or in DVC's queue."""

import sys
from collections.abc import Iterable
from typing import Any, TextIO

from tqdm import tqdm

from stages.base.errors import warn

BETWEEN_LINES = 30  # seconds
LONG = 3600  # seconds
ENOUGH = 2  # Batches after which the speed is known: the first one is compiled.


class _Lines:
    """A stream that prints each state of a bar as a line."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, text: str) -> None:
        if line := text.strip():
            print(line, file=self.stream)

    def flush(self) -> None:
        self.stream.flush()


def progress(items: Iterable | None = None, **options: Any) -> tqdm:
    """Return tqdm's bar over `items`, or one to update by hand; `options` are those of tqdm."""
    if sys.stderr.isatty():
        return tqdm(items, **options)
    options |= {"mininterval": BETWEEN_LINES, "maxinterval": BETWEEN_LINES}
    # `delay`: no line before anything has been done.
    return tqdm(items, file=_Lines(sys.stderr), ascii=True, ncols=100, delay=1e-9, **options)


def warn_if_long(bar: tqdm, batch: int) -> None:
    """Warn, after batch number `ENOUGH` from 0, if the rest will take more than an hour."""
    if batch != ENOUGH:
        return
    state = bar.format_dict
    done = state["n"] - state["initial"]
    seconds = state["elapsed"] / done * (state["total"] - state["n"])
    if seconds > LONG:
        warn(
            f"the rest will take about {seconds / LONG:.1f} hours on this machine; it goes on "
            "where it was interrupted, and a GPU is much faster (docs/encoders.md)"
        )
