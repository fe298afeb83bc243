"""Files of annotations as gzip or zip pack them."""

import gzip
import io
import zipfile
import zlib
from pathlib import Path

from stages.base.errors import UserError

# A compressed file may grow to this many bytes: ten times the largest export of a whole slide's
# cells.
MOST_BYTES = 2**29


def unpacked(path: Path) -> bytes:
    """Return the content of a file, unpacked if gzip or zip packed it.

    Raises:
        UserError: it is damaged, holds several files of annotations, or grows too large.
    """
    content = path.read_bytes()
    try:
        if content.startswith(b"\x1f\x8b"):
            with gzip.open(io.BytesIO(content)) as file:
                content = file.read(MOST_BYTES + 1)
        elif content.startswith(b"PK\x03\x04"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                names = [
                    name
                    for name in archive.namelist()
                    if name.lower().endswith((".json", ".geojson", ".xml"))
                ]
                if len(names) != 1:
                    raise UserError(
                        f"{path} is a zip archive of {len(names)} files of annotations; it must hold one"
                    )
                with archive.open(names[0]) as file:
                    content = file.read(MOST_BYTES + 1)
        else:
            return content
    # RuntimeError: with a password; NotImplementedError: packed in a way that Python does not know.
    except (
        EOFError,
        OSError,
        RuntimeError,
        NotImplementedError,
        zlib.error,
        zipfile.BadZipFile,
    ) as error:
        raise UserError(
            f"{path} cannot be unpacked: {' '.join(str(error).split())[:200]}"
        ) from None
    if len(content) > MOST_BYTES:
        raise UserError(f"{path} unpacks to more than {MOST_BYTES:,} bytes")
    return content
