"""An array that is written batch by batch, and goes on where a run that was killed left off."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from stages.base.files import replacing


class GrowingArray:
    """The rows of a float32 array that are there already, `done`, and the file that takes the next
    ones.
    """

    def __init__(self, part: Path, shape: tuple[int, ...], batch: int):
        self.file = part.open("r+b" if part.exists() else "w+b")
        np.lib.format.write_array_header_1_0(
            self.file, {"descr": "<f4", "fortran_order": False, "shape": shape}
        )
        header, row = self.file.tell(), 4 * int(np.prod(shape[1:]))
        rows = max(part.stat().st_size - header, 0) // row if row else 0
        # Whole batches alone, which begin where those of a run that was never killed do: the result
        # is the same.
        self.done = shape[0] if rows >= shape[0] else rows // batch * batch
        self.file.truncate(header + self.done * row)
        self.file.seek(0, os.SEEK_END)

    def append(self, rows: np.ndarray) -> None:
        """Write some rows, and see to it that they are on the disk before the next ones are
        computed.
        """
        self.file.write(rows.astype("<f4").tobytes())
        self.file.flush()
        os.fsync(self.file.fileno())


@contextmanager
def growing_array(
    path: Path, part: Path, shape: tuple[int, ...], batch: int, key: str
) -> Iterator[GrowingArray]:
    """Give a `GrowingArray`, which becomes the .npy file `path` when all its rows are there.

    Until then they are kept in `part`, where DVC does not clear them away, as it does an output
    before a stage runs. Those of an earlier run are taken up where its `key`, a fingerprint of all
    that the rows depend on, is the same.
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
