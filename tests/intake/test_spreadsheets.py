"""Which names of slides and sites a spreadsheet has changed, and which are a laboratory's own."""

import pytest

from stages.base.errors import UserError
from stages.intake.spreadsheets import check_names


def check(*names):
    check_names("slide", [(name, f"t.csv, line {line}") for line, name in enumerate(names, 2)])


@pytest.mark.parametrize(
    "names",
    [
        ["S-2006-005094", "18-162", "S-1905-017737"],
        ["1-2", "3-40", "12-13"],
        ["2024-01", "2024-123"],
        ["2023-12-1", "2023-145-1", "2023-12-31"],
        ["2024-01-02", "2024-02-03b"],
        ["10.11.12", "10.40.12"],
        ["1.0", "1.1", "2.0"],
        ["12.1", "12.10", "12.11"],
        ["12.1", "12.2", "13.11"],
        ["MAR-01", "BER-02"],
        ["MAY-1", "JUN-2", "1-2"],
        ["May", "Mar", "Müller"],
        ["1E2", "3E12", "12E3"],
        ["#1", "#2"],
        ["TRUE", "FALSE"],
        ["44563", "44564"],
        ["1234567890123451", "1234567890123460", "1234567890123470"],
        ["12345678901234500"],
        ["", "1-2"],
    ],
    ids=" ".join,
)
def test_accepts_ordinary_names_silently(names, capsys):
    check(*names)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("names", "doubted", "said"),
    [
        (
            ["2024-01-02", "2024-02-03"],
            "2024-01-02",
            "is a date; did a spreadsheet make it from a name such as 1-2? (2 names)",
        ),
        (
            ["02-Jan", "04-Mar"],
            "02-Jan",
            "is a date; did a spreadsheet make it from a name such as 1-2? (2 names)",
        ),
        (
            ["Mar-01", "Lee-02"],
            "Mar-01",
            "is a date; did a spreadsheet make it from a name such as 1-2?",
        ),
        (
            ["45323", "1-2"],
            "45323",
            "is the number of a day in Excel; did Excel make a date from a name such as 1-2?",
        ),
        (
            ["12.1", "12.2", "12.11"],
            "12.1",
            "is a number; did a spreadsheet cut off a final zero, as from 12.10 to 12.1?",
        ),
        (["TRUE", "S1"], "TRUE", "is a truth value; did a spreadsheet make it from a name?"),
        (
            ["M?ller"],
            "M?ller",
            "has a question mark, which programs write for an unknown letter; is it complete?",
        ),
        (
            ["202312000000014000", "202312000000015000"],
            "202312000000014000",
            "ends in zeros after 15 digits, as all long numbers here do; did Excel round it? "
            "(2 names)",
        ),
    ],
)
def test_warns_of_names_that_may_be_changed(names, doubted, said, capsys):
    check(*names)
    assert capsys.readouterr().err == f"warning: t.csv, line 2: slide {doubted!r} {said}\n"


def test_reports_each_name_once_with_its_first_line():
    with pytest.raises(UserError) as error:
        check("1-2", "02-Jan", "1-2", "02-Jan", "04-Mar", "#REF!")
    assert (
        str(error.value) == "t.csv, line 7: slide is '#REF!', a spreadsheet error; write the name"
    )
    with pytest.raises(UserError) as error:
        check("1-2", "02-Jan", "1-2", "02-Jan", "04-Mar")
    assert [line.split(" is ")[0] for line in str(error.value).splitlines()] == [
        "t.csv, line 3: slide",
        "t.csv, line 6: slide",
    ]
