"""The scores of crops as they are computed, in a file from which a run that was killed continues.

Each line after the first is a crop. Its file counts as the same if its size, its times and its
number on the disk are: a renamed file keeps its size and its time of writing.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from stages.base.errors import UserError
from stages.base.fingerprint import STAGES, fingerprint
from stages.evaluation.scoring import Scored
from stages.images.archives import File
from stages.measures.novelty import NOVELTY
from stages.model.file import MODEL
from stages.model.folder import CARD

MARK = "scores of crops, "
KEPT = (
    "note: the other {} predictions are kept: the same command goes on with them; "
    "--unreadable skip leaves out what does not open"
)


class Finished:
    """The scores in a file next to a table, until the table is written.

    Args:
        table: the file of predictions.
        key: of all that the scores depend on; scores of another key are not used.

    Raises:
        UserError: the file holds something else.
    """

    def __init__(self, table: Path, key: str):
        self.file = table.with_name(f"{table.name}.scores.part")
        self._first = f"{MARK}{key}\n".encode()
        self._known: dict[str, tuple[list[int], Scored]] = {}
        self._stats: dict[str, list[int]] = {}
        self._stream: BinaryIO | None = None
        content = self.file.read_bytes() if self.file.exists() else b""
        if content and not content.startswith(MARK.encode()):
            raise UserError(f"{self.file}: it is not of this program; move it elsewhere")
        self._whole = 0
        if content.startswith(self._first):
            self._read(content)

    def _read(self, content: bytes) -> None:
        self._whole = len(self._first)
        for line in content[self._whole :].splitlines(keepends=True):
            # A kill leaves half a line, and a crash of the machine anything.
            try:
                name, stat, *scored = json.loads(line)
                if not line.endswith(b"\n"):
                    return
                self._known[name] = stat, Scored(*scored)
            except (ValueError, TypeError):
                return
            self._whole += len(line)

    def find(self, crop: File) -> Scored | None:
        """Return the scores of a crop; None if they are missing or those of another file.

        Call it before the crop is opened and before `add`.
        """
        found = crop.stat()
        stat = [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
        self._stats[str(crop)] = stat
        known, scored = self._known.get(str(crop), (None, None))
        return scored if known == stat else None

    def add(self, crops: Iterable[tuple[File, Scored]]) -> None:
        """Append the scores of crops."""
        if not self._stream:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self.file.open("r+b" if self._whole else "wb")
            self._stream.truncate(self._whole)
            self._stream.seek(self._whole)
            if not self._whole:
                self._stream.write(self._first)
        for crop, scored in crops:
            line = json.dumps([str(crop), self._stats[str(crop)], *scored])
            self._stream.write(f"{line}\n".encode())
        self._stream.flush()

    def remove(self) -> None:
        """Remove the file: the run is complete."""
        if self._stream:
            self._stream.close()
        self.file.unlink(missing_ok=True)


def open_finished(table: Path, folder: Path) -> Finished | None:
    """Return the scores of an earlier, interrupted run with the model in a folder.

    Returns None if the table is a pipe, such as the standard output.
    """
    return Finished(table, scores_key(folder)) if table.is_file() or not table.exists() else None


def scores_key(folder: Path) -> str:
    """Return the fingerprint of all that the scores by the model in a folder depend on."""
    from stages.model.backend import keras, runtime_environment

    files = [folder / name for name in (CARD, MODEL.name, NOVELTY.name)]
    # All code: which of it is imported depends on the arguments of the program.
    here = runtime_environment() | {"keras": keras.__version__}
    return fingerprint(here, [*files, *STAGES.rglob("*.py")])
