"""A patient is one patient, however the name is written."""

import unicodedata

import pytest

from stages.dataset.slides import slide_pattern, written_alike


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


@pytest.mark.parametrize("text", ["(", "(.*)", "(?P<site>.)", "(?P<slide>.)(?P<stain>.)", "", "(?P<slide>.)" + 5000 * "("])
def test_what_is_no_pattern_of_slides(text):
    with pytest.raises(ValueError, match=r"regular expression|named group"):
        slide_pattern(text)


@pytest.mark.parametrize("other", ["müller", " Müller", "Müller ", "Mü\u200bller", "MÜLLER", "M\u00fcller\u00a0", "\uff2düller"])
def test_slides_that_may_be_one(other):
    assert written_alike(["Müller", other, "Meier"]) == [" and ".join(map(repr, sorted(["Müller", other])))]


def test_numbers_that_are_written_in_two_ways():
    assert written_alike(["7", "007", "8", "7.0"]) == ["'007' and '7' and '7.0'"]
    assert written_alike(["1_2", "12", "7a", "07a"]) == []


def test_slides_that_are_others():
    assert written_alike(["1-12", "11-2", "a_1", "a1", "Muller", "Müller"]) == []
