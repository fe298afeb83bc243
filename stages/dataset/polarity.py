"""Guess whether a class folder or column names the globally sclerotic glomeruli or the others.

Keras numbers folders alphabetically: GS is 0 and nonGS is 1, the opposite of this project. A guess
never decides a label; it only makes the pipeline ask for `positive:` in the card.
"""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import PurePosixPath

# In English, German, French, Spanish, Italian, Portuguese, Dutch and others, without accents.
NEGATORS = tuple(
    "non nicht not no un n kein keine ohne without sans sin senza sem nao niet geen zonder "
    "не 非 未 无 無".split()
)
_NEGATIVE = re.compile(
    r"0+|neg(ativ\w*)?|norma(l|ls|le|les|len|les|li|lis|ux|al|ais)|healthy|gesund\w*|sain\w*"
    r"|san[oaie]s?|gezond\w*|controls?|ctrls?|kontroll\w*|controle|controllo|temoins?|viable"
    r"|intact\w*|intakt\w*|open|patent|preserved|benign\w*|others?|rest|none|nil|false|falsch|faux"
    r"|fals[oa]|absent|free|functional|unremarkable|background|wildtype|wt|segmental\w*"
)
_SCLEROTIC = r"(glomerulo|nephro|e)?s[ck]lero[st]\w*"
_POSITIVE = re.compile(
    rf"0*1|gs|gsg|ggs|sg|{_SCLEROTIC}|glob|global\w*|obsole\w*|pos(itiv\w*)?|yes|y|p|ja|oui|si|sim"
    r"|true|wahr|vrai\w*|ver[oa]|verdader[oa]|present|cases?|disease[ds]?|abnormal\w*|patholog\w*"
    r"|path|sick|ill|krank\w*|malad\w*|enferm\w*|malat\w*|affected|lesion\w*|scar\w*|fibro(sis|tic)"
    r"|hyalin\w*|target"
)
_KNOWN = re.compile(rf"gs|gsg|global\w*|{_SCLEROTIC}|positiv\w*|affected|viable|functional|normal")
# In a column that names both, 1 is what these affirm, or what the last word denies.
_AFFIRMED = frozenset("1 pos positive yes y true present ja".split())
_DENIED = re.compile(r"neg\w*|no|absent|free|false")
_FILLERS = frozenset("is label class glomerulus glomeruli glom gloms".split())
_SPLIT = re.compile(r"[^\W\d_]+|\d+")


def order_doubt(first: str, second: str) -> str | None:
    """Return `first` if it seems to be the sclerotic class, rather than `second`; otherwise None.

    >>> order_doubt("GS", "nonGS"), order_doubt("nonGS", "GS"), order_doubt("a", "b")
    ('GS', None, None)
    """
    # A folder that both paths have says nothing, such as the `*` of `*/GS` and `*/nonGS`.
    parts = PurePosixPath(first).parts, PurePosixPath(second).parts
    one = _words(" ".join(part for part in parts[0] if part not in parts[1]))
    two = _words(" ".join(part for part in parts[1] if part not in parts[0]))
    if _texts(one) == _texts(two):  # Such as class2 and class1.
        return first if _numbers(one) > _numbers(two) else None
    if any(sign for own in (one, two) for _, sign in _signs(_texts(own))):
        # Words say more than the numbers before them: 0_GS and 1_nonGS.
        one, two = _texts(one), _texts(two)
    signs = _signs(one, two), _signs(two, one)
    shared = signs[0] & signs[1]
    return first if _sign(signs[0] - shared) > _sign(signs[1] - shared) else None


def names_the_others(column: str) -> bool:
    """Return whether 1 in a column of this name seems to mean not sclerotic, such as `healthy`.

    >>> [names_the_others(name) for name in ("non_sclerotic", "ground truth", "0: nonGS, 1: GS")]
    [True, False, False]
    """
    words = _words(column)
    signs = _signs(words)
    affirmed = {sign for _, sign in signs} >= {1, -1} and (
        _AFFIRMED & set(words) or not _DENIED.fullmatch(words[-1])
    )
    unclear = any(sign == 0 and word not in _FILLERS for word, sign in signs)
    return _sign(signs) < 0 and not affirmed and not unclear and len(column.strip()) > 1


def _words(name: str) -> list[str]:
    """Return the words of a name in lower case, without accents: `nonGS-` is `non`, `gs`, `neg`."""
    text = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    text = re.sub(r"(?<=\w)[-\u2212](?=\s|$)", " neg ", text)
    text = unicodedata.normalize("NFKD", re.sub(r"(?<=\w)[+](?=\s|$)", " pos ", text))
    plain = "".join(letter for letter in text if not unicodedata.combining(letter))
    return _SPLIT.findall(plain.casefold())


def _texts(words: list[str]) -> list[str]:
    return [word for word in words if not word.isdecimal()]


def _numbers(words: list[str]) -> list[int]:
    return [int(word) for word in words if word.isdecimal()]


def _signs(words: Sequence[str], others: Sequence[str] = ()) -> set[tuple[str, int]]:
    """Return words, each with 1 if it means sclerotic, -1 if it means the others, and else 0.

    Args:
        others: the words of the other name: `nfoo` negates `foo` if that is one of them.
    """
    found, negated = set(), False
    for word in words:
        if word in NEGATORS:
            negated = True
            continue
        rests = {short: word[len(short) :] for short in NEGATORS if word.startswith(short)}
        known = [short for short, rest in rests.items() if rest in others or _KNOWN.fullmatch(rest)]
        negator = known[0] if known else ""
        rest = word.removeprefix(negator)
        # A number is never negated: label_no_1.
        negated = negated != bool(negator) and not word.isdecimal()
        sign = -1 if _NEGATIVE.fullmatch(rest) else 1 if _POSITIVE.fullmatch(rest) or negated else 0
        found.add((rest, -sign if negated else sign))
        negated = False
    return found | ({("", -1)} if negated else set())


def _sign(words: set[tuple[str, int]]) -> int:
    signs = {sign for _, sign in words}
    return -1 if -1 in signs else int(1 in signs)
