"""Results of another kind of processor, compared by value: what may differ, and by how much."""

import json

import pytest

from stages.base.arithmetic import description
from stages.experiments.agreement import (
    MEAN_PROBABILITY,
    compare_contents,
    compare_measures,
    compare_predictions,
)
from stages.experiments.clone import compare_hashes, compare_values, must_be_equal
from stages.measures.scores import MEASURES

TABLE = "path,slide,label,probability,predicted\n" + "".join(
    f"{n}.png,s{n % 3},{n % 2},0.5,1\n" for n in range(40)
)
RESULTS = {
    "roc_auc": 0.5,
    "average_precision": 0.5,
    "brier": 0.5,
    "calibration_error": 0.5,
    "sensitivity": 0.9,
    "threshold": 0.3,
    "confusion": {"true_negative": 70, "false_positive": 2},
    "images": 100,
    "undefined": {"roc_auc": "why"},
}


def changed(table, row, **values):
    lines = table.splitlines()
    header, cells = lines[0].split(","), lines[row + 1].split(",")
    lines[row + 1] = ",".join(values.get(name, cell) for name, cell in zip(header, cells))
    return "\n".join(lines) + "\n"


def test_probabilities_may_differ_a_little_on_average():
    found = compare_predictions(TABLE, changed(TABLE, 3, probability="0.25", predicted="0"))
    assert found.agree
    assert "differ by 0.0063 on average (allowed 0.03), by 0.25 at most" in found.found
    assert "1 of 40 predicted classes differ" in found.found
    other = TABLE.replace(",0.5,", f",{0.5 + 1.1 * MEAN_PROBABILITY},")
    assert not compare_predictions(TABLE, other).agree


@pytest.mark.parametrize(
    "values",
    [{"path": "x.png"}, {"slide": "t"}, {"label": "1"}],
    ids=lambda one: next(iter(one)),
)
def test_images_slides_and_labels_are_equal(values):
    assert not compare_predictions(TABLE, changed(TABLE, 2, **values)).agree
    assert not compare_predictions(TABLE, TABLE[: TABLE.rindex("39.png")]).agree


@pytest.mark.parametrize("name", [name for name, one in MEASURES.items() if one.tolerance])
def test_a_measure_agrees_within_its_tolerance(name):
    tolerance = MEASURES[name].tolerance
    for file in (RESULTS, {"out_of_fold": RESULTS}):
        near, far = (
            json.loads(json.dumps(file).replace(f'"{name}": 0.5', f'"{name}": {0.5 + gap}'))
            for gap in (0.9 * tolerance, 1.1 * tolerance)
        )
        assert compare_measures(file, near).agree
        found = compare_measures(file, far)
        assert not found.agree and f"{name} differs most: " in found.found


def test_decisions_may_tip_over_and_counts_may_not():
    assert compare_measures(RESULTS, RESULTS) == (True, "all are equal")
    assert compare_measures(
        RESULTS, RESULTS | {"sensitivity": 0.7, "threshold": 0.9, "confusion": {"true_negative": 3}}
    ).agree
    agree, one = {"crops": 9, "pairs": [{"low": 0.1}]}, {"reader": "r", "sensitivity": 0.9}
    readers = {"of_all": agree, "of_tested": agree, "model": [one]}
    file = RESULTS | {"readers": readers}
    tipped = readers | {"model": [one | {"sensitivity": 0.7}]}
    rounded = readers | {"of_all": agree | {"pairs": [{"low": 0.1 + 1e-15}]}}
    for other in (tipped, rounded):
        assert readers != other and compare_measures(file, RESULTS | {"readers": other}).agree
    more = readers | {"of_all": agree | {"crops": 10}}
    assert not compare_measures(file, RESULTS | {"readers": more}).agree
    for other in ({"images": 99}, {"undefined": {"roc_auc": "other"}}, {"roc_auc": None}):
        assert not compare_measures(RESULTS, RESULTS | other).agree, other
    assert not compare_measures(RESULTS, {"roc_auc": 0.5}).agree


def test_another_seed_of_the_demo_is_another_result():
    """The demo with train.seed 0 and 1, as measured for docs/reproducibility.md."""
    zero = {"roc_auc": 0.98478, "average_precision": 0.92432, "brier": 0.03834}
    one = {"roc_auc": 0.97989, "average_precision": 0.89622, "brier": 0.04770}
    found = compare_measures(zero, one)
    assert not found.agree and "brier differs most: 0.0094" in found.found


def test_what_is_not_compared():
    assert compare_contents("metrics/plots/attention.png", b"a", b"b") is None
    assert compare_contents("models/model.keras", b"a", b"b") is None
    content = json.dumps(RESULTS).encode()
    assert compare_contents("metrics/test.json", content, content).agree


def test_each_output_has_its_word(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models/validation.csv").write_text(changed(TABLE, 0, probability="0.6"))
    words = {
        ("pad", "data/padded"): "same",
        ("split", "data/split.csv"): "DIFFERENT",
        ("train", "models/crops.csv"): "DIFFERENT",
        ("train", "models/validation.csv"): "agrees",
        ("train", "models/model.keras"): "follows",
        ("evaluate", "metrics/predictions.csv"): "unknown",
        ("evaluate", "metrics/test.json"): "DIFFERENT",
    }
    committed = dict.fromkeys(words, "committed")
    found = dict.fromkeys(words, "other") | {("pad", "data/padded"): "committed"}
    del found[("evaluate", "metrics/test.json")]
    contents = {"models/validation.csv": TABLE.encode()}
    lines = compare_values(committed, found, contents, tmp_path)
    assert [word for word, _ in lines] == list(words.values())
    assert [word for word, _ in compare_hashes(committed, committed)] == ["same"] * len(words)


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
