"""Finding the file that a row of a table names."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath, PureWindowsPath

from stages.base.errors import refuse
from stages.base.files import from_cell
from stages.base.parameters import quoted
from stages.dataset.slides import nfc
from stages.images.opening import SUFFIXES

MOST_MATCHES = 3


class Names:
    """The paths of some files, found by the whole path or its last part, in either accent form.

    Names are looked up and never joined to a path, so that none reaches outside the folder.

    Args:
        where: where the files are, for messages.
        what: what the files are, for messages.
        unread: for each path that a row may name but `paths` lacks, the reason.
    """

    def __init__(
        self,
        paths: Iterable[str],
        where: object,
        what: str = "files",
        unread: Mapping[str, str] | None = None,
    ):
        self.paths = list(dict.fromkeys(paths))
        self.where, self.what, self.unread = where, what, unread or {}
        self.known: dict[str, list[str]] = defaultdict(list)
        self.loose: dict[str, list[str]] = {}
        for path in self.paths:
            for name in {nfc(path), nfc(PurePosixPath(path).name)}:
                self.known[name].append(path)

    def find(self, name: str) -> list[str]:
        """Return the paths that `name` may mean; it is ambiguous unless there is exactly one."""
        # Spaces around a name belong to it if such a file exists.
        for text in dict.fromkeys((name, name.strip())):
            # The pipeline writes a ' before a name that a spreadsheet would run as a formula.
            texts = {nfc(str(PurePosixPath(one))): None for one in (text, from_cell(text)) if one}
            if found := [path for one in texts for path in self.known.get(one, [])]:
                return found
        return []

    def problem(self, name: str) -> str:
        """Return what is wrong with a name that does not mean exactly one file."""
        if found := self.find(name):
            more = ", ..." * (len(found) > MOST_MATCHES)
            matches = ", ".join(found[:MOST_MATCHES])
            return f"{quoted(name)} matches {len(found)} {self.what}: {matches}{more}"
        if unread := Names(self.unread, self.where).find(name):
            return self.unread[unread[0]]
        likely = " or ".join(map(quoted, self.likely(name)))
        return f"{quoted(name)} is not in {self.where}" + f"; did you mean {likely}?" * bool(likely)

    def likely(self, name: str) -> list[str]:
        """Return the paths whose names differ only by folders, case, spaces or the suffix."""
        if not self.loose:
            loose = defaultdict(list)
            for path in self.paths:
                loose[_loosely(PurePosixPath(path).name)].append(path)
            self.loose = dict(loose)
        # A Windows path splits at both kinds of slashes.
        return self.loose.get(_loosely(PureWindowsPath(name).name), [])[:MOST_MATCHES]


def _loosely(name: str) -> str:
    text = "".join(nfc(name).split()).casefold()
    stem, dot, suffix = text.rpartition(".")
    return stem if dot + suffix in SUFFIXES else text


def refuse_twins(paths: Iterable[str], where: object) -> None:
    """Raise `UserError` for paths that differ only in the Unicode form of their accents."""
    spellings = defaultdict(list)
    for path in paths:
        spellings[nfc(path)].append(path)
    refuse(
        f"{where}: {' and '.join(map(ascii, same))} are one name in two Unicode forms; rename one"
        for same in spellings.values()
        if len(same) > 1
    )
