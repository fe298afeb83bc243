"""Which file a row of a table means: one matcher of names, whatever the table is for."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath, PureWindowsPath

from stages.base.errors import refuse
from stages.base.files import from_cell
from stages.base.parameters import quoted
from stages.dataset.slides import nfc
from stages.images.opening import SUFFIXES

SHOWN = 3


class Names:
    """The paths of some files, to be found by their whole path or by its last part, in whatever
    form accents are written.

    A row is looked up here and never joined to a path: none reaches outside the folder.

    Args:
        unread: why paths that a row may mean are not among `paths`.
    """

    def __init__(
        self,
        paths: Iterable[str],
        where: object,
        what: str = "files",
        unread: Mapping[str, str] | None = None,
    ):
        self.where, self.what = where, what
        self.unread = unread or {}
        self.known: dict[str, list[str]] = defaultdict(list)
        self.loose: dict[str, list[str]] = {}
        for path in paths:
            for name in {nfc(path), nfc(PurePosixPath(path).name)}:
                self.known[name].append(path)

    def find(self, name: str) -> list[str]:
        """Return the paths that `name` may mean: one, or there is something to ask."""
        found: list[str] = []
        # Spaces around a name belong to it where there is such a file.
        for text in dict.fromkeys((name, name.strip())):
            # Behind a ' in tables that this pipeline wrote, where a spreadsheet would take a name
            # for a formula.
            texts = dict.fromkeys(
                nfc(str(PurePosixPath(one))) for one in (text, from_cell(text)) if one
            )
            found = found or [path for one in texts for path in self.known.get(one, [])]
        return found

    def problem(self, name: str) -> str:
        """Return what is wrong with a name that does not mean one file, with the likely match of
        one that means none.
        """
        if found := self.find(name):
            more = ", ..." * (len(found) > SHOWN)
            return f"{quoted(name)} fits {len(found)} {self.what}: {', '.join(found[:SHOWN])}{more}"
        if why := [self.unread[path] for path in Names(self.unread, self.where).find(name)]:
            return why[0]
        likely = self.likely(name)
        return f"{quoted(name)} is not in {self.where}" + (
            f"; is {' or '.join(map(quoted, likely))} meant?" if likely else ""
        )

    def likely(self, name: str) -> list[str]:
        """Return the paths whose names differ by folders, case, spaces or the suffix alone."""
        if not self.loose:
            loose = defaultdict(list)
            for path in dict.fromkeys(path for paths in self.known.values() for path in paths):
                loose[_loosely(PurePosixPath(path).name)].append(path)
            self.loose = dict(loose)
        # It takes both kinds of slashes.
        return self.loose.get(_loosely(PureWindowsPath(name).name), [])[:SHOWN]


def _loosely(name: str) -> str:
    text = "".join(nfc(name).split()).casefold()
    stem, dot, suffix = text.rpartition(".")
    return stem if dot + suffix in SUFFIXES else text


def refuse_twins(paths: Iterable[str], where: object) -> None:
    """Raise `UserError` for paths that differ by the form of their accents alone, which no table
    can tell apart.
    """
    spellings = defaultdict(list)
    for path in paths:
        spellings[nfc(path)].append(path)
    refuse(
        [
            f"{where} holds {' and '.join(map(ascii, same))}: one name, its accents written in two ways; rename one"
            for same in spellings.values()
            if len(same) > 1
        ]
    )
