"""The verdict that heads a report: of which glomeruli, better or worse, and by how much, with
numbers worked by hand.
"""

import json

import numpy as np
import pytest

from stages.base.errors import UserError
from stages.comparison.verdict import (
    change_table,
    compare_sides,
    read_side,
    sentence,
    verdict_on_sides,
)
from stages.dataset.predictions import Predictions
from stages.measures.pooled import Pooled
from stages.measures.resampling import too_small


def side(y_score, y_true=(0, 0, 1, 1) * 12, slides=None, threshold=0.5):
    y_score = np.array(y_score, dtype=np.float64)
    slides = np.array(
        list(slides) if slides is not None else [f"s{row // 4}" for row in range(len(y_score))]
    )
    paths = np.array([f"{row:02}.png" for row in range(len(y_score))])
    return Pooled(Predictions(paths, slides, np.array(y_true), y_score), y_score >= threshold)


def test_better_worse_and_not_distinguishable():
    right, half = [0.1, 0.2, 0.8, 0.9] * 12, [0.1, 0.8, 0.2, 0.9] * 12
    better = {change.measure: change for change in compare_sides(side(half), side(right), 200)}
    # Of the four pairs of a slide, three are in order before and four after; the slides are all
    # alike.
    assert (
        better["roc_auc"][1:] == pytest.approx((0.75, 1.0, 0.25, 0.25))
        and better["roc_auc"].word == "better"
    )
    assert better["sensitivity"][1:] == pytest.approx((0.5, 1.0, 0.5, 0.5))
    worse = compare_sides(side(right), side(half), 200)
    assert {change.word for change in worse} == {"worse"}
    said = sentence(worse, "48 test glomeruli of 12 slides")
    assert said.startswith(
        "**Worse**: ROC AUC 0.750 after 1.000, difference -0.250 "
        "(95 % interval -0.250 to -0.250, by slide)"
    )
    assert "| ROC AUC | 1.000 | 0.750 | -0.250 (-0.250 to -0.250) | ▼ worse |" in change_table(
        worse, "a", "b"
    )
    # Another slide errs instead of the first: the same overall.
    one, other = right.copy(), right.copy()
    one[:4], other[4:8] = half[:4], half[:4]
    alike = compare_sides(side(one), side(other), 200)
    assert {change.word for change in alike} == {"not distinguishable"} and alike[
        0
    ].low < 0 < alike[0].high


def write(folder, scores, y_true=(0, 1, 0, 1), slides="aabb", threshold=0.5):
    (folder / "metrics").mkdir(exist_ok=True)
    rows = "".join(
        f"{n}.png,{s},{y},{p},0\n" for n, (s, y, p) in enumerate(zip(slides, y_true, scores))
    )
    (folder / "metrics/predictions.csv").write_text(
        "path,slide,label,probability,predicted\n" + rows
    )
    (folder / "metrics/measures.json").write_text(json.dumps({"threshold": threshold}))


def test_a_side_is_called_by_its_own_threshold(workplace):
    write(workplace, [0.1, 0.4, 0.2, 0.9], threshold=0.3)
    assert read_side(None).y_pred.tolist() == [False, True, False, True]


@pytest.mark.parametrize("text", ["{", "[]", '{"threshold": '])
def test_damaged_measures_are_a_line(workplace, text):
    write(workplace, [0.1, 0.4, 0.2, 0.9])
    (workplace / "metrics/measures.json").write_text(text)
    with pytest.raises(
        UserError, match=r"^metrics/measures.json of the workspace is not as its stage wrote it"
    ):
        read_side(None)


def test_what_cannot_be_compared_is_said(workplace):
    now = side([0.1, 0.4, 0.2, 0.9], (0, 1, 0, 1), "aabb")
    fewer = side([0.1, 0.4, 0.2], (0, 1, 0), "aab")
    (line,) = verdict_on_sides(fewer, now, "main", "change")
    assert line == (
        "**Not comparable**: the test sets differ, 3 glomeruli before and 4 now, 3 of them in both."
    )
    for change, said in {
        "y_true": "4 test glomeruli have another label now",
        "slides": "belong to other slides now",
    }.items():
        other = {"y_true": np.array([1, 0, 1, 0]), "slides": np.array(list("abab"))}[change]
        (line,) = verdict_on_sides(
            now._replace(predictions=now.predictions._replace(**{change: other})),
            now,
            "main",
            "change",
        )
        assert line.startswith("**Not comparable**: ") and said in line
    (line,) = verdict_on_sides(now, now, "main", "change")
    assert line == (
        "**The same**: each of the 4 test glomeruli of 2 slides has the same probability and "
        "predicted class as before."
    )


def test_what_is_not_there_is_said(workplace):
    with pytest.raises(
        UserError,
        match="metrics/predictions.csv of the workspace is neither in git nor in DVC's cache",
    ):
        read_side(None)
    write(workplace, [])
    with pytest.raises(
        UserError, match="the workspace has no test set: it is trained on all slides"
    ):
        read_side(None)


def test_small_test_sets():
    assert too_small(31, {"roc_auc": 0.05, "f1": 0.1}) == ""
    few = too_small(2, {"roc_auc": 0.05, "f1": 0.1})
    assert few == "This is too small to tell much: 2 slides, and the interval of F1 is 0.10 wide."
    assert too_small(31, {"sensitivity": 0.3}) == (
        "This is too small to tell much: 31 slides, and the interval of sensitivity is 0.30 wide."
    )
    assert too_small(1, {}) == "This is too small to tell much: 1 slide."
