"""Results of another kind of processor, compared by value: what may differ, by how much, and what
may not.
"""

import json

import pytest

from stages.base.arithmetic import description
from stages.experiments.agreement import (
    MEAN_PROBABILITY,
    PROBABILITY,
    compare_contents,
    compare_measures,
    compare_predictions,
)
from stages.experiments.clone import must_be_equal, report_by_value

TABLE = "path,slide,label,probability,predicted\n" + "".join(
    f"{n}.png,s{n % 3},{n % 2},0.5,1\n" for n in range(40)
)
MEASURES = {
    "roc_auc": 0.95,
    "sensitivity": 0.9,
    "threshold": 0.3,
    "confusion": {"true_negative": 70, "false_positive": 2},
    "images": 100,
    "undefined": {"f1": "why"},
}


def changed(table, row, **values):
    lines = table.splitlines()
    header, cells = lines[0].split(","), lines[row + 1].split(",")
    lines[row + 1] = ",".join(values.get(name, cell) for name, cell in zip(header, cells))
    return "\n".join(lines) + "\n"


def test_probabilities_within_the_tolerance_agree():
    found = compare_predictions(TABLE, changed(TABLE, 3, probability="0.25", predicted="0"))
    assert (
        found.agree
        and "differ by 0.25 at most" in found.found
        and "1 of 40 called otherwise" in found.found
    )


@pytest.mark.parametrize(
    "values",
    [{"path": "x.png"}, {"slide": "t"}, {"label": "1"}, {"probability": "1.01"}],
    ids=lambda one: next(iter(one)),
)
def test_what_must_not_differ(values):
    assert not compare_predictions(TABLE, changed(TABLE, 2, **values)).agree


def test_a_small_difference_of_all_is_a_difference():
    other = TABLE.replace(",0.5,", f",{0.5 + 2 * MEAN_PROBABILITY},")
    assert 2 * MEAN_PROBABILITY < PROBABILITY and not compare_predictions(TABLE, other).agree
    assert not compare_predictions(TABLE, TABLE[: TABLE.rindex("39.png")]).agree


def test_measures():
    assert compare_measures(MEASURES, MEASURES) == (True, "all measures are equal")
    near = MEASURES | {
        "roc_auc": 0.96,
        "threshold": 0.9,
        "confusion": {"true_negative": 68, "false_positive": 4},
    }
    found = compare_measures(MEASURES, near)
    assert found.agree and found.found == "roc_auc differs most: 0.01 (allowed 0.02)"
    for other in (
        {"roc_auc": 0.92},
        {"sensitivity": 0.7},
        {"images": 99},
        {"undefined": {"f1": "other"}},
        {"roc_auc": None},
    ):
        assert not compare_measures(MEASURES, MEASURES | other).agree, other
    assert not compare_measures(MEASURES, {"roc_auc": 0.95}).agree


def test_what_is_not_compared():
    assert compare_contents("metrics/plots/attention.png", b"a", b"b") is None
    assert compare_contents("models/model.keras", b"a", b"b") is None
    assert compare_contents(
        "metrics/test.json", json.dumps(MEASURES).encode(), json.dumps(MEASURES).encode()
    ).agree


def test_each_output_has_its_word(tmp_path, capsys):
    (tmp_path / "models").mkdir()
    (tmp_path / "models/validation.csv").write_text(changed(TABLE, 0, probability="0.6"))
    committed = {
        ("pad", "data/padded"): "a",
        ("split", "data/split.csv"): "b",
        ("train", "models/validation.csv"): "c",
        ("train", "models/model.keras"): "d",
        ("evaluate", "metrics/predictions.csv"): "e",
        ("evaluate", "metrics/test.json"): "f",
    }
    found = dict.fromkeys(committed, "other") | {("pad", "data/padded"): "a"}
    del found[("evaluate", "metrics/test.json")]
    assert (
        report_by_value(committed, found, {"models/validation.csv": TABLE.encode()}, tmp_path) == 2
    )
    words = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert words == ["same", "DIFFERENT", "agrees", "follows", "unknown", "DIFFERENT"]


def test_when_bytes_must_be_equal():
    here = description() | {
        "architecture": "x86_64",
        "avx2": True,
        "backend": "tensorflow",
        "device": "CPU",
    }
    here |= {"arithmetic": "portable"}
    assert must_be_equal(here, here) and must_be_equal({}, here)
    for other in ({"architecture": "aarch64"}, {"arithmetic": "native"}, {"threads": 64}):
        assert not must_be_equal(here, here | other)
        assert not must_be_equal(here | other, here)
    native = here | {"arithmetic": "native"}
    assert not must_be_equal(native, native)
