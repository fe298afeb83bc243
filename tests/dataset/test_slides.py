"""A patient is one patient, however the name is written."""

import unicodedata

import pytest

from stages.base.errors import UserError
from stages.dataset import slides
from stages.dataset.slides import is_no_name, slide_pattern, written_alike


def test_names_are_compared_in_one_form_of_unicode():
    pattern = slide_pattern(unicodedata.normalize("NFD", r"(?P<slide>Mü\w+)_\d+"))
    names = [unicodedata.normalize(form, "GS/Müller_1.png") for form in ("NFC", "NFD")]
    assert names[0] != names[1]
    assert [pattern.match(name) for name in names] == [("Müller", "")] * 2


@pytest.mark.parametrize(
    ("text", "path", "slide"),
    [
        (r"(?P<slide>.+)_\d+\.png$", "GS/a_1.png", "a"),
        (r"(?P<slide>[^/]+)_\d+", "GS/a_1.png", "a"),
        (r"[^/]+/(?P<slide>[^/]+)/", "GS/a/001.png", "a"),
        (r"(?P<slide>[^/]+)/", "a/GS/001.png", "a"),
        (r".*/(?P<slide>[^/]+)/[^/]+$", "x/y/a/001.png", "a"),
        (r"(?P<slide>[]/]+)", "GS/]]", "]]"),
        (r"(?P<slide>\d+)", "GS/a.png", ""),
    ],
)
def test_a_slash_says_that_the_pattern_is_of_the_path(text, path, slide):
    assert slide_pattern(text).match(path)[0] == slide


@pytest.mark.parametrize(
    "text",
    ["(", "(.*)", "(?P<site>.)", "(?P<slide>.)(?P<stain>.)", "", "(?P<slide>.)" + 5000 * "("],
)
def test_what_is_no_pattern_of_slides(text):
    with pytest.raises(ValueError, match=r"regular expression|named group"):
        slide_pattern(text)


@pytest.mark.parametrize(
    "other",
    ["müller", " Müller", "Müller ", "Mü\u200bller", "MÜLLER", "M\u00fcller\u00a0", "\uff2düller"],
)
def test_slides_that_may_be_one(other):
    assert written_alike(["Müller", other, "Meier"]) == [
        " and ".join(map(repr, sorted(["Müller", other])))
    ]


def test_numbers_that_are_written_in_two_ways():
    assert written_alike(["7", "007", "8", "7.0"]) == ["'007' and '7' and '7.0'"]
    assert written_alike(["1_2", "12", "7a", "07a"]) == []


def test_slides_that_are_others():
    assert written_alike(["1-12", "11-2", "a_1", "a1", "Muller", "Müller"]) == []


@pytest.mark.parametrize(
    "text",
    [
        r"(?P<slide>(\w+-?)+)_PAX",
        r"(?P<slide>([A-Za-z0-9_-]+)*)!",
        r"(?P<slide>(.*)*)!\.",
        r"(?P<slide>(.*?,?)*)\t",
        r"(?P<slide>(-|\w|\w\d)+)!",
    ],
)
def test_a_pattern_that_tries_all_ways_is_stopped(monkeypatch, text):
    monkeypatch.setattr(slides, "SECONDS", 0.3)
    with pytest.raises(UserError, match=r"for 1 names; a repetition within a repetition"):
        slide_pattern(text).match_all(["S-1905-017737_PAS_2of2_64758281435c92704a43df4f.png"])


def test_all_names_are_matched_as_each():
    pattern = slide_pattern(r"(?i)(?P<slide>mü\w(?:l+er)?|[^_]+)(?:_(?P<site>[A-Z]))?")
    paths = [
        "x/Müller_A",
        unicodedata.normalize("NFD", "Müller"),
        "",
        "_",
        "\U0001f600_b",
        "a\"b'\\",
    ]
    assert pattern.match_all(paths) == {path: pattern.match(path) for path in paths}


def test_parts_of_one_specimen_may_be_one():
    names = ["S-1905_PAS_1of2", "S-1905_PAS_2of2", "S-1905_PAS_1of3", "S-1906_PAS_1of2"]
    assert written_alike(names) == ["'S-1905_PAS_1of2' and 'S-1905_PAS_2of2'"]


@pytest.mark.parametrize(
    "text",
    [
        "#N/A",
        "#REF!",
        "#DIV/0!",
        "#NAME?",
        "",
        " ",
        "\u200b",
        "_",
        "n. a.",
        "Not Known",
        "tbd",
        "k.A.",
        "no slide",
        "(Leer)",
        "-nan(ind)",
    ],
)
def test_what_names_no_slide(text):
    assert is_no_name(text)


@pytest.mark.parametrize("text", ["N A", "K-A", "ND", "KA", "0", "Blank 3", "Nan-1", "nonGS"])
def test_initials_and_numbers_name_a_slide(text):
    assert not is_no_name(text)
