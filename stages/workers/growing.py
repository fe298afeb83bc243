"""An array that is written row by row; rows that an earlier run computed are not computed again."""

import hashlib
import io
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from stages.base.errors import warn
from stages.base.files import replacing
from stages.workers.previous import previous_output

# The most batches that wait to be written.
WAITING = 16
BETWEEN_SYNCS = 1  # second
COPIED = 2**22  # bytes at a time
KEY = 32  # bytes


def row_keys(of_all: str, of_rows: Iterable[str]) -> np.ndarray:
    """Return a key for each row of an array; rows of equal keys are equal.

    Args:
        of_all: the fingerprint of what all rows depend on, such as code, packages and parameters.
        of_rows: the digest of what each row depends on besides.

    Returns:
        uint8 (N, 32), SHA-256 digests.
    """
    digests = [hashlib.sha256(f"{of_all} {row}".encode()).digest() for row in of_rows]
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, KEY)


def keys_file(output: Path) -> Path:
    """Return the file with the keys of the rows of an output: data/padded.keys.npy for data/padded.

    It is an output on which no stage depends: keys change with the code, even if the rows do not.
    """
    return output.with_suffix(".keys.npy")


def write_keys(output: Path, keys: np.ndarray) -> None:
    """Write the keys of the rows of an output."""
    with replacing(keys_file(output), binary=True) as npy:
        np.save(npy, keys)


def open_to_change(path: Path) -> IO[bytes]:
    """Open a file to write some of its bytes; a missing one is made.

    Only for writing: with a file that it also reads, NFS can write back whole pages, of which
    another machine has written a part.
    """
    return open(path, "wb", opener=lambda name, flags: os.open(name, flags & ~os.O_TRUNC, 0o666))


class Target(NamedTuple):
    """The file of a `GrowingArray`, for processes on other machines that write rows to it.

    They write only while a file next to it has the run's `token` in its name. A new name is not in
    the cache of a network's file system, which keeps for a while that a file does not exist.

    Attributes:
        start: where the first row begins in the file, in bytes.
    """

    file: Path
    start: int
    token: str

    @property
    def token_file(self) -> Path:
        return self.file.with_suffix(f".{self.token}.token.part")

    def is_seen(self) -> bool:
        """Return whether this process sees the file of the run, and may write to it."""
        try:
            # On a network's file system only opening asks whether the file still exists.
            self.token_file.open("rb").close()
        except OSError:
            return False
        return os.access(self.file, os.W_OK)

    def write(self, rows: Iterable[int], values: Iterable[np.ndarray]) -> None:
        """Write some rows to the disk, one of `values` for each."""
        with open_to_change(self.file) as file:
            for row, value in zip(rows, values):
                file.seek(self.start + int(row) * value.nbytes)
                file.write(value.tobytes())
            file.flush()
            os.fsync(file.fileno())


def _read(path: Path, size: int) -> bytes:
    if not path.exists():
        return b""
    with path.open("rb") as file:
        return file.read(size)


class GrowingArray:
    """The rows of a .npy file; `known` tells which are on the disk, bool (N,).

    Args:
        part: the file, perhaps left by a run that was killed. A second one has the key of each row
            that is on the disk.
        keys: of all rows, by `row_keys`.
        row: the shape of a row.
    """

    def __init__(self, part: Path, keys: np.ndarray, row: tuple[int, ...], dtype: Any):
        self.keys, self._shape, self._type = keys, (len(keys), *row), np.dtype(dtype)
        header = io.BytesIO()
        described = {"descr": self._type.str, "fortran_order": False, "shape": self._shape}
        np.lib.format.write_array_header_1_0(header, described)
        self._start, self._size = header.tell(), self._type.itemsize * int(np.prod(row))
        self.part, keys_part = part, part.with_suffix(".keys.part")
        resumed = _read(part, self._start) == header.getvalue()
        noted = _read(keys_part, keys.size) if resumed else b""
        noted_keys = np.frombuffer(noted.ljust(keys.size, b"\0"), np.uint8).reshape(keys.shape)
        self._target = Target(part.absolute(), self._start, secrets.token_hex(8))
        # From here on, a worker of a killed run on a cluster no longer writes here.
        for of_earlier_run in part.parent.glob(f"{part.stem}.*.token.part"):
            of_earlier_run.unlink()
        self.file, self._keys_file = open_to_change(part), open_to_change(keys_part)
        self._note((noted_keys == keys).all(axis=1))
        self.file.write(header.getvalue())
        self.file.truncate(self.place(len(keys)))
        self._writer = ThreadPoolExecutor(1)
        self._waiting: deque[Future] = deque()
        self._written: list[int] = []
        self._synced = time.monotonic()

    @property
    def missing(self) -> np.ndarray:
        """The rows that no earlier run computed, int64 (n,), ascending."""
        return np.flatnonzero(~self.known)

    def copy(self, path: Path) -> None:
        """Write the missing rows that the previous output `path` has: those of equal keys."""
        if not (file := previous_output(keys_file(path.parent))):
            return
        # NumPy sorts bytes only as text; texts of one length are compared byte by byte.
        theirs, ours = (some.view(f"S{KEY}")[:, 0] for some in (np.load(file), self.keys))
        rows = self.missing[np.isin(ours[self.missing], theirs)]
        # It is read to verify its digest, which takes minutes for a million crops.
        if not len(rows) or not (file := previous_output(path)):
            return
        array, order = np.load(file, mmap_mode="r"), np.argsort(theirs)
        places = order[np.searchsorted(theirs, ours[rows], sorter=order)]
        several = max(1, COPIED // max(1, self._size))
        for first in range(0, len(rows), several):
            self.write(rows[first : first + several], array[places[first : first + several]])
        self.known[rows] = True

    def check(self, most: int, compute: Callable[[np.ndarray], np.ndarray]) -> None:
        """Compute some rows of earlier runs again; if one has other bytes, make all rows missing.

        Args:
            most: how many rows.
            compute: from row numbers to rows.
        """
        self._wait()
        known = np.flatnonzero(self.known)
        chosen = known[np.linspace(0, len(known) - 1, min(most, len(known))).astype(np.int64)]
        if not len(chosen):
            return
        array = np.memmap(self.part, self._type, "r", self._start, self._shape)
        if array[chosen].tobytes() != compute(chosen).tobytes():
            warn("rows of an earlier run have other bytes when computed again; all are computed")
            self._note(np.zeros(len(self.keys), dtype=bool))

    def place(self, row: int) -> int:
        """Return where a row begins in the file, in bytes."""
        return self._start + int(row) * self._size

    def write(self, rows: np.ndarray, values: np.ndarray | None) -> None:
        """Write some rows, in another thread; they are on the disk a second later.

        Args:
            values: (n, *row); None if another process has written the rows to the disk.
        """
        self._waiting.append(self._writer.submit(self._write, rows, values))
        while len(self._waiting) > WAITING or (self._waiting and self._waiting[0].done()):
            self._waiting.popleft().result()

    @contextmanager
    def shared(self) -> Iterator[Target]:
        """Yield what processes on other machines need to write rows, which they may until the end.

        `write` then notes their rows, without values.
        """
        self._target.token_file.touch()
        try:
            yield self._target
        finally:
            # A second run in this folder has removed it.
            self._target.token_file.unlink(missing_ok=True)

    def close(self) -> None:
        """Wait until all rows are on the disk."""
        try:
            self._wait()
        finally:
            self._writer.shutdown(cancel_futures=True)
            self.file.close()
            self._keys_file.close()

    def _wait(self) -> None:
        while self._waiting:
            self._waiting.popleft().result()
        self._sync()

    def _write(self, rows: np.ndarray, values: np.ndarray | None) -> None:
        if values is not None:
            ends = [*np.flatnonzero(np.diff(rows) != 1) + 1, len(rows)]
            for first, end in zip([0, *ends], ends):
                # On a full disk a write raises, but a memory map would kill the process.
                self.file.seek(self.place(rows[first]))
                self.file.write(np.asarray(values[first:end], self._type).tobytes())
            self.file.flush()
        self._written += rows.tolist()
        if time.monotonic() - self._synced >= BETWEEN_SYNCS:
            self._sync()

    def _sync(self) -> None:
        os.fsync(self.file.fileno())
        for row in self._written:
            self._keys_file.seek(row * KEY)
            self._keys_file.write(self.keys[row].tobytes())
        self._keys_file.flush()
        self._written, self._synced = [], time.monotonic()

    def _note(self, known: np.ndarray) -> None:
        """Set `known`. The key of any other row must be gone before the row is overwritten."""
        self.known = known
        self._keys_file.seek(0)
        self._keys_file.write(np.where(known[:, None], self.keys, 0).tobytes())
        self._keys_file.truncate()
        self._keys_file.flush()
        os.fsync(self._keys_file.fileno())


@contextmanager
def growing_array(
    path: Path, keys: np.ndarray, row: tuple[int, ...], dtype: Any
) -> Iterator[GrowingArray]:
    """Yield a `GrowingArray`, which becomes the .npy file `path` when it is complete.

    For data/padded/images.npy it is data/padded.part, which is not an output, so that DVC does not
    remove it before the stage runs. The keys become `keys_file` of data/padded.

    Rows of a killed run and of the previous output are kept if their keys are the same.
    """
    part = path.parent.with_suffix(".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    rows = GrowingArray(part, keys, row, dtype)
    try:
        rows.copy(path)
        yield rows
    finally:
        rows.close()
    if _read(part.with_suffix(".keys.part"), keys.size) != keys.tobytes():
        raise RuntimeError(f"{part}: not all rows were written")
    write_keys(path.parent, keys)
    path.parent.mkdir(parents=True, exist_ok=True)
    os.replace(part, path)
    part.with_suffix(".keys.part").unlink()
