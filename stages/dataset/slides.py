"""The slide and site in a crop's name, and different spellings of what may be one slide."""

import json
import re
import subprocess
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from stages.base.errors import UserError
from stages.base.files import is_number

GROUPS = {"slide", "site"}
# The `group` of a card if each crop is of another patient.
NO_GROUP = "none"
# What the parts of a template match; {site} ends before the first separator. All else is literal.
TEMPLATE = {
    "{slide}": "(?P<slide>[^/]+)",
    "{site}": r"(?P<site>[^/_.\- ]+)",
    "{number}": r"\d+",
    "*": "[^/]*",
}
# The time limit of a pattern on all names. A good pattern takes microseconds per name.
SECONDS, SECONDS_PER_NAME = 10, 0.001
_MATCH_ALL = """
import json, re, sys
pattern, names = json.load(sys.stdin)
found = (re.match(pattern, name) for name in names)
json.dump([one.groupdict() if one else {} for one in found], sys.stdout)
"""
# What tables, databases and people write for an unknown slide.
_NO_NAME = re.compile(
    r"[\W_]*|#(n/a|ref|name|value|num|null|div/0|spill|calc)[!?]?"
    r"|[\W_]*(na(_character)?|n[./][\W_]*[adv]|k[./][\W_]*a|(1\.#q)?nan(\(ind)?|null"
    r"|none([\W_]+given)?|nil|missing"
    r"|(no|unknown|without)[\W_]+(slide|slides|case|patient|name|label|data|info|id)|unknown"
    r"|unbekannt|blank|empty|leer|fehlt|keine|unlabell?ed|unclear|anonym\w*|pending|vide|vuoto"
    r"|vacio|不明|なし|未知|tb[ad]|undefined|unspecified|unassigned"
    r"|not[\W_]*(available|applicable|known|recorded)|keine[\W_]+angabe|inconnu|desconocido"
    r"|sconosciuto|onbekend)[\W_]*"
)


def nfc(name: str) -> str:
    """Return a name in Unicode's composed form (NFC); names on a Mac's disk are decomposed."""
    return unicodedata.normalize("NFC", name)


class SlidePattern(NamedTuple):
    """A regular expression with the groups (?P<slide>...) and perhaps (?P<site>...).

    It matches the beginning of the file's name, or, if it has a / outside of [...], of the path
    below the dataset's folder (`of_path`).
    """

    expression: re.Pattern[str]
    of_path: bool

    def match(self, path: str) -> tuple[str, str]:
        """Return (slide, site) of a crop in NFC; empty if there is no match or no such group.

        Args:
            path: below the dataset's folder, with forward slashes.
        """
        found = self.expression.match(self._name(path))
        return _slide_and_site(found.groupdict() if found else {})

    def match_all(self, paths: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Return `match` of each path, in another process: a bad pattern takes exponential time.

        Raises:
            UserError: it takes longer than the limit.
        """
        limit = SECONDS + SECONDS_PER_NAME * len(paths)
        names = [self._name(path) for path in paths]
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-S", "-c", _MATCH_ALL],
                input=json.dumps([self.expression.pattern, names]).encode(),
                stdout=subprocess.PIPE,
                timeout=limit,
                check=True,
            )
        except subprocess.SubprocessError:
            raise UserError(
                f"it takes more than {limit:.0f} s for {len(names)} names; a repetition within a "
                "repetition, such as (a+)+, tries all ways to divide a name: write a+"
            ) from None
        # One object for all crops of a slide, and no dict per crop: memory for a million crops.
        pairs: dict[tuple[str, str], tuple[str, str]] = {}

        def pair(groups: dict[str, str | None]) -> tuple[str, str]:
            return pairs.setdefault(one := _slide_and_site(groups), one)

        return dict(zip(paths, json.loads(done.stdout, object_hook=pair)))

    def _name(self, path: str) -> str:
        return nfc(path if self.of_path else PurePosixPath(path).name)


def _slide_and_site(groups: dict[str, str | None]) -> tuple[str, str]:
    return groups.get("slide") or "", groups.get("site") or ""


def slide_pattern(text: str) -> SlidePattern:
    """Return a pattern.

    Args:
        text: a regular expression, or a template of whole names, such as `{slide}_{number}`.

    Raises:
        ValueError: `text` is not a regular expression, lacks the group `slide`, or has other named
            groups; or it is a template with other parts than those of `TEMPLATE`.
    """
    text = nfc(text)
    if "{slide}" in text:
        text = _of_template(text)
    try:
        expression = re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"not a regular expression: {error}") from None
    names = set(expression.groupindex)
    if "slide" not in names or not names <= GROUPS:
        raise ValueError(
            "it must have the named group (?P<slide>...), it may have (?P<site>...), and no other"
        )
    # A character class such as [^/] is also common in patterns of file names.
    return SlidePattern(expression, "/" in re.sub(r"\[\^?\]?[^\]]*\]", "", text))


def _of_template(text: str) -> str:
    """Return the regular expression of a template.

    >>> print(_of_template("{slide}_{number}"))
    (?P<slide>[^/]+)_\\d+\\.\\w+$
    """
    parts = re.split(r"(\{[^}]*\}|\*)", text)
    if others := [one for one in parts if re.fullmatch(r"\{.*\}", one) and one not in TEMPLATE]:
        raise ValueError(f"it has {others[0]}; {' and '.join(TEMPLATE)} are the parts of a name")
    if parts.count("{slide}") > 1 or parts.count("{site}") > 1:
        raise ValueError("it has {slide} or {site} twice")
    suffix = "" if re.search(r"\.\w+$", text) else r"\.\w+"
    return "".join(TEMPLATE.get(one, re.escape(one)) for one in parts) + suffix + "$"


def is_no_name(text: str) -> bool:
    """Return whether the name of a slide or site means unknown, such as `NA`, `?` or `#N/A`.

    >>> [is_no_name(text) for text in ("NA", "n.a.", "--", "#N/A", "0", "NA1", "Nan Li")]
    [True, True, True, True, False, False, False]
    """
    plain = unicodedata.normalize("NFKC", text).strip()
    return plain == "NaT" or _NO_NAME.fullmatch(plain.casefold()) is not None


def written_alike(names: Iterable[str]) -> list[str]:
    """Return a line for each set of names that may mean the same slide or site.

    They differ only in case, spaces, invisible characters, the form of a number or the part of one
    specimen, such as 'a' and 'A ', '007' and '7', 'a 1of2' and 'a 2of2'.
    """
    spellings = defaultdict(set)
    for name in names:
        text = unicodedata.normalize("NFKC", name)
        seen = "".join(character for character in text if unicodedata.category(character) != "Cf")
        plain = re.sub(r"\d+(?=[ _-]?of[ _-]?\d)", "", " ".join(seen.split()).casefold())
        # A spreadsheet turns 007 into 7 or 7.0.
        spellings[repr(float(plain)) if is_number(plain) else plain].add(name)
    return sorted(
        " and ".join(map(repr, sorted(same))) for same in spellings.values() if len(same) > 1
    )
