"""Which slide and which site a crop is of, by its name; and slides that may be one, written in two ways."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import NamedTuple

from stages.base.files import is_number

GROUPS = {"slide", "site"}


def composed(name: str) -> str:
    """Return a name in Unicode's composed form (NFC), in which names are compared.

    A Mac's disk holds an accented letter as two characters (NFD), where Windows and most tables hold it as one.
    """
    return unicodedata.normalize("NFC", name)


class SlidePattern(NamedTuple):
    """A regular expression with the groups (?P<slide>...) and perhaps (?P<site>...).

    It is of the file's name, from its beginning; one with a / outside of [...] is of the path below the dataset's folder.
    """

    expression: re.Pattern[str]
    of_path: bool

    def match(self, path: str) -> tuple[str, str]:
        """Return (slide, site) of a crop, composed; empty where the pattern does not match or has no such group.

        Args:
            path: below the dataset's folder, with forward slashes.
        """
        name = composed(path if self.of_path else PurePosixPath(path).name)
        found = self.expression.match(name)
        named = found.groupdict() if found else {}
        return named.get("slide") or "", named.get("site") or ""


def slide_pattern(text: str) -> SlidePattern:
    """Return the pattern that `text` is.

    Raises:
        ValueError: it is not a regular expression, lacks the group `slide`, or has other named groups.
    """
    text = composed(text)
    try:
        expression = re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"not a regular expression: {error}") from None
    names = set(expression.groupindex)
    if "slide" not in names or not names <= GROUPS:
        raise ValueError("it must have the named group (?P<slide>...), it may have (?P<site>...), and no other")
    # A character class such as [^/] stands in many a pattern of a name alone.
    return SlidePattern(expression, "/" in re.sub(r"\[\^?\]?[^\]]*\]", "", text))


def written_alike(names: Iterable[str]) -> list[str]:
    """Return a line for each set of names that differ by case, spaces, invisible characters or as numbers are written alone, such
    as 'a' and 'A ', '007' and '7'.
    """
    spellings = defaultdict(set)
    for name in names:
        text = unicodedata.normalize("NFKC", name)
        seen = "".join(character for character in text if unicodedata.category(character) != "Cf")
        plain = " ".join(seen.split()).casefold()
        # A spreadsheet makes 7 or 7.0 of 007.
        spellings[repr(float(plain)) if is_number(plain) else plain].add(name)
    return sorted(" and ".join(map(repr, sorted(same))) for same in spellings.values() if len(same) > 1)
