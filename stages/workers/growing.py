"""An array that is written batch by batch, and resumed after a run that was killed."""

import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from stages.base.files import replacing

# The most batches that wait to be written.
WAITING = 16
BETWEEN_SYNCS = 1  # second


class GrowingArray:
    """A file of rows, float32; `done` is how many it already has."""

    def __init__(self, part: Path, shape: tuple[int, ...], batch: int):
        self.file = part.open("r+b" if part.exists() else "w+b")
        np.lib.format.write_array_header_1_0(
            self.file, {"descr": "<f4", "fortran_order": False, "shape": shape}
        )
        header, row = self.file.tell(), 4 * int(np.prod(shape[1:]))
        rows = max(part.stat().st_size - header, 0) // row if row else 0
        # Only whole batches are kept: later ones begin at the same rows as without an interruption.
        self.done = shape[0] if rows >= shape[0] else rows // batch * batch
        self.file.truncate(header + self.done * row)
        self.file.seek(0, os.SEEK_END)
        self._writer = ThreadPoolExecutor(1)
        self._waiting: deque[Future] = deque()
        self._synced, self._failed = time.monotonic(), False

    def append(self, rows: np.ndarray) -> None:
        """Write some rows, in another thread; they are on the disk a second later."""
        self._waiting.append(self._writer.submit(self._write, rows))
        while len(self._waiting) > WAITING or (self._waiting and self._waiting[0].done()):
            self._waiting.popleft().result()

    def close(self) -> None:
        """Wait until all rows are on the disk."""
        try:
            while self._waiting:
                self._waiting.popleft().result()
            self._sync()
        finally:
            self._writer.shutdown(cancel_futures=True)
            self.file.close()

    def _write(self, rows: np.ndarray) -> None:
        # After an error nothing more is written: rows would be missing in between.
        if self._failed:
            return
        self._failed = True
        self.file.write(rows.astype("<f4").tobytes())
        self.file.flush()
        if time.monotonic() - self._synced > BETWEEN_SYNCS:
            self._sync()
        self._failed = False

    def _sync(self) -> None:
        os.fsync(self.file.fileno())
        self._synced = time.monotonic()


@contextmanager
def growing_array(
    path: Path, part: Path, shape: tuple[int, ...], batch: int, key: str
) -> Iterator[GrowingArray]:
    """Yield a `GrowingArray`, which becomes the .npy file `path` when it is complete.

    Until then its rows are in `part`, which is not an output, so that DVC does not remove it before
    the stage runs. The rows of an earlier run are kept if its `key` was the same.

    Args:
        key: the fingerprint of all that the rows depend on.
    """
    key_file = part.with_suffix(".key.part")
    if not key_file.exists() or key_file.read_text() != key:
        part.unlink(missing_ok=True)
        with replacing(key_file) as file:
            file.write(key)
    rows = GrowingArray(part, shape, batch)
    try:
        yield rows
    finally:
        rows.close()
    path.parent.mkdir(parents=True, exist_ok=True)
    os.replace(part, path)
    key_file.unlink()
