"""Reading annotation files that gzip or zip may have compressed."""

import gzip
import io
import zipfile
import zlib
from pathlib import Path

from stages.base.errors import UserError, one_line

# Bytes that a file may unpack to: ten times the largest export of all cells of a slide.
MOST_BYTES = 2**29


def unpacked(path: Path) -> bytes:
    """Return the content of a file, unpacked if gzip or zip compressed it.

    Raises:
        UserError: the file is damaged, holds several annotation files, or unpacks to too much.
    """
    content = path.read_bytes()
    try:
        if content.startswith(b"\x1f\x8b"):
            with gzip.open(io.BytesIO(content)) as file:
                content = file.read(MOST_BYTES + 1)
        elif content.startswith(b"PK\x03\x04"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                suffixes = (".json", ".geojson", ".xml")
                names = [one for one in archive.namelist() if one.lower().endswith(suffixes)]
                if len(names) != 1:
                    raise UserError(
                        f"{path}: a zip archive of {len(names)} annotation files; "
                        "it must hold exactly one"
                    )
                with archive.open(names[0]) as file:
                    content = file.read(MOST_BYTES + 1)
        else:
            return content
    # RuntimeError: password-protected; NotImplementedError: an unknown compression.
    except (EOFError, OSError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: cannot be unpacked: {one_line(error)}") from None
    if len(content) > MOST_BYTES:
        raise UserError(f"{path}: unpacks to more than {MOST_BYTES:,} bytes; export less")
    return content
