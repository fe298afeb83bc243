"""What spreadsheets make of the names of slides and sites: dates, rounded numbers, errors."""

import re
from collections.abc import Iterable

from stages.base.errors import refuse, warn
from stages.base.parameters import quoted
from stages.intake.listing import has_control

# Months as spreadsheets shorten them, in the languages in which Excel is used most.
_MONTHS = (
    "jan feb mar apr may jun jul aug sep sept oct nov dec january february march april june july "
    "august september october november december jän mrz mär mai okt dez janv févr fevr fév "
    "mars avr "
    "juin juil août aout déc ene abr ago dic gen mag giu lug set ott fev out mrt mei maj des sty "
    "lut kwi cze lip sie wrz paź lis gru янв фев мар апр май мая июн июл авг сен сент окт ноя "
    "нояб дек oca şub nis haz tem ağu eyl eki kas ara"
)
_MONTH = "|".join(sorted(_MONTHS.split(), key=len, reverse=True))
_DAY, _NUMBER, _YEAR = "(?:0?[1-9]|[12][0-9]|3[01])", "(?:0?[1-9]|1[0-2])", r"\d\d(?:\d\d)?"
_TIME = r"\d{1,2}:\d\d(?::\d\d(?:[.,]\d+)?)?(?: ?[AP]M)?"
# 02-Jan, 2. Jan, 02-janv., 2-Jan-24; Jan-02; 1月2日; 10:30. Only a spreadsheet writes such names.
SHORTENED = re.compile(
    rf"{_DAY}(?:\. |[-./ ])(?:{_MONTH})\.?(?:[-./ ]{_YEAR})?|(?:{_MONTH})\.?[-./ ]{_YEAR}"
    rf"|(?:\d+年)?\d+月\d+日|{_TIME}",
    re.IGNORECASE,
)
# 2024-01-02, 01.02.2024, 1/2/24, with a time or without.
NUMERIC = re.compile(
    rf"(?:\d{{4}}([-/.]){_NUMBER}\1{_DAY}|{_DAY}([-/.]){_NUMBER}\2{_YEAR}"
    rf"|{_NUMBER}([-/.]){_DAY}\3{_YEAR})(?:[ T]{_TIME})?"
)
# 2.02312E+14 and 2,02312e+14; 3E12 may be a name.
SCIENTIFIC = re.compile(r"[+-]?\d+(?:[.,]\d*)?[eE][+-]\d{2,3}")
# #N/A, #NV and #N/D, #REF!, #¿NOMBRE?; Err:502 of LibreOffice; ##### in a narrow column.
ERROR = re.compile(
    r"#N/?[ADV]|#[¡¿]?[^\W\d_][^\s#]*[!?]|##+|#GETTING_DATA|Err:\d{3}", re.IGNORECASE
)
REWRITE = "write the names again, in a column formatted as text"


class Doubtful(str):
    """The text of a cell that is not what it looks like; `reason` says what the cell is."""

    reason: str

    def __new__(cls, text: str, reason: str) -> "Doubtful":
        cell = super().__new__(cls, text)
        cell.reason = reason
        return cell


def check_names(column: str, cells: Iterable[tuple[str, str]]) -> None:
    """Refuse names of slides or sites that a spreadsheet has changed; warn of suspicious ones.

    Args:
        column: the column of the names.
        cells: each name, and its place, such as `labels.csv, line 2`.

    Raises:
        UserError: a name is an error, a rounded number or lost a letter, or some names are dates
            and others are not.
    """
    names: dict[str, str] = {}
    for name, where in cells:
        if name:
            names.setdefault(name, where)
    damages = ((name, where, _damage(name)) for name, where in names.items())
    refuse(f"{where}: {column} is {quoted(name)}, {why}" for name, where, why in damages if why)
    dates = {name for name in names if _is_shortened(name) or NUMERIC.fullmatch(name)}
    others = [name for name in names if name not in dates]
    shapes = {_shape(name) for name in others}
    refuse(
        f"{where}: {column} is {quoted(name)}, a date, but {quoted(others[0])} is not; "
        f"Excel turns names such as 1-2 into dates: {REWRITE}"
        for name, where in names.items()
        # 2024-11-02 is a laboratory's name next to 2024-145-02; Mar-02 may be one next to
        # Lee-02.
        if name in dates and others and not any(shape.startswith(_shape(name)) for shape in shapes)
    )
    long = [name for name in names if re.fullmatch(r"\d{16,}", name)]
    ends = "".join(name[15:] for name in long)
    rounded = len(ends) > 2 and not ends.strip("0")
    numbers = [name for name in names if re.fullmatch(r"\d+", name)]
    decimals = {name for name in names if re.fullmatch(r"\d+[.,]\d+", name)}
    without_zeros = not any(name.endswith("0") for name in decimals)
    cut = {name[:-1] for name in decimals} & decimals if without_zeros else set()
    truths = {"TRUE", "FALSE"}
    doubts = {
        "is a date; did a spreadsheet make it from a name such as 1-2?": [
            name for name in names if name in dates and (not others or _is_shortened(name))
        ],
        "is the number of a day in Excel; did Excel make a date from a name such as 1-2?": [
            name for name in numbers if len(numbers) < len(names) and re.fullmatch(r"4\d{4}", name)
        ],
        "is a number; did a spreadsheet cut off a final zero, as from 12.10 to 12.1?": [
            name for name in names if name in cut
        ],
        "is a truth value; did a spreadsheet make it from a name?": [
            name for name in names if name in truths and not names.keys() <= truths
        ],
        "has a question mark, which programs write for an unknown letter; is it complete?": [
            name for name in names if "?" in name.strip("?")
        ],
        "ends in zeros after 15 digits, as all long numbers here do; did Excel round it?": (
            long if rounded else []
        ),
    }
    for doubt, doubted in doubts.items():
        if doubted:
            more = f" ({len(doubted)} names)" if len(doubted) > 1 else ""
            warn(f"{names[doubted[0]]}: {column} {quoted(doubted[0])} {doubt}{more}")


def _damage(name: str) -> str | None:
    if isinstance(name, Doubtful):
        return name.reason
    if ERROR.fullmatch(name):
        return "a spreadsheet error; write the name"
    if SCIENTIFIC.fullmatch(name):
        return f"a number without its last digits; {REWRITE}"
    if has_control(name):
        return "which has a control character; is a quotation mark missing?"
    if "\ufffd" in name:
        return "in which a letter was lost; save the table again, as CSV UTF-8"
    return None


def _is_shortened(name: str) -> bool:
    # Spreadsheets do not write months in capitals; a laboratory may name its sites MAR and BER.
    return SHORTENED.fullmatch(name) is not None and not re.sub("[AP]M$", "", name).isupper()


def _shape(name: str) -> str:
    """Return a name with each number as 9 and each letter as a."""
    return re.sub(r"\d+", "9", re.sub(r"[^\W\d_]", "a", name))
