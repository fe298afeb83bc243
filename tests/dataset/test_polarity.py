"""Class names in the wrong order raise a question; the usual names in the right order do not."""

import pytest

from stages.dataset.polarity import names_the_others, order_doubt

# The sclerotic ones, and the others.
PAIRS = [
    *[
        ("GS", other)
        for other in (
            "nonGS",
            "NGS",
            "no_GS",
            "non-GS",
            "NonGS",
            "normal",
            "other",
            "rest",
            "healthy",
            "viable",
            "0",
        )
    ],
    *[
        ("sclerotic", other)
        for other in (
            "healthy",
            "nonsclerotic",
            "non_sclerotic",
            "unsclerotic",
            "normal",
            "functional",
            "open",
        )
    ],
    *[
        ("globally_sclerotic", "non_globally_sclerotic"),
        ("globally_sclerotic_glomeruli", "non_globally_sclerotic_glomeruli"),
    ],
    *[
        ("1", "0"),
        ("01", "00"),
        ("*/1", "*/0"),
        ("class_2", "class_1"),
        ("1_GS", "0_nonGS"),
        ("0_GS", "1_nonGS"),
        ("0-sclerotic", "1-normal"),
        ("GS1", "GS0"),
        ("GS+", "GS-"),
    ],
    *[
        ("positive", "negative"),
        ("pos", "neg"),
        ("yes", "no"),
        ("y", "n"),
        ("true", "false"),
        ("case", "control"),
        ("GS", "glomeruli"),
    ],
    *[
        ("sklerotisch", "nicht_sklerotisch"),
        ("krank", "gesund"),
        ("positiv", "negativ"),
        ("ja", "nein"),
        ("Sklerose", "keine Sklerose"),
    ],
    *[
        ("sclérosé", "sain"),
        ("escleroso", "sano"),
        ("sclerotico", "non_sclerotico"),
        ("malato", "sano"),
        ("硬化", "非硬化"),
    ],
    *[
        ("*/GS", "*/nonGS"),
        ("GS/*", "nonGS/*"),
        ("gs", "gs/non"),
        ("gs", "gs/none"),
        ("gs", "."),
        ("slides/GS", "slides/nonGS"),
    ],
    *[
        ("no_treatment/GS", "no_treatment/nonGS"),
        ("normal_stain_GS", "normal_stain_nonGS"),
        ("nonviable", "viable"),
    ],
    *[
        ("foo", "nonfoo"),
        ("global", "segmental"),
        ("abnormal", "normal"),
        ("GS_present", "GS_absent"),
        ("affected", "unaffected"),
    ],
]


@pytest.mark.parametrize(("positive", "negative"), PAIRS)
def test_the_sclerotic_ones_first_are_doubted(positive, negative):
    assert order_doubt(positive, negative) == positive
    assert order_doubt(negative, positive) is None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a", "b"),
        ("left", "right"),
        ("x", "."),
        (".", "x"),
        ("1", "2"),
        ("nodular", "sclerotic"),
        ("FSGS", "GS"),
        ("other", "else"),
    ],
)
def test_names_that_say_nothing_and_names_in_order(first, second):
    assert order_doubt(first, second) is None


@pytest.mark.parametrize(
    "column",
    [
        "non_sclerotic",
        "not sclerotic",
        "healthy",
        "normal",
        "nonGS",
        "no_GS",
        "GS_negative",
        "gesund",
        "viable glomerulus",
    ],
)
def test_a_column_of_the_others(column):
    assert names_the_others(column)


COLUMNS = [
    "ground truth",
    "label",
    "y",
    "n",
    "GS",
    "is_gs",
    "gs_yes_no",
    "0 = nonGS, 1 = GS",
    "healthy_vs_sclerotic",
    "abnormal",
]


@pytest.mark.parametrize(
    "column",
    [*COLUMNS, "control_reading", "label_no_1", "normalized", "final", "free text", "not viable"],
)
def test_a_column_of_the_sclerotic_ones_or_of_anything(column):
    assert not names_the_others(column)
