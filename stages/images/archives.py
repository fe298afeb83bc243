"""Images in ZIP archives, which count as if they were unpacked where the archive lies.

Nothing of an archive is trusted, and no archive is kept open: reading is safe in any thread or
process.
"""

import hashlib
import os
import re
import stat
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterator
from fnmatch import translate
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from stages.base.errors import UserError, one_line

SUFFIX = ".zip"
# Names in lower case, in lines for Windows (two), macOS and archives made there, network drives
# (thumbnails, deleted files, snapshots), and editors, viewers and synchronization. All that begins
# with a dot is ignored anyway, such as .DS_Store, ._a.png, .@__thumb and .Trash-1000.
IGNORED = (
    r"thumbs.db|ehthumbs*.db|desktop.ini|$recycle.bin|recycler|recycled|system volume information"
    r"|*:zone.identifier|*:encryptable|found.[0-9][0-9][0-9]|~$*"
    "|icon\r|icon\uf00d|__macosx|network trash folder|temporary items|desktop db|desktop df"
    r"|@eadir|#recycle|@recycle|@recently-snapshot|@tmp|#snapshot|~snapshot|@gmt-*|lost+found"
    r"|*~|#*#|__pycache__|picasa.ini|zbthumbnail.info|_gsdata_|albumart*.jpg|*.dropbox.attr"
).split("|")
_IGNORED = re.compile("|".join(map(translate, IGNORED)))

# 100 megapixels, the most that are read, of four channels of 16 bits.
MOST_BYTES = 800_000_000
# Flags and signature by PKWARE's APPNOTE.TXT, 4.4.4 and 4.3.7.
ENCRYPTED, UTF_8 = 0x1, 0x800
LOCAL_SIGNATURE, LOCAL_HEADER = b"PK\x03\x04", "<4s22xHH"
# A member: the number of its archive, then the numbers of `Member`. Objects of `zipfile` take three
# times the memory.
ENTRY = "<IQIII?"


class Member(NamedTuple):
    """An image in an archive, used like its `Path` if it were unpacked.

    Attributes:
        archive: the file of the archive.
        path: in the archive.
        offset: where the member begins in the archive.
        stored: the number of its bytes in the archive.
        size: the number of its bytes when unpacked.
        crc: their CRC-32.
        deflated: whether they are compressed.
    """

    archive: Path
    path: str
    offset: int
    stored: int
    size: int
    crc: int
    deflated: bool

    def __str__(self) -> str:
        return f"{self.archive}/{self.path}"

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePosixPath(self.path).name

    def absolute(self) -> "Member":
        """Return the same with an absolute path to the archive."""
        return self._replace(archive=self.archive.absolute())

    def stat(self) -> os.stat_result:
        """Return when the archive was changed last, and what else is known about it."""
        return self.archive.stat()

    def read_bytes(self) -> bytes:
        """Return the content.

        Raises:
            UserError: it is damaged, or the archive has changed.
        """
        with open(self.archive, "rb") as file:
            file.seek(self.offset)
            header = file.read(struct.calcsize(LOCAL_HEADER)).ljust(struct.calcsize(LOCAL_HEADER))
            signature, of_name, of_extra = struct.unpack(LOCAL_HEADER, header)
            if signature != LOCAL_SIGNATURE or file.read(of_name) != self.path.encode():
                raise UserError(f"{self} is not where the directory of the archive says")
            file.seek(of_extra, os.SEEK_CUR)
            data = file.read(self.stored)
        if self.deflated:
            try:
                # One byte more than declared shows that there are more.
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, self.size + 1)
            except zlib.error as error:
                raise UserError(f"{self} is damaged: {error}") from None
        if len(data) != self.size or zlib.crc32(data) != self.crc:
            raise UserError(f"{self} is damaged: it does not have its size and CRC-32")
        return data


File = Path | Member


class Archives(NamedTuple):
    """The archives directly in a folder.

    Attributes:
        names: their names, sorted.
        members: what they hold, by path: packed by `ENTRY`.
        problems: (name of the archive, path, why it is not read); the path is empty for a whole
            archive.
    """

    names: list[str]
    members: dict[str, bytes]
    problems: list[tuple[str, str, str]]

    def member(self, folder: Path, path: str) -> Member | None:
        """Return the member of a path; None if there is none."""
        if (entry := self.members.get(path)) is None:
            return None
        number, *values = struct.unpack(ENTRY, entry)
        return Member(folder / self.names[number], path, *values)

    def listed(self) -> Iterator[tuple[str, str, str]]:
        """Yield the problems, then the same of each member, with an empty problem."""
        yield from self.problems
        for path, entry in self.members.items():
            number, *_ = struct.unpack(ENTRY, entry)
            yield self.names[number], path, ""


def locate(folder: Path, path: str) -> Path | Member:
    """Return the file of a path that `list_images(folder)` has listed, or the archive's member."""
    file = folder / path
    return file if file.is_file() else next(members_at(folder, path), file)


def members_at(folder: Path, path: str) -> Iterator[Member]:
    """Yield the members of archives in `folder` or deeper that count as the file `path` in it."""
    parts = path.split("/")
    for depth in range(len(parts)):
        parent = folder.joinpath(*parts[:depth])
        if not parent.is_dir():
            return
        if member := archives_in(parent).member(parent, "/".join(parts[depth:])):
            yield member


def as_file(file: str | File) -> File:
    """Return a file that may be named by a text."""
    return Path(file) if isinstance(file, str) else file


def on_disk(file: File) -> Path:
    """Return the file itself, or the archive that it is in."""
    return file.archive if isinstance(file, Member) else file


def file_sha256(file: File) -> str:
    """Return the SHA-256 digest of an image's file, in hexadecimal."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def archives_in(folder: Path) -> Archives:
    """Return the archives directly in a folder; they are read once per process."""
    with _reading:
        return _archives_in(os.path.abspath(folder), os.stat(folder).st_mtime_ns)


_reading = threading.Lock()


@cache
def _archives_in(folder: str, modified: int) -> Archives:
    with os.scandir(folder) as entries:
        names = sorted(
            entry.name for entry in entries if is_archive(entry.name) and entry.is_file()
        )
    found = Archives(names, {}, [])
    for number, name in enumerate(names):
        try:
            _read_directory(os.path.join(folder, name), number, found)
        except Exception as error:  # zipfile raises several kinds for damaged archives.
            found.problems.append((name, "", f"does not open as a ZIP archive: {one_line(error)}"))
    return found


def _read_directory(archive: str, number: int, found: Archives) -> None:
    """Add the members of an archive to `found`."""
    with zipfile.ZipFile(archive) as opened:
        infos, end = opened.infolist(), opened.start_dir
    for info in infos:
        path = info.orig_filename  # `filename` is changed by zipfile.
        if path.endswith("/"):
            continue
        if problem := _problem(info, end):
            found.problems.append((found.names[number], path, problem))
        elif path in found.members:
            (other, *_) = struct.unpack(ENTRY, found.members[path])
            problem = (
                "is in the archive twice"
                if other == number
                else f"is also in {found.names[other]}; remove one"
            )
            found.problems.append((found.names[number], path, problem))
        else:
            found.members[path] = struct.pack(
                ENTRY,
                number,
                info.header_offset,
                info.compress_size,
                info.file_size,
                info.CRC,
                info.compress_type == zipfile.ZIP_DEFLATED,
            )


def _problem(info: zipfile.ZipInfo, end: int) -> str | None:
    """Return why a member cannot be read; `end` is the place of the archive's directory."""
    path = info.orig_filename
    if not is_portable(path):
        return "has a path that is not made of names with a / between them"
    if not path.isascii() and not info.flag_bits & UTF_8:
        return "has a name that is not marked as UTF-8; rename it, or pack it again"
    if info.flag_bits & ENCRYPTED:
        return "is encrypted; pack it without a password"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a link; pack the file that it leads to"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"is compressed by method {info.compress_type}; use Deflate, or no compression"
    if max(info.file_size, info.compress_size) > MOST_BYTES:
        return f"has more than {MOST_BYTES:,} bytes, which no image has that is read"
    if info.volume or info.header_offset < 0 or info.header_offset + info.compress_size > end:
        return "is not in the archive, which is damaged, or one part of several"
    return None


def is_portable(path: str) -> bool:
    """Return whether a path is made of names with a / between them, on every system."""
    odd = "\\" in path or re.match("[A-Za-z]:", path)
    return not odd and {"", ".", ".."}.isdisjoint(path.split("/"))


def is_archive(name: str) -> bool:
    """Return whether a file of this name is an archive whose images are read."""
    return name.lower().endswith(SUFFIX) and not is_ignored(name)


def is_ignored(name: str) -> bool:
    """Return whether a file or folder of this name is hidden or left by a program, not a person."""
    return name.startswith(".") or _IGNORED.match(name.lower()) is not None
