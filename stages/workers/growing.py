"""An array that is written batch by batch, and resumed after a run that was killed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from stages.base.files import replacing


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

    def append(self, rows: np.ndarray) -> None:
        """Write some rows to the disk."""
        self.file.write(rows.astype("<f4").tobytes())
        self.file.flush()
        os.fsync(self.file.fileno())


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
        rows.file.close()
    path.parent.mkdir(parents=True, exist_ok=True)
    os.replace(part, path)
    key_file.unlink()
