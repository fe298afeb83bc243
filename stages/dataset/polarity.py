"""Whether a name is of the globally sclerotic glomeruli or of the others: a class folder's or a
column's.

Keras numbers folders by the alphabet, so that GS is 0 and nonGS is 1: the opposite of what a card
says. The words here only ask a question, which the card answers with `positive:`; they never decide
a label.
"""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import PurePosixPath

# English, and what German, French, Spanish, Italian, Portuguese, Dutch and others have for it,
# without accents.
NEGATORS = tuple(
    "non nicht not no un n kein keine ohne without sans sin senza sem nao niet geen zonder не 非 未 无 無".split()
)
_NEGATIVE = re.compile(
    r"0+|neg(ativ\w*)?|norma(l|ls|le|les|len|les|li|lis|ux|al|ais)|healthy|gesund\w*|sain\w*|san[oaie]s?|gezond\w*|controls?|ctrls?"
    r"|kontroll\w*|controle|controllo|temoins?|viable|intact\w*|intakt\w*|open|patent|preserved|benign\w*|others?|rest|none|nil"
    r"|false|falsch|faux|fals[oa]|absent|free|functional|unremarkable|background|wildtype|wt|segmental\w*"
)
_SCLEROTIC = r"(glomerulo|nephro|e)?s[ck]lero[st]\w*"
_POSITIVE = re.compile(
    rf"0*1|gs|gsg|ggs|sg|{_SCLEROTIC}|glob|global\w*|obsole\w*|pos(itiv\w*)?|yes|y|p|ja|oui|si|sim|true|wahr|vrai\w*|ver[oa]"
    r"|verdader[oa]|present|cases?|disease[ds]?|abnormal\w*|patholog\w*|path|sick|ill|krank\w*|malad\w*|enferm\w*|malat\w*"
    r"|affected|lesion\w*|scar\w*|fibro(sis|tic)|hyalin\w*|target"
)
# Of a column that names both: 1 is for what is affirmed, or for what the last word denies.
_AFFIRMED, _DENIED = (
    frozenset("1 pos positive yes y true present ja".split()),
    r"neg\w*|no|absent|free|false",
)
_FILLERS = frozenset("is label class glomerulus glomeruli glom gloms".split())
_SPLIT = re.compile(r"[^\W\d_]+|\d+")


def order_doubt(first: str, second: str) -> str | None:
    """Return the name that says that two class folders are in the wrong order, of label 0 and of
    label 1; None if none does.

    >>> order_doubt("GS", "nonGS"), order_doubt("nonGS", "GS"), order_doubt("a", "b"),
    order_doubt("sclerotic", "other") ('GS', None, None, 'sclerotic')
    """
    one, two = _own_parts(first, second)
    words = _words(one), _words(two)
    if sorted(words[0], key=str.isdecimal) != sorted(words[1], key=str.isdecimal) and _texts(
        words[0]
    ) == _texts(words[1]):
        # They differ by numbers only, such as class2 and class1.
        return first if _numbers(words[0]) > _numbers(words[1]) else None
    if any(sign for own in words for _, sign in _signs(_texts(own))):
        # Words say more than the numbers before them: 0_GS and 1_nonGS.
        words = _texts(words[0]), _texts(words[1])
    signs = _signs(words[0], words[1]), _signs(words[1], words[0])
    shared = signs[0] & signs[1]
    return first if _sign(signs[0] - shared) > _sign(signs[1] - shared) else None


def names_the_others(column: str) -> bool:
    """Return whether a column's name says that its 1 is for glomeruli that are not sclerotic, such
    as `healthy`.

    >>> names_the_others("non_sclerotic"), names_the_others("ground truth"), names_the_others("0:
    nonGS, 1: GS") (True, False, False)
    """
    words = _words(column)
    signs = _signs(words)
    affirmed = {sign for _, sign in signs} >= {1, -1} and (
        _AFFIRMED & set(words) or not re.fullmatch(_DENIED, words[-1])
    )
    unclear = (
        any(sign == 0 and word not in _FILLERS for word, sign in signs) or len(column.strip()) == 1
    )
    return _sign(signs) < 0 and not affirmed and not unclear


def _own_parts(first: str, second: str) -> tuple[str, str]:
    """Return two paths without the folders that both have, such as the `*` of `*/GS` and `*/nonGS`."""
    parts = [PurePosixPath(name).parts for name in (first, second)]
    one, two = (
        " ".join(part for part in own if part not in other) for own, other in (parts, parts[::-1])
    )
    return one, two


def _words(name: str) -> list[str]:
    """Return the words of a name in lower case, without accents: `GS-` and `GS+` have `neg` and
    `pos`, nonGS is two words.
    """
    text = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    text = re.sub(
        r"(?<=\w)[+](?=\s|$)", " pos ", re.sub(r"(?<=\w)[-\u2212](?=\s|$)", " neg ", text)
    )
    plain = "".join(
        letter
        for letter in unicodedata.normalize("NFKD", text)
        if not unicodedata.combining(letter)
    )
    return _SPLIT.findall(plain.casefold())


def _texts(words: list[str]) -> list[str]:
    return [word for word in words if not word.isdecimal()]


def _numbers(words: list[str]) -> list[int]:
    return [int(word) for word in words if word.isdecimal()]


def _signs(words: Sequence[str], others: Sequence[str] = ()) -> set[tuple[str, int]]:
    """Return words, each with 1 where it is of the sclerotic ones, -1 where it is of the others,
    else 0.

    Args:
        others: the words of the other name: `nfoo` negates `foo` if that is one of them.
    """
    found, negated = set(), False
    for word in words:
        negator = next(
            (
                short
                for short in NEGATORS
                if word.startswith(short) and _known(word[len(short) :], others)
            ),
            "",
        )
        rest = word.removeprefix(negator)
        if word in NEGATORS:
            negated = True
            continue
        # A number is never negated: label_no_1.
        negated = negated != bool(negator) and not word.isdecimal()
        sign = -1 if _NEGATIVE.fullmatch(rest) else 1 if _POSITIVE.fullmatch(rest) or negated else 0
        found.add((rest, -sign if negated else sign))
        negated = False
    return found | ({("", -1)} if negated else set())


def _known(word: str, others: Sequence[str]) -> bool:
    return (
        word in others
        or re.fullmatch(
            rf"gs|gsg|global\w*|{_SCLEROTIC}|positiv\w*|affected|viable|functional|normal", word
        )
        is not None
    )


def _sign(words: set[tuple[str, int]]) -> int:
    signs = {sign for _, sign in words}
    return -1 if -1 in signs else int(1 in signs)
