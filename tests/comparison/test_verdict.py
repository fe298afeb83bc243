"""The verdict that heads a report: in what the change is better or worse, on which glomeruli."""

import json

import numpy as np
import pytest

from benchmarks.coverage import World, verdicts
from stages.base.errors import UserError
from stages.comparison.revisions import Outputs, read_test
from stages.comparison.verdict import (
    Group,
    compare_groups,
    on_common_crops,
    refuse_other_crops,
    sentence,
    verdict_on_groups,
)
from stages.dataset.predictions import Predictions
from stages.experiments.sides import State
from stages.measures.pooled import pool

RIGHT, HALF = np.array([0.1, 0.2, 0.8, 0.9] * 24), np.array([0.1, 0.8, 0.2, 0.9] * 24)


def side(y_score, y_true=(0, 0, 1, 1) * 24, slides=None, uncertain=0.0, folds=1):
    """Predictions of slides of four crops; `uncertain` is the share that is not decided."""
    y_score, y_true = np.array(y_score, dtype=np.float64), np.array(y_true)
    rows = np.arange(len(y_score))
    slides = np.array([f"s{row // 4}" for row in rows] if slides is None else list(slides))
    paths = np.array([f"{row:02}.png" for row in rows])
    parts = [
        Predictions(*(column[rows % folds == fold] for column in (paths, slides, y_true, y_score)))
        for fold in range(folds)
    ]
    decided = np.concatenate([rows[rows % folds == fold] for fold in range(folds)])
    decided = decided >= uncertain * len(rows)
    return Outputs(pool(parts, [0.5] * folds), decided).sorted()


def of_test(old, new, **options):
    return [Group("", [old], [new], **options)]


def words(old, new):
    return {change.name: change.word for change in compare_groups(of_test(old, new))}


def test_each_measure_has_its_word():
    found = {one.name: one for one in compare_groups(of_test(side(HALF), side(RIGHT)))}
    # Of the four pairs of a slide, three are in order before and four after.
    assert (found["ROC AUC"].before, found["ROC AUC"].after) == (0.75, 1)
    assert (found["sensitivity"].before, found["sensitivity"].after) == (0.5, 1)
    assert (found["decided and wrong"].before, found["decided and wrong"].after) == (0.5, 0)
    assert found.pop("coverage").word == "not settled"
    assert {one.word for one in found.values()} == {"better"}
    worse = words(side(RIGHT), side(HALF))
    assert {*worse.values()} == {"worse", "not settled"}


def test_calibration_and_coverage_have_a_say():
    """The ranking stays; the Brier score or the share that is decided gets much worse."""
    flat = 0.5 + (RIGHT - 0.5) / 5
    (said, *_) = verdict_on_groups(of_test(side(RIGHT), side(flat)), "main", "change")
    assert (
        said == "**Worse** in Brier score (0.025 to 0.185); no other difference is beyond chance."
    )
    (said, *_) = verdict_on_groups(
        of_test(side(RIGHT), side(RIGHT, uncertain=0.95)), "main", "change"
    )
    assert said.startswith("**Worse** in coverage (1.000 to 0.042); ")
    better = of_test(side(HALF), side(RIGHT, uncertain=0.95))
    (said, *_) = verdict_on_groups(better, "main", "change")
    assert said.startswith("**Better and worse**: better in ROC AUC (0.750 to 1.000), Brier score ")
    assert said.endswith("; worse in coverage (1.000 to 0.042).")


def test_what_is_not_settled_names_what_the_intervals_allow():
    one, other = RIGHT.copy(), RIGHT.copy()
    one[:4], other[4:8] = HALF[:4], HALF[:4]
    lines = verdict_on_groups(
        of_test(side(one), side(other)), "main (abc)", "change (def)", ["Fold 0."]
    )
    assert lines[0].startswith(
        "**Not settled**: no difference is beyond chance. The intervals allow it to be worse by "
    )
    assert " in ROC AUC, " in lines[0] and " in Brier score, " in lines[0]
    assert lines[2] == (
        "`change (def)` against `main (abc)`, on 96 test glomeruli of 24 slides. Fold 0."
    )
    assert "|  | main (abc) | change (def) | difference (99.2 % interval) |  |" in lines
    assert lines[-1].startswith("With 95 %, the intervals of these 6 differences all hold at once.")


def test_folds_are_ranked_within_each():
    """The probabilities of one fold fall by a tenth: the ranking within folds stays the same."""
    shifted = np.where(np.arange(96) % 2, RIGHT, RIGHT / 100)
    found = compare_groups(of_test(side(RIGHT, folds=2), side(shifted, folds=2)))
    assert found[0].name == "ROC AUC within folds"
    assert (found[0].before, found[0].after, found[0].word) == (1, 1, "the same")


def test_other_datasets_share_the_five_percent():
    groups = [
        *of_test(side(RIGHT), side(RIGHT)),
        Group("kpmp", [side(RIGHT), side(RIGHT)], [side(HALF), side(HALF)]),
    ]
    lines = verdict_on_groups(groups, "main", "change")
    assert lines[0].startswith("**Worse** in ROC AUC on kpmp (1.000 to 0.750), ")
    assert "on 96 test glomeruli of 24 slides, 96 of `kpmp`." in lines[2]
    assert "| main | change | difference (99.6 % interval) |" in "\n".join(lines)


def test_hospitals_left_out_have_no_interval_over_slides():
    sites = ["A", "B", "C"] * 32
    pair = (side(RIGHT, slides=sites), side(HALF, slides=sites))
    assert sentence(compare_groups(of_test(*pair, by_site=True))) == (
        "**Not settled**: no difference has an interval (3 sites; 5 are the least)."
    )
    assert "of 3 sites" in "\n".join(verdict_on_groups(of_test(*pair, by_site=True), "a", "b"))


def test_added_slides_are_left_out_of_a_comparison():
    more = np.append(RIGHT, [0.9] * 4), (0, 0, 1, 1) * 25
    old, new = side(HALF), side(*more)
    before, now, notes = on_common_crops(old, new)
    assert notes == ["0 glomeruli were tested before only, 4 now only."]
    assert before.crops.tolist() == now.crops.tolist() == old.crops.tolist()
    assert words(before, now) == words(old, side(RIGHT))
    assert on_common_crops(old, old) == (old, old, [])
    with pytest.raises(UserError, match="no glomerulus in common"):
        on_common_crops(old, new.at(np.arange(96, 100)))


def test_what_cannot_be_compared_is_said():
    now = side([0.1, 0.4, 0.2, 0.9], (0, 1, 0, 1), "aabb")
    fewer = side([0.1, 0.4, 0.2], (0, 1, 0), "aab")
    said = "the test sets differ, 3 glomeruli before and 4 now, 3 of them in both"
    with pytest.raises(UserError, match=f"^{said}$"):
        refuse_other_crops(*of_test(fewer, now))
    relabeled = side([0.1, 0.4, 0.2, 0.9], (1, 0, 1, 0), "aabb")
    with pytest.raises(UserError, match=r"^4 test glomeruli have another label now$"):
        refuse_other_crops(*of_test(relabeled, now))
    moved = side([0.1, 0.4, 0.2, 0.9], (0, 1, 0, 1), "abab")
    with pytest.raises(UserError, match=r"^test glomeruli belong to other slides now$"):
        refuse_other_crops(*of_test(moved, now))
    line = verdict_on_groups(of_test(now, now), "main", "change")[0]
    assert line == (
        "**The same**: each of the 4 test glomeruli of 2 slides has the same probability and "
        "predicted class as before."
    )


HERE = State(None, {"split": {"by": "slide", "fold": 0}}, {})


def write(folder, scores, y_true=(0, 1, 0, 1), slides="aabb", threshold=0.5):
    for name in ("metrics", "models"):
        (folder / name).mkdir(exist_ok=True)
    rows = "".join(
        f"{n}.png,{s},{y},{p},0\n" for n, (s, y, p) in enumerate(zip(slides, y_true, scores))
    )
    (folder / "metrics/predictions.csv").write_text(
        "path,slide,label,probability,predicted\n" + rows
    )
    cut = {"threshold": threshold, "uncertain": {"low": 0.15, "high": 0.35}, "more": 1}
    (folder / "models/calibration.json").write_text(json.dumps(cut))


def test_a_side_decides_by_its_own_threshold_and_uncertain_band(workplace):
    write(workplace, [0.1, 0.4, 0.2, 0.9], threshold=0.3)
    found = read_test([HERE])
    assert found.sample.y_pred.tolist() == [0, 1, 0, 1]
    assert found.decided.tolist() == [True, True, False, True]


@pytest.mark.parametrize("text", ["{", "[]", '{"threshold": ', '{"threshold": 2}'])
def test_damaged_thresholds_are_a_line(workplace, text):
    write(workplace, [0.1, 0.4, 0.2, 0.9])
    (workplace / "models/calibration.json").write_text(text)
    with pytest.raises(
        UserError, match=r"^models/calibration.json of the workspace is not as its stage wrote it"
    ):
        read_test([HERE])


def test_what_is_not_there_is_said(workplace):
    with pytest.raises(
        UserError,
        match="metrics/predictions.csv of the workspace is neither in git nor in DVC's cache",
    ):
        read_test([HERE])
    write(workplace, [])
    with pytest.raises(
        UserError,
        match="metrics/predictions.csv of the workspace: there is no test set; the model is",
    ):
        read_test([HERE])


@pytest.mark.parametrize(("slides", "shift"), [(6, 0.0), (20, 3.0)])
def test_equal_models_are_seldom_told_apart(slides, shift):
    """Also where the models of one setting are calibrated differently from fold to fold."""
    draws = 30
    found = verdicts(World(slides, 0.1, crops=12, shift=shift), draws)
    for name in ("compare, 2 settings", "compare, 5 settings", *["report"] * (not shift)):
        assert found[name] <= 0.06 + 3 * np.sqrt(0.06 * 0.94 / draws), name
