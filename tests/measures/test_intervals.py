"""Intervals over slides: against tables worked by hand, scikit-learn, SciPy and simulations."""

import numpy as np
import pytest
import scipy
import sklearn.metrics

from benchmarks.coverage import VERDICT, World, coverage, false_alarms
from stages.measures.influence import Sample, influence
from stages.measures.intervals import (
    difference,
    estimate,
    over_sites,
    proportion,
)
from stages.measures.scores import WITHIN_FOLDS, score
from stages.measures.sizes import too_small

WORLD = World(slides=12, icc=0.1)
OF_WEIGHTS = {
    "roc_auc": sklearn.metrics.roc_auc_score,
    "average_precision": sklearn.metrics.average_precision_score,
    "brier": sklearn.metrics.brier_score_loss,
}
OF_DECISIONS = ("accuracy", "balanced_accuracy", "precision", "sensitivity", "specificity", "f1")


def drawn(seed: int = 0, models: int = 1, world: World = WORLD) -> list[Sample]:
    """Predictions of some slides, in part tied."""
    samples = world.draw(np.random.default_rng(seed), models)
    return [one._replace(y_score=np.round(one.y_score, 2)) for one in samples]


def perfect(slides: np.ndarray) -> Sample:
    y_true = np.arange(len(slides)) % 2
    return Sample(y_true, y_true * 0.8 + 0.1, y_true, slides)


def test_a_full_count_of_independent_crops_is_like_clopper_and_pearson():
    found = proportion(np.ones(12, dtype=bool), np.arange(12))
    exact = scipy.stats.binomtest(12, 12).proportion_ci(method="exact")
    assert (found.value, found.slides) == (1, 12)
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high))
    none = proportion(np.zeros(12, dtype=bool), np.arange(12))
    assert none[1:4] == pytest.approx((0, 1 - exact.high, 1 - exact.low))


def test_crops_of_few_slides_tell_less():
    right = np.ones(12, dtype=bool)
    lows = [proportion(right, np.arange(12) % slides).low for slides in (12, 6, 4, 2)]
    assert lows == sorted(lows, reverse=True)
    assert len(set(lows)) == 4


@pytest.mark.parametrize("name", OF_WEIGHTS)
def test_the_influence_of_a_crop_is_the_derivative_by_its_weight(name):
    (sample,) = drawn()
    found = influence(name, sample)
    assert found.value == pytest.approx(OF_WEIGHTS[name](sample.y_true, sample.y_score))
    assert found.of_crops.sum() == pytest.approx(0, abs=1e-12)
    for crop in range(0, len(sample.y_true), 9):
        step = 1e-5 * (np.arange(len(sample.y_true)) == crop)
        up, down = (
            OF_WEIGHTS[name](sample.y_true, sample.y_score, sample_weight=1 + sign * step)
            for sign in (1, -1)
        )
        assert found.of_crops[crop] == pytest.approx((up - down) / 2e-5, abs=1e-8)


@pytest.mark.parametrize("name", (*OF_DECISIONS, "matthews"))
def test_the_influence_on_a_measure_of_decisions_is_nearly_what_leaving_out_the_crop_changes(name):
    (sample,) = drawn(world=World(slides=60, icc=0.1))
    found = influence(name, sample)
    assert found.value == pytest.approx(score(sample.y_true, sample.y_score, sample.y_pred)[name])
    assert found.of_crops.sum() == pytest.approx(0, abs=1e-6)
    for crop in range(0, len(sample.y_true), 97):
        rest = np.arange(len(sample.y_true)) != crop
        without = score(*(column[rest] for column in sample[:3]))[name]
        assert found.of_crops[crop] == pytest.approx(found.value - without, rel=0.02, abs=1e-6)


def test_roc_auc_has_the_variance_of_delong():
    """By DeLong's formula, for crops that are each of another slide."""
    sample = drawn()[0]
    positive, negative = (sample.y_score[sample.y_true == label] for label in (1, 0))
    right = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    variance = right.mean(axis=1).var() / len(positive) + right.mean(axis=0).var() / len(negative)
    assert np.sum(influence("roc_auc", sample).of_crops ** 2) == pytest.approx(variance)


def test_roc_auc_within_folds_ignores_how_each_fold_is_calibrated():
    """Fold 1 ranks 3 of 4 pairs right, fold 2 ranks 2 of 2."""
    y_true = np.array([1, 1, 0, 0, 1, 0, 0])
    y_score = np.array([0.9, 0.3, 0.5, 0.1, 0.6, 0.2, 0.1])
    folds = np.array([1, 1, 1, 1, 2, 2, 2])
    sample = Sample(y_true, y_score, y_true, np.arange(7), folds)
    assert influence(WITHIN_FOLDS, sample).value == pytest.approx(5 / 6)
    assert influence("roc_auc", sample).value != pytest.approx(5 / 6)
    shifted = sample._replace(y_score=np.where(folds == 2, y_score / 100, y_score))
    assert influence(WITHIN_FOLDS, shifted).value == pytest.approx(5 / 6)
    assert influence("roc_auc", shifted).value < influence("roc_auc", sample).value
    with pytest.raises(ValueError, match="fold"):
        influence(WITHIN_FOLDS, sample._replace(folds=None))


def test_equal_folds_of_one_model_have_one_roc_auc():
    sample = drawn()[0]
    whole = sample._replace(folds=np.zeros(len(sample.y_true)))
    assert estimate(WITHIN_FOLDS, [whole]) == estimate("roc_auc", [sample])


@pytest.mark.parametrize("name", ("roc_auc", "average_precision", "brier", *OF_DECISIONS))
def test_perfect_predictions_have_no_interval_of_zero_width(name):
    found = estimate(name, [perfect(np.arange(24) // 4)])
    assert found.high - found.low > 0.1
    assert found.low <= found.value <= found.high


def test_a_class_without_an_error_may_yet_have_one():
    """All of 7 positives are found, and 30 of 700 negatives are not."""
    y_true = np.repeat([1, 0], [7, 700])
    y_pred = np.where(np.arange(707) % 24 == 8, 1, y_true)
    slides = np.arange(707) % 20
    found = estimate("balanced_accuracy", [Sample(y_true, y_pred * 1.0, y_pred, slides)])
    assert found.low < 0.9


def test_where_there_is_no_interval_the_reason_is_said():
    sample = perfect(np.zeros(8, dtype=int))
    one = estimate("sensitivity", [sample])
    assert (one.value, one.low, one.slides) == (1, None, 1)
    assert one.reason == "1 slide with positives; 2 are the least"
    negatives = sample._replace(y_true=np.zeros(8, dtype=int))
    assert estimate("roc_auc", [negatives]).value is None
    assert "undefined" in estimate("roc_auc", [negatives]).reason
    assert "undefined" in difference("roc_auc", [negatives], [sample]).reason
    assert difference("roc_auc", [sample], [sample]).reason == (
        "1 slide with positives or with negatives; 2 are the least"
    )


def test_the_order_of_crops_and_the_names_of_slides_do_not_matter():
    sample = drawn()[0]
    order = np.random.default_rng(1).permutation(len(sample.y_true))
    names = np.array([f"slide {5 * number % 12}" for number in range(12)])
    other = Sample(*(column[order] for column in sample[:3]), names[sample.slides][order])
    for name in ("roc_auc", "average_precision", "f1", "brier"):
        assert estimate(name, [other])[:4] == pytest.approx(estimate(name, [sample])[:4])


def test_a_difference_is_paired_and_has_two_sides():
    ours, theirs = drawn(models=2)
    one, other = difference("brier", [ours], [theirs]), difference("brier", [theirs], [ours])
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))
    assert one.p == pytest.approx(other.p)
    assert one.higher == pytest.approx(1 - other.higher)
    width = sum(span.high - span.low for span in (estimate("brier", [s]) for s in (ours, theirs)))
    assert one.high - one.low < width / 2
    strict = difference("brier", [ours], [theirs], level=1 - 0.05 / 4)
    assert strict.low < one.low < one.high < strict.high


def test_the_p_value_and_the_interval_say_the_same():
    ours, theirs = drawn(models=2)
    p = difference("brier", [ours], [theirs]).p
    assert difference("brier", [ours], [theirs], level=1 - p).low * (
        difference("brier", [ours], [theirs], level=1 - p).high
    ) == pytest.approx(0, abs=1e-12)


def test_a_model_does_not_differ_from_itself():
    (sample,) = drawn()
    found = difference("sensitivity", [sample], [sample])
    assert (found.value, found.p, found.higher) == (0, 1, 0.5)
    # A crop not seen may yet be predicted differently.
    assert found.low < 0 < found.high
    assert difference("roc_auc", [sample], [sample])[1:4] == (0, 0, 0)


def test_a_difference_stays_in_its_range():
    """Of four slides with one positive crop each, which one of the models finds."""
    y_true = np.tile([1, 0, 0, 0, 0], 4)
    found, missed = y_true.copy(), y_true.copy()
    missed[np.flatnonzero(y_true)] = [0, 0, 0, 1]
    slides = np.arange(20) // 5
    ours, theirs = (Sample(y_true, one * 1.0, one, slides) for one in (found, missed))
    gain = difference("sensitivity", [ours], [theirs], level=0.999)
    assert (gain.value, gain.high) == (0.75, 1) and -1 <= gain.low < 0


def test_a_rare_class_widens_the_interval_of_the_brier_score():
    """Without a slide with positives, the largest errors are not seen."""
    y_true = np.zeros(80, dtype=int)
    slides = np.arange(80) // 10
    none = estimate("brier", [Sample(y_true, y_true + 0.02, y_true, slides)])
    assert (none.value, none.low) == (pytest.approx(0.0004), None)
    rate = coverage(World(20, 0.1, prevalence=0.02), ("brier",), 100)["brier"]
    assert rate.share > 0.9 and rate.none > 0.1


def test_only_models_on_the_same_crops_are_compared():
    (ours,), (theirs,) = drawn(0), drawn(1)
    with pytest.raises(ValueError, match="same crops"):
        difference("brier", [ours], [theirs])
    names = np.arange(len(ours.y_true))
    with pytest.raises(ValueError, match="same crops"):
        difference("brier", [ours._replace(crops=names)], [ours._replace(crops=names + 1)])


def test_crops_of_repetitions_are_matched_by_their_names():
    ours, theirs = drawn(models=2)
    crops = np.array([f"crop {number}" for number in range(len(ours.y_true))])
    order = np.random.default_rng(2).permutation(len(crops))
    ours, theirs = (one._replace(crops=crops) for one in (ours, theirs))
    moved = Sample(*(None if column is None else column[order] for column in theirs))
    for name in ("brier", WITHIN_FOLDS):
        expected, found = (estimate(name, [ours, other]) for other in (theirs, moved))
        assert found[:4] == pytest.approx(expected[:4])
        expected, found = (difference(name, [ours], [other]) for other in (theirs, moved))
        assert found[:6] == pytest.approx(expected[:6])


def test_trainings_that_differ_widen_the_interval():
    (sample,) = drawn()
    unsure = sample._replace(y_score=(sample.y_score + 4.5) / 10)
    same, apart = (estimate("brier", [sample, other]) for other in (sample, unsure))
    assert same[:4] == pytest.approx(estimate("brier", [sample])[:4])
    assert apart.high - apart.low > 2 * (same.high - same.low)


def test_an_interval_over_sites_where_there_are_enough():
    (sample,) = drawn(world=World(slides=40, icc=0.1))
    three = over_sites("roc_auc", sample, np.array(["A", "B", "C"])[sample.slides % 3])
    of_slides = estimate("roc_auc", [sample])
    assert (three.slides, three.value, three.low) == (3, of_slides.value, None)
    assert three.reason == "3 sites; 5 are the least"
    eight = over_sites("roc_auc", sample, sample.slides % 8)
    assert eight.slides == 8 and eight.low < of_slides.value < eight.high
    assert over_sites("roc_auc", sample, np.zeros(len(sample.y_true))).reason == (
        "1 site with positives or with negatives; 2 are the least"
    )


def test_a_small_test_set_is_called_small():
    assert too_small(31, 25, {"roc_auc": 0.02, "f1": 0.1}) == ""
    assert "4 slides, 2 with positives" in too_small(4, 2, {"roc_auc": 0.02})
    assert "no interval of ROC AUC" in too_small(31, 25, {"roc_auc": None})
    assert "no interval of ROC AUC" in too_small(31, 25, {"roc_auc": 0.0})
    assert "F1 is 0.30 wide" in too_small(31, 25, {"roc_auc": 0.02, "f1": 0.3})


DRAWS = 100


@pytest.mark.parametrize(("slides", "icc"), [(4, 0.1), (6, 0.25), (20, 0.1)])
def test_intervals_hold(slides, icc):
    tolerance = 3 * np.sqrt(0.95 * 0.05 / DRAWS)
    names = ("roc_auc", "brier", "balanced_accuracy", "sensitivity")
    for name, rate in coverage(World(slides, icc), names, DRAWS).items():
        assert rate.share > 0.94 - tolerance, name
        assert rate.width > 0


@pytest.mark.parametrize(("slides", "icc"), [(4, 0.1), (6, 0.25), (20, 0.1)])
def test_equal_models_are_seldom_told_apart(slides, icc):
    tolerance = 3 * np.sqrt(0.06 * 0.94 / DRAWS)
    for name, rate in false_alarms(World(slides, icc), VERDICT, DRAWS).items():
        assert rate.share < 0.06 + tolerance, name


def test_a_worse_model_is_found():
    """With 31 slides, a ROC AUC of 0.96 from one of 0.90."""
    world, found = World(31, 0.1), 0
    for seed in range(20):
        (ours,) = world.draw(np.random.default_rng(seed))
        noise = np.random.default_rng([seed, 1]).normal(0, 2.5, len(ours.y_true))
        theirs = ours._replace(
            y_score=scipy.special.expit(scipy.special.logit(ours.y_score) + noise)
        )
        found += difference("roc_auc", [ours], [theirs]).low > 0
    assert found >= 18
